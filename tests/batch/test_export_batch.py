"""Outcomes of a batch: which, in which order, and what one failure does to the others."""

from __future__ import annotations

import asyncio
import typing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from avaturn_async import (
    AuthenticationError,
    AvaturnClient,
    AvaturnError,
    BatchOutcome,
    BatchProgress,
    BatchReport,
    ClientClosedError,
    ExportBatch,
    JobFailedError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RenderStatus,
    ServerError,
    WaitTimeoutError,
)
from avaturn_async.emulator import Faults, Timing
from avaturn_async.resources import Exports

from .kit import QUICK, FakeExports, avatars, downloaded, exported, is_right, new_batch, run_virtual, turns, uuids


async def test_run_reports_in_input_order(tmp_path: Path) -> None:
    """Every item has an outcome and a complete file, and nothing else is in the folder."""
    async with avatars(20) as (_, client, ids):
        async with client.exports.batch(ids, download_to=tmp_path / "new" / "models") as batch:
            report = await batch.run()
    assert ids == [outcome.avatar_id for outcome in report.outcomes]
    assert (20, 0) == (len(report.succeeded), len(report.failed))
    assert {50, 95, 99} == set(report.percentiles)
    assert report.percentiles[50] <= report.percentiles[95] <= report.percentiles[99] <= report.elapsed
    assert all(map(is_right, report.outcomes))
    assert {f"{avatar_id}.glb" for avatar_id in ids} == {path.name for path in (tmp_path / "new" / "models").iterdir()}


async def test_outcomes_are_iterated_as_they_finish() -> None:
    """Without a folder an outcome has its export alone; after the last one the iteration stays at its end."""
    async with avatars(20) as (_, client, ids):
        async with client.exports.batch(ids) as batch:
            seen = [outcome async for outcome in batch]
            assert [] == [outcome async for outcome in batch]
    assert sorted(ids) == sorted(outcome.avatar_id for outcome in seen)  # type: ignore[type-var]
    assert all(outcome.export is not None and outcome.download is None for outcome in seen)


async def test_run_reports_the_outcomes_that_were_not_taken_before() -> None:
    """Each outcome is handed out once."""
    async with new_batch(FakeExports(), ids := list(uuids(5))) as batch:
        first = await anext(batch)
        rest = (await batch.run()).outcomes
    assert set(ids) == {first.avatar_id, *(outcome.avatar_id for outcome in rest)}
    assert 4 == len(rest)


async def test_a_file_is_replaced_without_a_journal(tmp_path: Path) -> None:
    """The avatar may have a new version."""
    async with avatars(2) as (_, client, ids):
        (tmp_path / f"{ids[0]}.glb").write_bytes(b"glTF\x02\0\0\0\x0c\0\0\0")
        async with client.exports.batch(ids, download_to=tmp_path) as batch:
            report = await batch.run()
    assert all(map(is_right, report.succeeded))
    assert [1, 1] == [outcome.attempts for outcome in report.outcomes]


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


async def test_failed_jobs_are_reported() -> None:
    """They are those that failed at the API, and their errors keep no frames: a report may hold thousands."""
    async with avatars(40) as (avaturn, client, ids):
        avaturn.faults = Faults(job_failures=0.5)
        async with client.exports.batch(ids, max_pending=8) as batch:
            report = await batch.run()
        states = [(await client.exports.create(avatar_id)).status for avatar_id in ids]
    failed = [avatar_id for avatar_id, state in zip(ids, states, strict=True) if state is RenderStatus.FAILED]
    assert failed
    assert failed == [outcome.avatar_id for outcome in report.failed]
    assert {JobFailedError} == {type(outcome.error) for outcome in report.failed}
    assert all(outcome.error.__traceback__ is None for outcome in report.failed if outcome.error)


async def test_the_timeout_is_for_each_export() -> None:
    """An export that takes too long fails alone."""
    async with avatars(4) as (avaturn, client, ids):
        async with client.exports.batch(ids[:1]) as batch:
            await batch.run()
        avaturn.timing = Timing(export=3600)
        async with client.exports.batch(ids, timeout=0.2) as batch:
            report = await batch.run()
    assert ids[:1] == [outcome.avatar_id for outcome in report.succeeded]
    assert [WaitTimeoutError] * 3 == [type(outcome.error) for outcome in report.failed]


async def test_the_timeout_defaults_to_that_of_the_client() -> None:
    """As it does for ``wait()``."""
    async with avatars(1, timing=Timing(scan=0, export=3600), wait_timeout=0.05) as (_, client, ids):
        async with client.exports.batch(ids) as batch:
            (outcome,) = (await batch.run()).outcomes
    assert isinstance(outcome.error, WaitTimeoutError)


async def test_a_wrong_token_is_not_tried_again() -> None:
    """After a 401 nothing more is sent; the remaining items fail with the same error, each with an own object."""
    async with avatars(50) as (avaturn, _, ids):
        async with AvaturnClient("wrong", base_url=avaturn.url, polling=QUICK) as client:
            async with client.exports.batch(ids, max_pending=2) as batch:
                report = await batch.run()
        requests = len(exported(avaturn.requests))
    assert 1 <= requests <= 2
    assert [AuthenticationError] * 50 == [type(outcome.error) for outcome in report.failed]
    assert 50 == len({id(outcome.error) for outcome in report.failed})
    assert sum(outcome.attempts for outcome in report.failed) == requests


@pytest.mark.parametrize(
    ("errors", "requests"),
    [
        pytest.param([PaymentRequiredError("no credit", status_code=402)], 1, id="402"),
        pytest.param([PermissionDeniedError("not yours", status_code=403)], 10, id="403"),
        pytest.param([PermissionDeniedError("not yours", status_code=403), None], 100, id="some-403"),
        pytest.param([ServerError("down", status_code=500)], 100, id="500"),
    ],
)
async def test_nothing_is_sent_that_would_be_refused(errors: list[Exception | None], requests: int) -> None:
    """A 402 concerns every avatar; a 403 may concern avatars of another project, until ten come in a row."""
    for error in errors:
        if isinstance(error, AvaturnError):
            error.avatar_id = uuid4()
    exports = FakeExports(errors=tuple(errors))
    async with new_batch(exports, uuids(100), max_pending=1) as batch:
        report = await batch.run()
    assert (100, requests) == (len(report.outcomes), len(exports.created))
    unsent = [outcome.error for outcome in report.failed if not outcome.attempts]
    assert {None} >= {error.avatar_id for error in unsent if isinstance(error, AvaturnError)}
    assert requests == sum(outcome.attempts for outcome in report.outcomes)


async def test_an_unexpected_error_is_an_outcome_too() -> None:
    """It keeps its traceback."""
    async with new_batch(FakeExports(errors=(ZeroDivisionError("odd"), None)), uuids(4)) as batch:
        report = await batch.run()
    assert [ZeroDivisionError] * 2 == [type(outcome.error) for outcome in report.failed]
    assert all(outcome.error.__traceback__ for outcome in report.failed if outcome.error)


async def test_an_item_that_cancels_itself_is_an_outcome_too() -> None:
    """A CancelledError that the batch did not ask for fails its item, and those that share it, and no other."""

    class Cancelling(FakeExports):
        async def create(self, avatar_id: Any) -> Any:
            pending = await super().create(avatar_id)
            if avatar_id == ids[0]:
                raise asyncio.CancelledError
            return pending

    ids = list(uuids(3))
    async with new_batch(Cancelling(), [ids[0], *ids]) as batch:
        report = await batch.run()
    assert [False, False, True, True] == [outcome.ok for outcome in report.outcomes]
    assert all("cancelled, but not by the batch" in str(outcome.error) for outcome in report.failed)


async def test_closing_the_client_fails_all_items() -> None:
    """Each with ClientClosedError; the batch itself ends normally."""
    async with avatars(5, timing=Timing(scan=0, export=3600)) as (avaturn, client, ids):
        async with client.exports.batch(ids, max_pending=2) as batch:
            running = asyncio.create_task(batch.run())
            while len(exported(avaturn.requests)) < 2:
                await asyncio.sleep(0)
            await client.aclose()
            report = await running
    assert [ClientClosedError] * 5 == [type(outcome.error) for outcome in report.outcomes]


class TestNames:
    """``name=``: the path of each file below the folder."""

    async def test_files_go_where_the_names_say(self, tmp_path: Path) -> None:
        """Folders in between are created."""
        async with avatars(3) as (_, client, ids):
            async with client.exports.batch(
                ids, download_to=tmp_path, name=lambda avatar: f"a/{avatar}/m.glb"
            ) as batch:
                report = await batch.run()
        assert all(map(is_right, report.outcomes))
        assert [tmp_path / "a" / str(avatar) / "m.glb" for avatar in ids] == [
            each.download.path for each in report.outcomes if each.download
        ]

    @pytest.mark.parametrize(
        "name",
        [
            "../x.glb",
            "/x.glb",
            "a/../../x.glb",
            "a\\..\\x.glb",
            "C:x.glb",
            "",
            ".",
            "nul\0.glb",
            "\ud800.glb",
            "x" * 300,
        ],
        ids=lambda name: ascii(name)[:20],
    )
    async def test_a_name_that_leaves_the_folder_fails_its_item(self, name: str, tmp_path: Path) -> None:
        """With a ValueError, before anything is sent for it; the others go on."""
        async with avatars(2) as (avaturn, client, ids):
            names = {ids[0]: name, ids[1]: "good.glb"}
            async with client.exports.batch(ids, download_to=tmp_path / "in", name=names.__getitem__) as batch:
                report = await batch.run()
            assert {ids[1]} == set(exported(avaturn.requests))
        assert [(ids[0], ValueError)] == [(each.avatar_id, type(each.error)) for each in report.failed]
        assert [tmp_path / "in"] == list(tmp_path.iterdir())
        assert [tmp_path / "in" / "good.glb"] == list((tmp_path / "in").iterdir())

    async def test_what_name_raises_or_returns_fails_its_item(self, tmp_path: Path) -> None:
        """A KeyError of the caller's, or something else than text."""
        ids = list(uuids(3))
        names: dict[UUID, Any] = {ids[0]: 7, ids[2]: "c.glb"}
        async with new_batch(FakeExports(), ids, download_to=tmp_path, name=names.__getitem__) as batch:
            report = await batch.run()
        assert [TypeError, KeyError, type(None)] == [type(each.error) for each in report.outcomes]

    def test_avatars_under_way_can_not_share_a_name(self, tmp_path: Path) -> None:
        """One would overwrite the other; the second fails and names the first."""

        async def story() -> None:
            ids = list(uuids(2))
            exports = FakeExports(seconds=1)
            async with new_batch(exports, ids, download_to=tmp_path, name=lambda _: "same.glb") as batch:
                report = await batch.run()
            assert [True, False] == [each.ok for each in report.outcomes]
            assert str(ids[0]) in str(report.outcomes[1].error)
            assert [("same.glb", 1)] == exports.fetched

        run_virtual(story())


class TestRepeatedIds:
    """Items of the same avatar share its export while it is under way; afterwards it is processed again."""

    async def test_items_under_way_share_one_export_and_one_download(self, tmp_path: Path) -> None:
        """In whatever spelling an id comes again, each item has an outcome."""
        async with avatars(2, timing=Timing(scan=0, export=0.2)) as (avaturn, client, ids):
            given = [ids[0], str(ids[0]).upper(), ids[1], str(ids[0])]
            async with client.exports.batch(given, download_to=tmp_path) as batch:
                report = await batch.run()
            assert sorted(ids) == sorted(downloaded(avaturn.requests))
        assert [ids[0], ids[0], ids[1], ids[0]] == [outcome.avatar_id for outcome in report.outcomes]
        assert all(map(is_right, report.outcomes))
        assert {1} == {outcome.attempts for outcome in report.outcomes}

    async def test_items_that_share_a_failure_have_errors_of_their_own(self) -> None:
        """Raising one must not change the other."""
        error = ServerError("down", status_code=500)
        async with new_batch(exports := FakeExports(errors=(error,)), [*uuids(1)] * 3) as batch:
            report = await batch.run()
        assert ["down"] * 3 == [str(outcome.error) for outcome in report.failed]
        assert 3 == len({id(outcome.error) for outcome in report.failed})
        assert 1 == len(exports.created)

    async def test_an_id_that_comes_after_its_outcome_is_processed_again(self) -> None:
        """A queue may offer it again, after a failure for example."""
        (avatar,) = uuids(1)
        exports = FakeExports(errors=(ServerError("down", status_code=500), None))
        offers: asyncio.Queue[UUID | None] = asyncio.Queue()
        offers.put_nowait(avatar)

        async def source() -> Any:
            while (offered := await offers.get()) is not None:
                yield offered

        async with new_batch(exports, source()) as batch:
            assert not (await anext(batch)).ok
            offers.put_nowait(avatar)
            offers.put_nowait(avatar)
            offers.put_nowait(None)
            assert [True, True] == [outcome.ok async for outcome in batch]
        assert [avatar] * 2 == exports.created

    async def test_an_outcome_that_was_not_taken_is_shared(self) -> None:
        """Until it is handed out, its item is under way."""
        first, again = uuids(2)
        offers: asyncio.Queue[UUID] = asyncio.Queue()
        for avatar in (first, again):
            offers.put_nowait(avatar)

        async def source() -> Any:
            while True:
                yield await offers.get()

        exports = FakeExports()
        async with new_batch(exports, source()) as batch:
            assert first == (await anext(batch)).avatar_id
            await turns()  # the second outcome is there
            offers.put_nowait(again)
            await turns()
            assert [again] * 2 == [(await anext(batch)).avatar_id, (await anext(batch)).avatar_id]
        assert [first, again] == exports.created

    async def test_outcomes_of_an_earlier_round_do_not_end_the_next(self) -> None:
        """The second item of the first round is taken while the avatar is processed again; a third item shares that."""
        (avatar,) = uuids(1)
        offers: asyncio.Queue[UUID] = asyncio.Queue()
        for _ in range(2):
            offers.put_nowait(avatar)

        async def source() -> Any:
            while True:
                yield await offers.get()

        exports = FakeExports(seconds=0.01)
        async with new_batch(exports, source()) as batch:
            await anext(batch)
            offers.put_nowait(avatar)
            while len(exports.created) < 2:
                await asyncio.sleep(0)
            await anext(batch)
            offers.put_nowait(avatar)
            await anext(batch)
            await anext(batch)
        assert [avatar] * 2 == exports.created


async def name_slowly(avatar_id: UUID) -> str:
    """Name a file, as no batch can use it."""
    return str(avatar_id)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        pytest.param({"max_pending": 0}, ValueError, id="no-pending"),
        pytest.param({"max_downloads": True}, ValueError, id="bool"),
        pytest.param({"max_downloads": 1.5}, ValueError, id="fraction"),
        pytest.param({"timeout": float("nan")}, ValueError, id="nan"),
        pytest.param({"timeout": "soon"}, ValueError, id="text"),
        pytest.param({"timeout": True}, ValueError, id="bool-timeout"),
        pytest.param({"ids": "0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00"}, TypeError, id="one-id"),
        pytest.param({"ids": 7}, TypeError, id="not-iterable"),
        pytest.param({"name": "x.glb", "download_to": "models"}, TypeError, id="name-not-callable"),
        pytest.param({"name": name_slowly, "download_to": "models"}, TypeError, id="name-coroutine"),
        pytest.param({"name": str}, ValueError, id="name-without-files"),
        pytest.param({"on_progress": name_slowly}, TypeError, id="progress-coroutine"),
        pytest.param({"on_progress": "bar"}, TypeError, id="progress-not-callable"),
    ],
)
def test_misuse_is_refused_at_once(options: dict[str, Any], error: type[Exception]) -> None:
    """With the name of what was wrong."""
    ids = options.pop("ids", [])
    with pytest.raises(error, match=r"max_|timeout|avatar_ids|iterable|name|on_progress"):
        new_batch(FakeExports(), ids, **options)


@pytest.mark.parametrize(
    "target",
    [Exports.batch, ExportBatch.__init__, ExportBatch.run, BatchOutcome, BatchReport, BatchReport.rows, BatchProgress],
    ids=lambda target: target.__qualname__,
)
def test_type_hints_can_be_resolved(target: Any) -> None:
    """Dependency injection and serializers ask for them."""
    assert typing.get_type_hints(target)


async def test_a_batch_is_used_inside_its_block_and_once() -> None:
    """The message says what is wrong."""
    batch = new_batch(FakeExports(), [])
    with pytest.raises(RuntimeError, match="not entered"):
        await batch.run()
    async with batch:
        report = await batch.run()
    with pytest.raises(RuntimeError, match="left"):
        await anext(batch)
    with pytest.raises(RuntimeError, match="used once"):
        await batch.__aenter__()
    assert ([], {}) == (report.outcomes, report.percentiles)
    assert "<0 outcomes>" in repr(report)
