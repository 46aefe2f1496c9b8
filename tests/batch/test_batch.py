"""Many exports at once: what comes out, in which order, and what one failure does to the others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from avaturn_async import (
    AuthenticationError,
    AvaturnClient,
    AvaturnError,
    ClientClosedError,
    JobFailedError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    ServerError,
    WaitTimeoutError,
)
from avaturn_async.batch.export_batch import ExportBatch
from avaturn_async.emulator import Faults, Timing

from .kit import QUICK, Instant, avatars, exported, failed_exports, is_right


def new_batch(exports: Any, ids: Any, **options: Any) -> ExportBatch:
    """Make a batch without a client."""
    defaults = {
        "download_to": None,
        "max_pending": 256,
        "max_downloads": 8,
        "journal": None,
        "timeout": None,
        "on_progress": None,
    }
    return ExportBatch(exports, ids, **{**defaults, **options})


async def test_run_reports_in_the_order_of_the_input(tmp_path: Path) -> None:
    """Every avatar has its outcome, its file and its hash, and nothing else is in the folder."""
    async with avatars(20) as (_, client, ids):
        async with client.exports.batch(ids, download_to=tmp_path / "new" / "models") as batch:
            report = await batch.run()
    assert ids == [outcome.avatar_id for outcome in report.outcomes]
    assert (20, 0) == (len(report.succeeded), len(report.failed))
    assert {50, 95, 99} == set(report.percentiles)
    assert report.percentiles[50] <= report.percentiles[95] <= report.percentiles[99] <= report.elapsed
    assert all(map(is_right, report.outcomes))
    assert {f"{avatar_id}.glb" for avatar_id in ids} == {path.name for path in (tmp_path / "new" / "models").iterdir()}


async def test_outcomes_come_as_they_finish() -> None:
    """Without a folder an outcome has its export alone; there is one for each avatar, and then the end."""
    async with avatars(20) as (_, client, ids):
        async with client.exports.batch(ids) as batch:
            seen = [outcome async for outcome in batch]
            assert [] == [outcome async for outcome in batch]
    assert sorted(ids) == sorted(outcome.avatar_id for outcome in seen)  # type: ignore[type-var]
    assert all(outcome.export is not None and outcome.download is None for outcome in seen)


async def test_a_run_after_some_were_taken_reports_the_rest() -> None:
    """Each outcome is given out once."""
    async with new_batch(Instant(), ids := [uuid4() for _ in range(5)]) as batch:
        first = await anext(batch)
        rest = (await batch.run()).outcomes
    assert set(ids) == {first.avatar_id, *(outcome.avatar_id for outcome in rest)}
    assert 4 == len(rest)


async def test_files_that_are_there_are_replaced_without_a_journal(tmp_path: Path) -> None:
    """An avatar may have a new version; only a journal says that its file is this one's."""
    async with avatars(2) as (_, client, ids):
        (tmp_path / f"{ids[0]}.glb").write_bytes(b"glTF\x02\0\0\0\x0c\0\0\0")
        async with client.exports.batch(ids, download_to=tmp_path) as batch:
            report = await batch.run()
    assert all(map(is_right, report.succeeded))
    assert [1, 1] == [outcome.attempts for outcome in report.outcomes]


async def test_duplicates_are_exported_once() -> None:
    """In whatever spelling an id comes again, it has one outcome."""
    async with avatars(2) as (avaturn, client, ids):
        given = [ids[0], str(ids[0]).upper(), ids[1], str(ids[0])]
        async with client.exports.batch(given, timeout=60) as batch:
            report = await batch.run()
        assert ids == [outcome.avatar_id for outcome in report.outcomes]
        assert set(ids) == set(exported(avaturn))


async def test_one_failure_never_stops_the_others() -> None:
    """Junk, an unknown avatar and good ones each have an outcome of their own."""
    async with avatars(3) as (_, client, ids):
        unknown = uuid4()
        given: list[Any] = ["junk", ids[0], unknown, ids[1], 7, "junk", ids[2]]
        async with client.exports.batch(given) as batch:
            report = await batch.run()
    assert ["junk", ids[0], unknown, ids[1], "7", "junk", ids[2]] == [each.avatar_id for each in report.outcomes]
    assert ids == [outcome.avatar_id for outcome in report.succeeded]
    assert [ValueError, NotFoundError, ValueError, ValueError] == [type(each.error) for each in report.failed]
    assert [0, 1, 0, 0] == [outcome.attempts for outcome in report.failed]


async def test_jobs_that_fail_are_told_once_each() -> None:
    """The emulator knows which."""
    async with avatars(40) as (avaturn, client, ids):
        avaturn.faults = Faults(job_failures=0.5)
        async with client.exports.batch(ids, max_pending=8) as batch:
            report = await batch.run()
        failed = await failed_exports(client, ids)
    assert failed
    assert failed == [outcome.avatar_id for outcome in report.failed]
    assert {JobFailedError} == {type(outcome.error) for outcome in report.failed}
    assert all(outcome.error.__traceback__ is None for outcome in report.failed if outcome.error)


async def test_a_timeout_is_for_each_export() -> None:
    """An export that takes too long fails alone."""
    async with avatars(4) as (avaturn, client, ids):
        async with client.exports.batch(ids[:1]) as batch:
            await batch.run()
        avaturn.timing = Timing(export=3600)
        async with client.exports.batch(ids, timeout=0.2) as batch:
            report = await batch.run()
    assert ids[:1] == [outcome.avatar_id for outcome in report.succeeded]
    assert [WaitTimeoutError] * 3 == [type(outcome.error) for outcome in report.failed]


async def test_a_wrong_token_is_not_tried_again() -> None:
    """After a 401 nothing more is sent; what is left ends with an error of its own that says the same."""
    async with avatars(50) as (avaturn, _, ids):
        async with AvaturnClient("wrong", base_url=avaturn.url, polling=QUICK) as client:
            async with client.exports.batch(ids, max_pending=2) as batch:
                report = await batch.run()
        assert 1 <= len(exported(avaturn)) <= 2
    assert [AuthenticationError] * 50 == [type(outcome.error) for outcome in report.failed]
    assert 50 == len({id(outcome.error) for outcome in report.failed})
    assert sum(outcome.attempts for outcome in report.failed) == len(exported(avaturn))


class Refusing(Instant):
    """An exporter that raises what its table says for the n-th avatar, over and over."""

    def __init__(self, *errors: Exception | None) -> None:
        super().__init__()
        self.errors = errors

    async def create(self, avatar_id: Any) -> Any:
        error = self.errors[len(self.created) % len(self.errors)]
        ready = await super().create(avatar_id)
        if isinstance(error, AvaturnError):
            error.avatar_id = avatar_id
        if error is not None:
            raise error
        return ready


@pytest.mark.parametrize(
    ("errors", "asked"),
    [
        ([PaymentRequiredError("no credit", status_code=402)], 1),
        ([PermissionDeniedError("not yours", status_code=403)], 10),
        ([PermissionDeniedError("not yours", status_code=403), None], 100),
        ([ServerError("down", status_code=500)], 100),
    ],
)
async def test_what_every_avatar_would_meet_is_asked_for_no_more(errors: list[Exception | None], asked: int) -> None:
    """A 402 at once; a 403 may be about avatars of somebody else, until ten of them come in a row."""
    exports = Refusing(*errors)
    async with new_batch(exports, [uuid4() for _ in range(100)], max_pending=1) as batch:
        report = await batch.run()
    assert (100, asked) == (len(report.outcomes), len(exports.created))
    unsent = [outcome.error for outcome in report.failed if not outcome.attempts]
    assert {None} >= {error.avatar_id for error in unsent if isinstance(error, AvaturnError)}
    assert asked == sum(outcome.attempts for outcome in report.outcomes)


async def test_a_defect_is_an_outcome_too() -> None:
    """Whatever an avatar meets, with its traceback, for nobody expects it."""
    async with new_batch(Refusing(ZeroDivisionError("odd"), None), [uuid4() for _ in range(4)]) as batch:
        report = await batch.run()
    assert [ZeroDivisionError] * 2 == [type(outcome.error) for outcome in report.failed]
    assert all(outcome.error.__traceback__ for outcome in report.failed if outcome.error)


async def test_a_client_that_is_closed_ends_all_of_them() -> None:
    """Each with ClientClosedError, and the batch itself well."""
    async with avatars(5, timing=Timing(scan=0, export=3600)) as (_, client, ids):
        async with client.exports.batch(ids, max_pending=2) as batch:
            running = asyncio.create_task(batch.run())
            while not client._context.armed:
                await asyncio.sleep(0)
            await client.aclose()
            report = await running
    assert [ClientClosedError] * 5 == [type(outcome.error) for outcome in report.outcomes]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_pending": 0}, ValueError),
        ({"max_downloads": True}, ValueError),
        ({"max_downloads": 1.5}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": "soon"}, ValueError),
        ({"ids": "0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00"}, TypeError),
        ({"ids": 7}, TypeError),
    ],
)
def test_misuse_is_told_at_once(options: dict[str, Any], error: type[Exception]) -> None:
    """Bad limits, one string, nothing to iterate over."""
    ids = options.pop("ids", [])
    with pytest.raises(error):
        new_batch(Instant(), ids, **options)


async def test_a_batch_is_used_inside_its_block_and_once() -> None:
    """The message says what is wrong."""
    batch = new_batch(Instant(), [])
    with pytest.raises(RuntimeError, match="not entered"):
        await batch.run()
    async with batch:
        report = await batch.run()
    with pytest.raises(RuntimeError, match="left"):
        await anext(batch)
    with pytest.raises(RuntimeError, match="used once"):
        await batch.__aenter__()
    assert ([], {}) == (report.outcomes, report.percentiles)
    assert "<0 of them>" in repr(report)
