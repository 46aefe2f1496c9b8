"""Many exports while the API fails, limits, resets and lets urls expire: nothing is lost, nothing sent too often."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from avaturn_async import BatchProgress, BatchReport, JobFailedError, PollPolicy, RenderStatus, RetryPolicy
from avaturn_async.emulator import Emulator, Faults, RequestRecord, Timing
from tests.chaos.kit import SEED, scaled

from .kit import Recorder, avatars, is_right, is_whole

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
@pytest.mark.slow
@pytest.mark.parametrize("count", [200, pytest.param(scaled(5_000, 300), marks=pytest.mark.chaos)], ids=["200", "more"])
async def test_what_can_succeed_does(count: int, tmp_path: Path) -> None:
    """Each avatar has one outcome: a complete file with the right hash, or the failure of its job."""
    print(f"seed {SEED}")
    timing = Timing(scan=0, export=0.3, jitter=0.3)
    async with avatars(count, seed=SEED, timing=timing, retry=RETRY, polling=POLLS) as (avaturn, client, ids):
        recorder = Recorder(avaturn)
        avaturn.faults = STORM
        expiry = Expiry(avaturn, recorder, every=count // 4)
        async with client.exports.batch(ids, download_to=tmp_path, checksum=True, on_progress=expiry) as batch:
            report = await batch.run()
        avaturn.faults = Faults()
        by_avatar = _by_avatar(recorder.requests.copy())
        states = [(await client.exports.create(avatar_id)).status for avatar_id in ids]
    doomed = [avatar_id for avatar_id, state in zip(ids, states, strict=True) if state is RenderStatus.FAILED]
    check(report, ids, doomed, tmp_path)
    for requests in by_avatar.values():
        assert _exports(requests) <= _allowed(requests)


class Expiry:
    """Lets all urls expire now and then, and collects requests before the emulator forgets them."""

    def __init__(self, avaturn: Emulator, recorder: Recorder, every: int) -> None:
        self.avaturn = avaturn
        self.recorder = recorder
        self.every = self.next = every

    def __call__(self, now: BatchProgress) -> None:
        assert self.recorder.requests is not None
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


def _by_avatar(requests: list[RequestRecord]) -> dict[str, list[RequestRecord]]:
    found: dict[str, list[RequestRecord]] = defaultdict(list)
    for request in requests:
        if request.operation == "create_export":
            found[request.query.removeprefix("avatar_id=")].append(request)
        elif request.operation == "download_file":
            found[request.path.split("/")[2]].append(request)
    return found


def _exports(requests: list[RequestRecord]) -> int:
    return sum(request.operation == "create_export" for request in requests)


def _allowed(requests: list[RequestRecord]) -> int:
    """Return how many requests for an export the policies allow, in the time between the first and the last time."""
    times = [request.at for request in requests if request.operation == "create_export"]
    refused = sum(request.operation == "download_file" and request.status == 403 for request in requests)
    span, moment, polls, delay = times[-1] - times[0], 0.0, 0, POLLS.first
    while (moment := moment + delay) <= span + 0.1:
        polls, delay = polls + 1, min(delay * POLLS.factor, POLLS.cap)
    # a create, the polls, and a fresh url for each refused one; the first and the last are repeated on failures
    return ATTEMPTS + polls + ATTEMPTS * refused


@pytest.mark.slow
async def test_ids_that_are_offered_again_after_a_failure_succeed(tmp_path: Path) -> None:
    """As a queue does: 200 ids, of whose requests a third fails, until all are done."""
    print(f"seed {SEED}")
    async with avatars(200, seed=SEED, retry=RetryPolicy(attempts=1)) as (avaturn, client, ids):
        avaturn.faults = Faults(server_errors=0.35)
        waiting: asyncio.Queue[UUID | None] = asyncio.Queue()
        for avatar_id in ids:
            waiting.put_nowait(avatar_id)

        async def offers() -> AsyncIterator[UUID]:
            while (avatar_id := await waiting.get()) is not None:
                yield avatar_id

        done: list[UUID] = []
        failures = 0
        async with client.exports.batch(offers(), download_to=tmp_path) as batch:
            async for outcome in batch:
                assert isinstance(outcome.avatar_id, UUID)
                if outcome.ok:
                    done.append(outcome.avatar_id)
                else:
                    failures += 1
                    waiting.put_nowait(outcome.avatar_id)
                if len(done) == len(ids):
                    waiting.put_nowait(None)
    assert sorted(ids) == sorted(done)
    assert failures
    assert all(is_whole(tmp_path / f"{avatar_id}.glb") for avatar_id in ids)
