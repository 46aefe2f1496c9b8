"""Progress, the report and its rows."""

from __future__ import annotations

import asyncio
import csv
import io
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from avaturn_async import BatchOutcome, BatchProgress, BatchReport, Download, DownloadError
from avaturn_async.batch.items import ProgressMeter, percentiles

from .kit import FakeExports, avatars, new_batch, run_batch, run_virtual, uuids


async def test_the_numbers_add_up(tmp_path: Path) -> None:
    """At the end, what is done and what failed is the total: every item counts, repeated ones as well."""
    told: list[BatchProgress] = []
    async with avatars(12) as (_, client, ids):
        given = [*ids, ids[0], "junk"]
        async with client.exports.batch(given, download_to=tmp_path, on_progress=told.append) as batch:
            report = await batch.run()
    last = told[-1]
    assert (14, 13, 1, 0) == (last.total, last.done, last.failed, last.pending)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == last.bytes
    assert (0.0, 14) == (last.eta, len(report.outcomes))
    assert last.rate is not None
    assert all(earlier.done <= later.done for earlier, later in pairwise(told))


async def test_what_an_earlier_run_did_counts_as_done_but_not_for_the_rate(tmp_path: Path) -> None:
    """The eta of a resumed batch would be far too good."""
    told: list[BatchProgress] = []
    async with avatars(3) as (_, client, ids):
        await run_batch(client, ids, tmp_path)
        await run_batch(client, ids, tmp_path, on_progress=told.append)
    assert (3, 3, None, 0.0) == (told[-1].total, told[-1].done, told[-1].rate, told[-1].eta)


def test_progress_is_reported_ten_times_a_second() -> None:
    """And at the beginning and the end; the total is known once the input has ended."""
    told: list[BatchProgress] = []

    async def story() -> None:
        async with new_batch(FakeExports(seconds=0.1), uuids(1_000), max_pending=10, on_progress=told.append) as batch:
            await batch.run()

    run_virtual(story())
    assert 100 <= len(told) <= 103
    assert [None, 1_000] == sorted({now.total for now in told}, key=str, reverse=True)
    assert {None, 0.0} >= {now.eta for now in told}
    assert 1_000 == told[-1].done


class Unlucky(Exception):
    """An error of the caller's."""


@pytest.mark.parametrize("failing_call", [1, 2])
async def test_what_the_callback_raises_ends_the_batch(failing_call: int) -> None:
    """At the first call as at the last."""
    calls = 0

    def tell(_: BatchProgress) -> None:
        nonlocal calls
        calls += 1
        if calls == failing_call:
            raise Unlucky("enough")

    async with new_batch(FakeExports(), [uuid4()], on_progress=tell) as batch:
        with pytest.raises(Unlucky, match="enough"):
            await batch.run()


class Meter:
    """A meter in virtual time, and exports that it counts."""

    def __init__(self, max_pending: int) -> None:
        self.meter = ProgressMeter(max_pending)

    def start(self, count: int) -> None:
        for _ in range(count):
            self.meter.export_started()

    async def end(self, count: int, *, at: float) -> None:
        await _sleep_until(at)
        for _ in range(count):
            self.meter.export_ended()
            self.meter.item_ended(ok=True)

    async def told(self, total: int | None, *, at: float) -> tuple[float | None, float | None]:
        await _sleep_until(at)
        now = self.meter.snapshot(total)
        return now.rate, now.eta


async def _sleep_until(moment: float) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(moment - loop.time())


def test_there_is_no_rate_before_the_first_end_and_no_eta_before_a_second_round() -> None:
    """Both would be guesses."""

    async def story() -> None:
        meter = Meter(max_pending=100)
        assert (None, None) == await meter.told(1_000, at=0)
        meter.start(100)
        assert (None, None) == await meter.told(1_000, at=5)
        await meter.end(100, at=10)
        assert (10.0, None) == await meter.told(1_000, at=10)
        assert (5.0, 180.0) == await meter.told(1_000, at=20)
        assert (5.0, None) == await meter.told(None, at=20)

    run_virtual(story())


def test_the_rate_is_that_of_whole_waves() -> None:
    """A wave that has just ended promises nothing: a hundred in ten seconds remain ten a second."""

    async def story() -> None:
        meter = Meter(max_pending=100)
        for wave in range(1, 8):
            meter.start(100)
            await meter.end(100, at=10 * wave)
            assert pytest.approx(10.0) == (await meter.told(10_000, at=10 * wave))[0]
        rate, eta = await meter.told(10_000, at=75)
        assert rate == pytest.approx(200 / 25)
        assert eta == pytest.approx(9_300 / (200 / 25))

    run_virtual(story())


def test_a_standstill_shows() -> None:
    """The rate falls while nothing ends."""

    async def story() -> None:
        meter = Meter(max_pending=2)
        meter.start(4)
        await meter.end(4, at=4)
        assert (0.5, 12.0) == await meter.told(10, at=8)
        assert (0.04, 150.0) == await meter.told(10, at=100)

    run_virtual(story())


async def test_the_end_needs_no_rate() -> None:
    """And a length that was too small gives no negative eta."""
    meter = ProgressMeter(1)
    meter.item_ended(ok=False)
    assert (0.0, 0.0) == (meter.snapshot(1).eta, meter.snapshot(0).eta)


def test_percentiles_are_of_the_nearest_rank() -> None:
    """And of nothing, none."""
    assert {50: 50, 95: 95, 99: 99} == percentiles(range(1, 101))
    assert {50: 7, 95: 7, 99: 7} == percentiles([7])
    assert {} == percentiles([])


def _export(avatar_id: UUID) -> Any:
    class Fake:
        resolved_by, waited, polls = "webhook", 1.23456, 2

    return Fake()


def test_rows_are_flat_and_all_have_the_same_columns() -> None:
    """They go into a CSV file as they are; no signed link is in them."""
    one, two = uuids(2)
    url = "https://files.example/m.glb?signature=sesame"
    report = BatchReport(
        outcomes=[
            BatchOutcome(avatar_id=one, export=_export(one), download=Download(Path("m/a.glb"), 12, "ab")),
            BatchOutcome(avatar_id=two, error=DownloadError(f"{url} was refused"), attempts=2),
            BatchOutcome(avatar_id="junk", error=ValueError("no id"), attempts=0),
        ],
        elapsed=1.0,
        percentiles={},
    )
    rows = report.rows()
    assert [
        {
            "avatar_id": str(one),
            "ok": True,
            "attempts": 1,
            "resolved_by": "webhook",
            "waited": 1.235,
            "polls": 2,
            "file": str(Path("m/a.glb")),
            "size": 12,
            "sha256": "ab",
            "error": None,
            "message": None,
        }
    ] == rows[:1]
    assert ("DownloadError", "https://files.example/m.glb was refused") == (rows[1]["error"], rows[1]["message"])
    assert ("junk", "ValueError", 0) == (rows[2]["avatar_id"], rows[2]["error"], rows[2]["attempts"])
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    assert 4 == len(file.getvalue().splitlines())
    assert "sesame" not in file.getvalue()


async def test_rows_of_a_run() -> None:
    """In input order, with the results of the exports."""
    async with avatars(3) as (_, client, ids):
        async with client.exports.batch([*ids, "junk"]) as batch:
            rows = (await batch.run()).rows()
    assert [*map(str, ids), "junk"] == [row["avatar_id"] for row in rows]
    assert [True, True, True, False] == [row["ok"] for row in rows]
    assert {"create", "poll"} >= {row["resolved_by"] for row in rows[:3]}
