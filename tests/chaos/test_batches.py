"""Batches of thousands while the API fails, limits, resets and forgets."""

from __future__ import annotations

import gc
import hashlib
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from avaturn_async import (
    AvaturnError,
    JobFailedError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    TransportError,
)
from avaturn_async.emulator import Emulator, Faults, Timing
from avaturn_async.models import NewExportResponse, RenderStatus
from avaturn_async.pending.jobs import PendingExport
from avaturn_async.resources import Exports

from .kit import SEED, make_avatars, nothing_left, scaled, wired

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]


async def test_thousands_survive_an_api_that_fails(tmp_path: Path) -> None:
    """Failures, resets, 429 storms and dead urls: what can succeed does, whole; failures are told once each."""
    count = scaled(5_000, 150)
    retry = RetryPolicy(attempts=4, base=0.1, cap=1)
    timing = Timing(export=0.5, jitter=0.5)
    async with nothing_left(), Emulator(seed=SEED, timing=timing, models="small", model_variety=16) as avaturn:
        async with wired(avaturn, retry=retry) as (client, _):
            ids = await make_avatars(client, avaturn, count)
            avaturn.faults = Faults(
                job_failures=0.05,
                server_errors=0.05,
                resets=0.02,
                rate_limited=0.002,
                webhook_loss=0.2,
                broken_downloads=0.05,
            )
            expire = _expire_now_and_then(avaturn)
            async with client.exports.batch(ids, download_to=tmp_path, checksum=True, on_progress=expire) as batch:
                report = await batch.run()
            avaturn.faults = Faults()
            await avaturn.settled()
            requests = Counter(each.query for each in avaturn.requests if each.operation == "create_export")
        assert ids == [outcome.avatar_id for outcome in report.outcomes]
        for outcome in report.succeeded:
            assert outcome.download is not None
            assert hashlib.sha256(outcome.download.path.read_bytes()).hexdigest() == outcome.download.sha256
        odd = [outcome.error for outcome in report.failed if not isinstance(outcome.error, JobFailedError)]
        print(Counter(f"{type(error).__name__}: {error}".split(" http")[0][:80] for error in odd))
        assert all(isinstance(error, ServerError | TransportError | RateLimitError | AvaturnError) for error in odd)
        assert len(odd) <= 0.01 * count + 2
        assert 0.01 * count <= len(report.failed) - len(odd) <= 0.12 * count
        assert len(report.succeeded) == len(list(tmp_path.glob("*.glb")))
        # a create of four attempts, the looks that a second or two of waiting allow, confirmations, and fresh urls
        assert max(requests.values()) <= 4 + 20


def _expire_now_and_then(avaturn: Emulator) -> object:
    calls = 0

    def tell(_: object) -> None:
        nonlocal calls
        calls += 1
        if calls % 30 == 0:
            avaturn.expire_urls()

    return tell


class _Instant(Exports):
    """Exports that are ready at once, without an API."""

    async def create(self, avatar_id: str | UUID) -> PendingExport:
        ready = NewExportResponse(status=RenderStatus.READY, url="https://files.example/x")
        return PendingExport(self._context, UUID(str(avatar_id)), ready)


async def test_iterated_outcomes_are_not_kept() -> None:
    """The peak memory of ten times as many outcomes is at most half as much again."""

    async def peak(client: object, count: int) -> int:
        def source() -> Iterator[UUID]:
            for _ in range(count):
                yield uuid4()

        gc.collect()
        tracemalloc.start()
        exports = _Instant(client._context)  # type: ignore[attr-defined]
        async with exports.batch(source(), max_pending=256) as batch:
            async for _ in batch:
                pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    async with nothing_left(), Emulator(models="small") as avaturn, wired(avaturn) as (client, _):
        few, many = scaled(2_000, 500), scaled(20_000, 5_000)
        await peak(client, few)
        small, large = await peak(client, few), await peak(client, many)
        print(f"{few}: {small} bytes, {many}: {large} bytes")
        assert large <= 1.5 * small
