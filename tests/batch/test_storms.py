"""Many exports while the API fails, limits, resets and lets urls expire: nothing is lost, nothing asked too often."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from uuid import UUID

import pytest

from avaturn_async import BatchProgress, BatchReport, JobFailedError, PollPolicy, RetryPolicy
from avaturn_async.emulator import Emulator, Faults, RequestRecord, Timing
from tests.chaos.kit import SEED, scaled

from .kit import avatars, failed_exports, is_right

ATTEMPTS = 7
RETRY = RetryPolicy(attempts=ATTEMPTS, base=0.05, cap=0.5)
POLLS = PollPolicy(first=0.3, factor=2, cap=2, jitter=0)
STORM = Faults(
    job_failures=0.05,
    server_errors=0.05,
    resets=0.02,
    rate_limited=0.005,
    retry_after=1,
    broken_downloads=0.02,
)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [200, pytest.param(scaled(5_000, 300), marks=pytest.mark.chaos)])
async def test_what_can_succeed_does(count: int, tmp_path: Path) -> None:
    """Each avatar has one outcome: a whole file with the right hash, or the failure of its job."""
    print(f"seed {SEED}")
    timing = Timing(scan=0, export=0.3, jitter=0.3)
    async with avatars(count, seed=SEED, timing=timing, retry=RETRY, polling=POLLS) as (avaturn, client, ids):
        avaturn.requests.clear()
        avaturn.faults = STORM
        expiry = Expiry(avaturn, every=count // 4)
        async with client.exports.batch(ids, download_to=tmp_path, on_progress=expiry) as batch:
            report = await batch.run()
        avaturn.faults = Faults()
        for requests in _by_avatar(avaturn).values():
            assert _exports(requests) <= _allowed(requests)
        check(report, ids, await failed_exports(client, ids), tmp_path)


class Expiry:
    """Lets all urls expire now and then."""

    def __init__(self, avaturn: Emulator, every: int) -> None:
        self.avaturn = avaturn
        self.every = self.next = every

    def __call__(self, now: BatchProgress) -> None:
        if now.done >= self.next:
            self.next = now.done + self.every
            self.avaturn.expire_urls()


def check(report: BatchReport, ids: list[UUID], doomed: list[UUID], folder: Path) -> None:
    """Compare every outcome and every file."""
    assert ids == [outcome.avatar_id for outcome in report.outcomes]
    assert doomed == [outcome.avatar_id for outcome in report.failed], [each.error for each in report.failed]
    assert all(isinstance(outcome.error, JobFailedError) for outcome in report.failed)
    assert all(map(is_right, report.succeeded))
    assert {f"{outcome.avatar_id}.glb" for outcome in report.succeeded} == {path.name for path in folder.iterdir()}
    assert doomed


def _by_avatar(avaturn: Emulator) -> dict[str, list[RequestRecord]]:
    found: dict[str, list[RequestRecord]] = defaultdict(list)
    for request in avaturn.requests:
        if request.operation == "create_export":
            found[request.query.removeprefix("avatar_id=")].append(request)
        elif request.operation == "download_file":
            found[request.path.split("/")[2]].append(request)
    return found


def _exports(requests: list[RequestRecord]) -> int:
    return sum(request.operation == "create_export" for request in requests)


def _allowed(requests: list[RequestRecord]) -> int:
    """Return how often the policies allow to ask for an export, in the time between the first and the last time."""
    times = [request.at for request in requests if request.operation == "create_export"]
    refused = sum(request.operation == "download_file" and request.status == 403 for request in requests)
    span, moment, looks, delay = times[-1] - times[0], 0.0, 0, POLLS.first
    while (moment := moment + delay) <= span + 0.1:
        looks, delay = looks + 1, min(delay * POLLS.factor, POLLS.cap)
    # a create, the looks, and a fresh url for each that was refused, the first and the last sent again on failures
    return ATTEMPTS + looks + ATTEMPTS * refused
