"""Waits that nothing but polls resolve, in virtual time."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest

from avaturn_async import (
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    JobFailedError,
    NotFoundError,
    NotReadyError,
    PermissionDeniedError,
    PollPolicy,
    RateLimitError,
    RenderStatus,
    RequestTimeoutError,
    ResponseFormatError,
    ServerError,
    TransportError,
    WaitError,
    WaitTimeoutError,
    WebhooksRequiredError,
)
from avaturn_async.http.endpoints import ApiRequest
from avaturn_async.http.responses import Response
from avaturn_async.pending.timetable import NO_TIME

from .world import AVATAR, FAILED, PENDING, READY, URL, World, after, run, saying


def test_create_that_says_ready_is_over_at_once() -> None:
    """An export that was made before needs no look."""

    async def story() -> None:
        world = World(saying(READY))
        export = await world.exports.create(AVATAR)
        assert export.done()
        model = await export
        assert (URL, "create", 0) == (model.url, model.resolved_by, model.polls)
        assert [0] == world.times

    run(story())


def test_looks_follow_the_policy() -> None:
    """Looks come 1, 2, 4, 8 and 8 seconds apart."""

    async def story() -> None:
        world = World(saying(*[PENDING] * 6, READY))
        model = await (await world.exports.create(str(AVATAR))).wait()
        assert [0, 1, 3, 7, 15, 23, 31] == world.times
        assert ("poll", 6, 31.0) == (model.resolved_by, model.polls, round(model.waited, 3))

    run(story())


def test_a_slow_api_is_not_asked_back_to_back() -> None:
    """The delay counts from the end of a look that took long."""

    async def story() -> None:
        world = World(saying(PENDING, PENDING, PENDING, READY), latency=10)
        await (await world.exports.create(AVATAR)).wait()
        assert [0, 11, 23, 37] == world.times

    run(story())


def test_many_awaiters_share_one_schedule() -> None:
    """A thousand awaiters cost as many looks as one."""

    async def story() -> None:
        world = World(saying(PENDING, PENDING, READY))
        export = await world.exports.create(AVATAR)
        models = await asyncio.gather(*(export.wait() for _ in range(1000)))
        assert {id(models[0])} == {id(model) for model in models}
        assert [0, 1, 3] == world.times

    run(story())


def test_each_awaiter_raises_an_exception_of_its_own() -> None:
    """Awaiters of a failed job don't share an exception object."""

    async def story() -> None:
        world = World(saying(PENDING, FAILED))
        export = await world.exports.create(AVATAR)
        errors = await asyncio.gather(*(export.wait() for _ in range(3)), return_exceptions=True)
        assert [JobFailedError] * 3 == [type(error) for error in errors]
        assert 3 == len({id(error) for error in errors})
        assert {export.resume_token} == {error.resume_token for error in errors}  # type: ignore[union-attr]
        with pytest.raises(JobFailedError):
            export.result()
        assert [0, 1] == world.times

    run(story())


def test_a_failed_job_is_not_polled_away() -> None:
    """A confirmed failure ends this wait and the next ones without another request."""

    async def story() -> None:
        world = World(saying(FAILED, READY))
        export = await world.exports.create(AVATAR)
        for _ in range(2):
            with pytest.raises(JobFailedError) as caught:
                await export
            assert "create" == caught.value.resolved_by
        assert [0] == world.times

    run(story())


def test_deadline_is_exact_and_says_what_was_seen() -> None:
    """A wait ends at its deadline, with the status, the reads and the resume token."""

    async def story() -> None:
        world = World(saying(PENDING))
        export = await world.exports.create(AVATAR)
        start = asyncio.get_running_loop().time()
        with pytest.raises(WaitTimeoutError) as caught:
            await export.wait(timeout=5.5)
        assert 5.5 == pytest.approx(asyncio.get_running_loop().time() - start)
        assert isinstance(caught.value, TimeoutError)
        assert (5.5, "pending") == (caught.value.timeout, caught.value.status)
        assert str(AVATAR) in str(caught.value)
        assert "read 2 times" in str(caught.value)
        assert export.resume_token == caught.value.resume_token

    run(story())


def test_a_result_that_is_there_at_the_deadline_is_returned() -> None:
    """A deadline that falls on the end of the job does not lose the result."""

    async def story() -> None:
        world = World(saying(PENDING, READY))
        export = await world.exports.create(AVATAR)
        assert URL == (await export.wait(timeout=1.0000001)).url

    run(story())


def test_a_deadline_before_the_next_look_gets_one_look() -> None:
    """A short wait looks at once, and the schedule stays where it was."""

    async def story() -> None:
        world = World(saying(PENDING), latency=0.01)
        export = await world.exports.create(AVATAR)
        with pytest.raises(WaitTimeoutError):
            await export.wait(timeout=0.5)
        assert [0, 0.01] == world.times
        with pytest.raises(WaitTimeoutError):
            await export.wait(timeout=0.7)
        assert [0, 0.01, 1.01] == world.times

    run(story())


def test_a_deadline_between_looks_gets_its_look_shortly_before() -> None:
    """A job that ended meanwhile is not missed because the next look comes after the deadline."""

    async def story() -> None:
        world = World(saying(PENDING, READY), policy=PollPolicy(first=15, cap=15))
        export = await world.exports.create(AVATAR)
        assert URL == (await export.wait(timeout=10)).url
        assert [0, 9] == world.times

    run(story())


def test_a_zero_timeout_only_looks_at_what_is_known() -> None:
    """timeout=0 sends nothing."""

    async def story() -> None:
        world = World(saying(PENDING))
        export = await world.exports.create(AVATAR)
        with pytest.raises(WaitTimeoutError):
            await export.wait(timeout=0)
        assert [0] == world.times

    run(story())


def test_the_schedule_survives_waits() -> None:
    """Waiting again goes on with the schedule instead of starting anew."""

    async def story() -> None:
        world = World(saying(PENDING))
        export = await world.exports.create(AVATAR)
        for _ in range(2):
            with pytest.raises(WaitTimeoutError):
                await export.wait(timeout=8)
        assert [0, 1, 3, 7, 15] == world.times

    run(story())


def test_cancelling_one_awaiter_leaves_the_others() -> None:
    """Another awaiter gets the result, on the same schedule."""

    async def story() -> None:
        world = World(saying(PENDING, PENDING, READY), latency=0.2)
        export = await world.exports.create(AVATAR)
        first, second = (asyncio.create_task(export.wait()) for _ in range(2))
        await after(1.1, first.cancel)
        assert URL == (await second).url
        assert first.cancelled()
        assert 3 == len(world.times)

    run(story())


def test_a_client_learns_how_long_exports_take() -> None:
    """After a few that took 20 s, the next ones are looked at when those were over, and no more often than needed."""

    async def story() -> None:
        begun: dict[str, float] = {}

        def say(call: ApiRequest) -> dict[str, object]:
            now = asyncio.get_running_loop().time()
            began = begun.setdefault(call.query["avatar_id"], now)
            return READY if now - began >= 20 else PENDING

        world = World(say, policy=PollPolicy(first=1, factor=2, cap=20, jitter=0))
        polls, waited = [], []
        for number in range(12):
            model = await (await world.exports.create(UUID(int=number))).wait()
            polls.append(model.polls)
            waited.append(model.waited)
        assert [5] * 5 == polls[:5]
        assert max(polls[7:]) <= 3
        assert all(20 <= each <= 23.1 for each in waited[7:])

    run(story())


def test_an_outage_is_neither_fatal_nor_learned() -> None:
    """A client that learned to look often backs off while looks fail, and takes no outage for a job's duration."""

    async def story() -> None:
        begun: dict[str, float] = {}
        down_until = 0.0

        def say(call: ApiRequest) -> Any:
            now = asyncio.get_running_loop().time()
            began = begun.setdefault(call.query["avatar_id"], now)
            if now < down_until:
                return ConnectError("down", method="POST", path="/")
            return READY if now - began >= 3 else PENDING

        world = World(say, policy=PollPolicy(jitter=0))
        for number in range(10):
            await (await world.exports.create(UUID(int=number))).wait()
        learned = world.context.pace.delay(0, kind="export")
        exports = [await world.exports.create(UUID(int=number)) for number in range(100, 120)]
        down_until = asyncio.get_running_loop().time() + 60
        await asyncio.gather(*exports)
        assert learned == world.context.pace.delay(0, kind="export")

    run(story())


def test_a_refresh_teaches_nothing() -> None:
    """Nobody looked meanwhile, whether or not somebody waited once."""

    async def story() -> None:
        world = World(saying(PENDING))
        for number in range(10):
            world.transport.say = saying(PENDING)
            export = await world.exports.create(UUID(int=number))
            if number % 2:
                waiting = asyncio.ensure_future(export.wait())
                await asyncio.sleep(0.1)
                export.fail(ConnectError("down", method="POST", path="/"))
                await asyncio.wait((waiting,))
            await asyncio.sleep(500)
            world.transport.say = saying(READY)
            await export.refresh()
        assert 1 == world.context.pace.delay(0, kind="export")

    run(story())


def test_the_look_that_is_owed_is_made_soon() -> None:
    """Where a wait ends amid a look and another begins at once, that one does not wait for the look after."""

    async def story() -> None:
        world = World(saying(PENDING, READY), latency=1, policy=PollPolicy(first=2, factor=5, cap=500, jitter=0))
        export = await world.exports.create(AVATAR)
        with pytest.raises(WaitTimeoutError):
            await export.wait(timeout=2.5)
        started = asyncio.get_running_loop().time()
        await export
        assert asyncio.get_running_loop().time() - started <= 1.1

    run(story())


@pytest.mark.parametrize("disturbed", ["awaited late", "left and awaited again", "resumed"])
def test_nothing_is_learned_from_waits_that_were_not_whole(disturbed: str) -> None:
    """Where nobody looked for a while, the end that is seen says nothing about the job."""

    async def story() -> None:
        world = World(saying(PENDING))
        for number in range(9):
            world.transport.say = saying(PENDING)
            export = await world.exports.create(UUID(int=number))
            if disturbed == "resumed":
                await asyncio.sleep(3)
                export = world.exports.resume(export.resume_token)
            elif disturbed == "left and awaited again":
                with pytest.raises(WaitTimeoutError):
                    await export.wait(timeout=2)
            await asyncio.sleep(500)
            world.transport.say = saying(READY)
            await export
        assert 1 == world.context.pace.delay(0, kind="export")

    run(story())


def test_many_waits_leave_connections_to_others() -> None:
    """A client's waits look a few at a time, each in its turn, and a call of the user's does not queue with them."""

    async def story() -> None:
        under_way, most = 0, 0

        async def request(call: ApiRequest) -> Response:
            nonlocal under_way, most
            under_way, most = under_way + 1, max(most, under_way + 1)
            await asyncio.sleep(1)
            under_way -= 1
            return Response(status=200, body=json.dumps(PENDING).encode(), headers={})

        world = World(saying(PENDING), most_polls=3)
        exports = [await world.exports.create(UUID(int=number)) for number in range(20)]
        world.transport.request = request  # type: ignore[method-assign]
        waits = [asyncio.create_task(export.wait(timeout=9)) for export in exports]
        await asyncio.sleep(1.5)
        assert 3 == under_way
        await asyncio.wait_for(world.exports.create(AVATAR), 1.1)
        errors = await asyncio.gather(*waits, return_exceptions=True)
        assert 4 == most
        assert {WaitTimeoutError} == {type(error) for error in errors}
        assert all(export._polls for export in exports)

    run(story())


def test_the_last_awaiter_leaves_nothing_behind() -> None:
    """No timer, read or place is left when nobody waits."""

    async def story() -> None:
        world = World(saying(PENDING), latency=5)
        export = await world.exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait())
        await after(1.5, waiting.cancel)
        await asyncio.gather(waiting, return_exceptions=True)
        assert not world.context.armed
        assert (NO_TIME, None, []) == (export.due, export._reading, export._waiters)
        await asyncio.sleep(100)
        assert 2 == len(world.times)

    run(story())


def test_a_look_that_never_began_leaves_nothing_behind() -> None:
    """Its task is cancelled before its first step, so that nothing of it can run any more."""

    async def story() -> None:
        world = World(saying(PENDING))
        export = await world.exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait())
        await asyncio.sleep(0)
        export._look("poll")
        export._disarm()
        waiting.cancel()
        assert 1 == len(world.context._tasks)
        await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.sleep(0)
        assert (1, set()) == (len(world.times), world.context._tasks)

    run(story())


def test_asyncio_timeout_around_wait_behaves() -> None:
    """A timeout of the caller's is a TimeoutError of the caller's, not ours."""

    async def story() -> None:
        world = World(saying(PENDING))
        export = await world.exports.create(AVATAR)
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(2):
                await export
        assert not isinstance(caught.value, WaitTimeoutError)
        assert not world.context.armed

    run(story())


TRANSIENT = [
    ConnectError("refused"),
    TransportError("reset"),
    RequestTimeoutError("slow"),
    RateLimitError("429", status_code=429),
    ServerError("503", status_code=503),
    {"status": "ready", "url": None},
]


@pytest.mark.parametrize("trouble", TRANSIENT, ids=lambda trouble: getattr(trouble, "args", ("no url",))[0])
def test_ten_transient_failures_in_a_row_are_tolerated(trouble: object) -> None:
    """Ten failures and then a success resolve; a success in between starts the count anew."""

    async def story() -> None:
        world = World(saying(PENDING, *[trouble] * 10, PENDING, *[trouble] * 10, READY))  # type: ignore[arg-type]
        assert URL == (await (await world.exports.create(AVATAR)).wait()).url
        assert 23 == len(world.times)

    run(story())


@pytest.mark.parametrize("trouble", TRANSIENT[:5], ids=lambda trouble: trouble.args[0])
def test_the_eleventh_transient_failure_is_raised(trouble: Exception) -> None:
    """It is raised as it is, with a resume token, and another wait may try again."""

    async def story() -> None:
        world = World(saying(PENDING, *[trouble] * 11, READY))
        export = await world.exports.create(AVATAR)
        with pytest.raises(type(trouble)) as caught:
            await export
        assert export.resume_token == caught.value.resume_token
        assert caught.value is not trouble
        assert not export.done()
        assert URL == (await export).url

    run(story())


def test_ready_without_a_url_for_good_is_a_wait_error() -> None:
    """An API that says ready without a url again and again ends the wait with a sentence that says so."""

    async def story() -> None:
        world = World(saying({"status": "ready"}))
        with pytest.raises(WaitError, match="without a url"):
            await (await world.exports.create(AVATAR))
        assert 11 == world.reads

    run(story())


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("401", status_code=401),
        PermissionDeniedError("403", status_code=403),
        BadRequestError("400", status_code=400),
        ResponseFormatError("nonsense"),
    ],
    ids=lambda error: error.args[0],
)
def test_errors_that_time_does_not_mend_end_the_wait_at_once(error: Exception) -> None:
    """They are raised from the first look that met them."""

    async def story() -> None:
        world = World(saying(PENDING, error))
        with pytest.raises(type(error)):
            await (await world.exports.create(AVATAR))
        assert [0, 1] == world.times

    run(story())


def test_a_404_is_tolerated_while_the_job_is_young() -> None:
    """For ten seconds it may be the API's own delay; after that it is an answer."""

    async def story() -> None:
        world = World(saying(PENDING, NotFoundError("404", status_code=404)))
        with pytest.raises(NotFoundError):
            await (await world.exports.create(AVATAR))
        assert [0, 1, 3, 7, 15] == world.times

    run(story())


def test_an_unknown_status_counts_as_pending() -> None:
    """A member that the contract does not name keeps the wait going, and is shown."""

    async def story() -> None:
        world = World(saying({"status": "queued"}, {"status": "baking"}, READY))
        export = await world.exports.create(AVATAR)
        assert "queued" == export.status
        assert URL == (await export).url
        assert RenderStatus.READY is export.status

    run(story())


def test_a_defect_reaches_whoever_waits() -> None:
    """An exception that is not ours ends the wait instead of hanging it."""

    async def story() -> None:
        world = World(saying(PENDING, ZeroDivisionError("defect")))
        with pytest.raises(ZeroDivisionError):
            await (await world.exports.create(AVATAR))

    run(story())


def test_refresh_reads_once() -> None:
    """It returns the status, raises what the read raises, and reads no more once the end is known."""

    async def story() -> None:
        world = World(saying(PENDING, PENDING, ServerError("500", status_code=500), READY))
        export = await world.exports.create(AVATAR)
        assert "pending" == await export.refresh()
        with pytest.raises(ServerError) as caught:
            await export.refresh()
        assert export.resume_token == caught.value.resume_token
        with pytest.raises(NotReadyError, match="not over"):
            export.result()
        assert ["ready", "ready"] == [await export.refresh() for _ in range(2)]
        assert "poll" == export.result().resolved_by
        assert 4 == len(world.times)

    run(story())


def test_closing_ends_waits() -> None:
    """Awaiters get ClientClosedError with a resume token, and the read in flight ends."""

    async def story() -> None:
        world = World(saying(PENDING), latency=0.5)
        export = await world.exports.create(AVATAR)
        waits = [asyncio.create_task(export.wait()) for _ in range(3)]
        await after(1.2, world.context.aclose)
        errors = await asyncio.gather(*waits, return_exceptions=True)
        assert [ClientClosedError] * 3 == [type(error) for error in errors]
        assert 3 == len({id(error) for error in errors})
        assert export.resume_token == errors[0].resume_token  # type: ignore[union-attr]
        assert not world.context.armed

    run(story())


def test_nan_is_no_timeout() -> None:
    """A timeout that is not a number is refused with a sentence."""

    async def story() -> None:
        world = World(saying(PENDING))
        with pytest.raises(ValueError, match="timeout"):
            await (await world.exports.create(AVATAR)).wait(timeout=float("nan"))

    run(story())


def test_the_client_s_wait_timeout_is_the_default() -> None:
    """wait() without a timeout takes the client's."""

    async def story() -> None:
        world = World(saying(PENDING), wait_timeout=3)
        with pytest.raises(WaitTimeoutError, match="after 3 s"):
            await (await world.exports.create(AVATAR))

    run(story())


def test_resume_goes_on_elsewhere() -> None:
    """A token is enough for another client; it looks at once and counts from the creation."""

    async def story() -> None:
        world = World(saying(PENDING))
        token = (await world.exports.create(AVATAR)).resume_token
        assert {"v", "kind", "base_url", "created", "avatar_id"} == set(json.loads(token))
        other = World(saying(READY))
        await asyncio.sleep(60)
        model = await other.exports.resume(token)
        assert (URL, "poll", 60.0) == (model.url, model.resolved_by, round(model.waited, 2))
        assert [0] == other.times

    run(story())


def test_resume_refuses_what_is_not_its_own() -> None:
    """Another base_url, another kind, and garbage are told apart."""

    async def story() -> None:
        world = World(saying(PENDING))
        token = (await world.exports.create(AVATAR)).resume_token
        other = World(saying(PENDING))
        other.transport.base_url = "https://other.example"
        with pytest.raises(ConfigurationError, match=r"other\.example"):
            other.exports.resume(token)
        with pytest.raises(ValueError, match="export"):
            world.renders.resume(token)
        for garbage in ("", "{}", "[1]", "nonsense", "[" * 100_000, '{"v":1,"created":true}'):
            with pytest.raises(ValueError, match="token"):
                world.exports.resume(garbage)
        with pytest.raises(ValueError, match="avatar_id"):
            world.exports.resume(json.dumps({**json.loads(token), "avatar_id": "nonsense"}))

    run(story())


def test_a_render_needs_an_authenticated_source() -> None:
    """Nothing reads a render, so a wait without webhooks is refused at once."""

    async def story() -> None:
        world = World(lambda _: {"id": str(AVATAR), "status": "pending"})
        render = await world.renders.create(AVATAR)
        with pytest.raises(WebhooksRequiredError) as caught:
            await render
        assert render.resume_token == caught.value.resume_token
        with pytest.raises(TypeError):
            await render.refresh()

    run(story())


def test_a_render_that_is_ready_at_once_needs_no_webhook() -> None:
    """An answer with a url ends it."""

    async def story() -> None:
        world = World(lambda _: {"id": str(AVATAR), "status": "ready", "render_url": URL})
        render = await world.renders.create_and_wait(AVATAR, format="png")
        assert (URL, "create", AVATAR) == (render.url, render.resolved_by, render.id)
        assert "sesame" not in repr(render)

    run(story())


def listing(*statuses: str) -> list[object]:
    """Return the lists that GET avatars says, one for each status; "" lists nothing."""
    return [[{"id": str(AVATAR), "status": status}] if status else [] for status in statuses]


def test_a_pending_avatar_is_read_from_the_list() -> None:
    """A scan is looked for at once, tolerated when not listed, and ends with its item."""

    async def story() -> None:
        world = World(saying(*listing("", "pending", "processing", "ready")))  # type: ignore[arg-type]
        item = await world.avatars.pending("u", AVATAR)
        assert (AVATAR, "ready") == (item.id, item.status)
        assert [0, 2, 6, 14] == world.times
        assert {"include_not_ready": "true"} == world.transport.requests[0].query

    run(story())


def test_a_failed_scan_fails() -> None:
    """A scan that the list calls failed is a JobFailedError."""

    async def story() -> None:
        world = World(saying(*listing("failed")))  # type: ignore[arg-type]
        with pytest.raises(JobFailedError):
            await world.avatars.pending("u", AVATAR)

    run(story())
