"""Waits that polls alone resolve, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import Any
from unittest import mock
from uuid import UUID

import pytest
from tenacity import RetryCallState, wait_fixed

from avaturn_async import (
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    ConnectError,
    JobFailedError,
    NotFoundError,
    NotReadyError,
    PendingExport,
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

from .kit import AVATAR, FAILED, NEVER, PENDING, READY, URL, World, after, now, run, saying

# The schedule.


def test_a_create_that_says_ready_needs_no_poll() -> None:
    """An export of an earlier time is there at once."""

    async def story() -> None:
        world = World(saying(READY))
        export = await world.exports.create(AVATAR)
        assert export.done()
        model = await export
        assert (URL, "create", 0) == (model.url, model.resolved_by, model.polls)
        assert [0] == world.times

    run(story())


def test_polls_follow_the_policy() -> None:
    """They come 1, 2, 4, 8 and 8 seconds apart."""

    async def story() -> None:
        world = World(saying(*[PENDING] * 6, READY))
        model = await (await world.exports.create(str(AVATAR))).wait()
        assert [0, 1, 3, 7, 15, 23, 31] == world.times
        assert ("poll", 6, 31.0) == (model.resolved_by, model.polls, round(model.waited, 3))

    run(story())


def test_a_slow_api_is_not_polled_back_to_back() -> None:
    """A delay counts from the end of a poll."""

    async def story() -> None:
        world = World(saying(PENDING, PENDING, PENDING, READY), latency=10)
        await (await world.exports.create(AVATAR)).wait()
        assert [0, 11, 23, 37] == world.times

    run(story())


def test_many_awaiters_share_one_schedule() -> None:
    """A thousand cost as many polls as one."""

    async def story() -> None:
        world = World(saying(PENDING, PENDING, READY))
        export = await world.exports.create(AVATAR)
        models = await asyncio.gather(*(export.wait() for _ in range(1000)))
        assert {id(models[0])} == {id(model) for model in models}
        assert [0, 1, 3] == world.times

    run(story())


def test_the_schedule_survives_waits() -> None:
    """Another wait continues it instead of beginning anew."""

    async def story() -> None:
        world = World(saying(PENDING))
        export = await world.exports.create(AVATAR)
        for _ in range(2):
            with pytest.raises(WaitTimeoutError):
                await export.wait(timeout=8)
        assert [0, 1, 3, 7, 15] == world.times

    run(story())


def test_a_job_that_nobody_awaited_for_long_is_polled_at_once() -> None:
    """Its first poll is overdue."""

    async def story() -> None:
        world = World(saying(PENDING, READY))
        export = await world.exports.create(AVATAR)
        await asyncio.sleep(100)
        model = await export
        assert ([0, 100], 100.0) == (world.times, round(model.waited, 3))

    run(story())


def test_a_tenacity_strategy_replaces_the_schedule() -> None:
    """It gets the number of requests so far, the job's age and what the last one brought."""
    seen: list[tuple[Any, ...]] = []

    def strategy(state: RetryCallState) -> float:
        assert state.outcome is not None
        outcome = state.outcome.exception() or state.outcome.result()
        seen.append((state.attempt_number, round(state.seconds_since_start or 0, 3), type(outcome).__name__))
        return wait_fixed(3)(state)

    async def story() -> None:
        lost = TransportError("reset")
        world = World(saying(PENDING, PENDING, lost, READY), policy=PollPolicy(wait=strategy))
        await (await world.exports.create(AVATAR))
        assert [0, 3, 6, 9] == world.times
        assert [(1, 0, "RenderStatus"), (2, 3, "RenderStatus"), (3, 6, "TransportError")] == seen

    run(story())


def test_a_strategy_that_raises_ends_the_wait() -> None:
    """Before the first poll and after one; another wait asks it again."""

    def strategy(state: RetryCallState) -> float:
        if state.attempt_number in wrong:
            raise ZeroDivisionError("defect")
        return 1

    async def story() -> None:
        world = World(saying(PENDING), policy=PollPolicy(wait=strategy))
        export = await world.exports.create(AVATAR)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await export
        wrong[:] = [2]
        with pytest.raises(ZeroDivisionError):
            await export
        assert ([0, 1], False) == (world.times, bool(world.context.active))

    wrong = [1]
    run(story())


def test_a_strategy_of_zero_seconds_is_slowed_down() -> None:
    """Polls of one job are always half a second apart."""

    async def story() -> None:
        world = World(saying(PENDING), policy=PollPolicy(wait=lambda _: 0))
        with pytest.raises(WaitTimeoutError):
            await (await world.exports.create(AVATAR)).wait(timeout=2.1)
        assert [0, 0, 0.5, 1, 1.5, 2] == world.times

    run(story())


def test_polls_come_while_other_clocks_are_frozen() -> None:
    """As under freezegun in an application's tests: schedules are on the loop's clock alone."""

    async def story() -> None:
        world = World(saying(PENDING, PENDING, READY))
        model = await (await world.exports.create(AVATAR)).wait(timeout=20)
        assert ([0, 1, 3], 3.0) == (world.times, round(model.waited, 3))

    with mock.patch("time.monotonic", return_value=1.0), mock.patch("time.time", return_value=1.0):
        run(story())


def test_many_jobs_leave_connections_to_others() -> None:
    """Scheduled polls of one client run a few at a time, in turn, and the user's own calls do not queue with them."""

    async def story() -> None:
        running, most = 0, 0

        async def request(call: ApiRequest) -> Response:
            nonlocal running, most
            running, most = running + 1, max(most, running + 1)
            polled.add(call.query.removeprefix("avatar_id="))
            await asyncio.sleep(1)
            running -= 1
            return Response(status=200, body=json.dumps(PENDING).encode(), headers={})

        polled: set[str] = set()
        world = World(saying(PENDING), most_polls=3)
        exports = [await world.exports.create(UUID(int=number)) for number in range(20)]
        world.transport.request = request  # type: ignore[method-assign]
        waits = [asyncio.create_task(export.wait(timeout=9)) for export in exports]
        await asyncio.sleep(1.5)
        assert 3 == running
        await asyncio.wait_for(world.exports.create(AVATAR), 1.1)
        errors = await asyncio.gather(*waits, return_exceptions=True)
        assert 4 == most
        assert {WaitTimeoutError} == {type(error) for error in errors}
        assert 20 + 1 == len(polled)

    run(story())


def test_short_waits_have_their_turn() -> None:
    """A job that is awaited again and again keeps its place among the polls of many others."""

    async def story() -> None:
        polled: list[str] = []

        def answer(call: ApiRequest) -> Any:
            polled.append(call.query.removeprefix("avatar_id="))
            return PENDING

        world = World(answer, most_polls=1)
        others = [await world.exports.create(UUID(int=number)) for number in range(20)]
        waits = [asyncio.create_task(each.wait(timeout=60)) for each in others]
        await asyncio.sleep(0.5)
        export = await world.exports.create(AVATAR)
        polled.clear()
        world.transport.latency = 1
        for _ in range(11):
            with pytest.raises(WaitTimeoutError):
                await export.wait(timeout=5)
        await asyncio.gather(*waits, return_exceptions=True)
        assert str(export.avatar_id) in polled[:30]

    run(story())


# Deadlines.


def test_a_deadline_is_exact_and_says_what_was_seen() -> None:
    """The error has the status, the number of polls and webhooks, the last request id and the token."""

    async def story() -> None:
        world = World(saying(PENDING))
        export = await world.exports.create(AVATAR)
        start = now()
        with pytest.raises(WaitTimeoutError) as caught:
            await export.wait(timeout=5.5)
        assert 5.5 == pytest.approx(now() - start)
        error = caught.value
        assert isinstance(error, TimeoutError)
        assert (5.5, "pending", 0, 2, "request-3") == (
            error.timeout,
            error.status,
            error.webhooks,
            error.polls,
            error.request_id,
        )
        assert (
            f"the export of avatar {AVATAR} did not end within 5.5 s; last seen pending after 0 webhooks and 2 polls; "
            "request id of the last response: request-3" == str(error)
        )
        assert (export.resume_token, AVATAR) == (error.resume_token, error.avatar_id)

    run(story())


def test_a_deadline_tells_the_last_failure() -> None:
    """It may be the reason why nothing was seen."""

    async def story() -> None:
        world = World(saying(PENDING, TransportError("the connection broke")))
        with pytest.raises(WaitTimeoutError, match="last failure: the connection broke"):
            await (await world.exports.create(AVATAR)).wait(timeout=5)

    run(story())


def test_a_result_that_is_there_at_the_deadline_is_returned() -> None:
    """The deadline may fall on the end of the job."""

    async def story() -> None:
        world = World(saying(PENDING, READY))
        export = await world.exports.create(AVATAR)
        assert URL == (await export.wait(timeout=1.0000001)).url

    run(story())


def test_a_deadline_before_the_next_poll_gets_a_poll() -> None:
    """A second before the deadline, or at once."""

    async def story(timeout: float) -> list[float]:
        world = World(saying(PENDING), policy=NEVER)
        with pytest.raises(WaitTimeoutError):
            await (await world.exports.create(AVATAR)).wait(timeout=timeout)
        return world.times

    assert ([0, 9], [0, 0]) == (run(story(10)), run(story(0.3)))


def test_a_job_that_ended_is_seen_before_the_deadline() -> None:
    """Although the next poll of the schedule is far away."""

    async def story() -> None:
        world = World(saying(PENDING, READY), policy=NEVER)
        assert URL == (await (await world.exports.create(AVATAR)).wait(timeout=10)).url

    run(story())


def test_a_zero_timeout_sends_nothing() -> None:
    """It only looks at what is known."""

    async def story() -> None:
        world = World(saying(PENDING))
        export = await world.exports.create(AVATAR)
        for timeout in (0, -1):
            with pytest.raises(WaitTimeoutError):
                await export.wait(timeout=timeout)
        assert [0] == world.times

    run(story())


def spaced(times: list[float], start: float) -> bool:
    """Return whether polls from `start` are half a second apart."""
    polls = [moment for moment in times if moment >= start]
    return all(later - earlier >= 0.499 for earlier, later in itertools.pairwise(polls))


def test_many_deadlines_share_their_polls() -> None:
    """Of 300 awaiters with deadlines of their own each gets a poll in its last second, and there are two a second."""

    async def story() -> None:
        world = World(saying(PENDING), policy=NEVER)
        export = await world.exports.create(AVATAR)
        deadlines = [5 + number / 30 for number in range(300)]
        await asyncio.gather(*(export.wait(timeout=each) for each in deadlines), return_exceptions=True)
        assert spaced(world.times, 1)
        assert all(any(each - 1.001 <= moment <= each for moment in world.times) for each in deadlines)

    run(story())


def test_a_deadline_keeps_the_place_in_line() -> None:
    """A poll that waits for those of other jobs does not fall behind them at each deadline of its awaiters."""

    async def story() -> None:
        polled: list[str] = []

        def answer(call: ApiRequest) -> Any:
            polled.append(call.query.removeprefix("avatar_id="))
            return PENDING

        world = World(answer, policy=NEVER, most_polls=1)
        export, *others = [await world.exports.create(UUID(int=number)) for number in range(30)]
        waits = [export.wait(timeout=2.1 + number / 2) for number in range(40)]
        waits += [each.wait(timeout=30) for each in others]
        waits += [each.wait(timeout=max(2, number - 2)) for number, each in enumerate(others)]  # one each second
        polled.clear()
        world.transport.latency = 1
        await asyncio.gather(*waits, return_exceptions=True)
        assert str(export.avatar_id) in polled[:8]

    run(story())


@pytest.mark.parametrize("timeout", [5, 1.5])
def test_a_deadline_gets_a_poll_before_the_scheduled_ones_of_other_jobs(timeout: float) -> None:
    """A wait that is shorter than their line, whether its own poll is in that line or due in its last second."""

    async def story() -> None:
        world = World(saying(PENDING), latency=0.2, most_polls=1)
        others = [await world.exports.create(UUID(int=number)) for number in range(60)]
        waits = [asyncio.create_task(each.wait(timeout=60)) for each in others]
        await asyncio.sleep(30)
        export = await world.exports.create(AVATAR)
        world.transport.script = lambda call: READY if call.query.removeprefix("avatar_id=") == str(AVATAR) else PENDING
        assert URL == (await export.wait(timeout=timeout)).url
        await asyncio.gather(*waits, return_exceptions=True)

    run(story())


def test_short_waits_do_not_hold_up_a_long_one_for_ever() -> None:
    """Although polls before their deadlines come first, and leave no room for others."""

    async def story() -> None:
        world = World(saying(PENDING), latency=1, most_polls=1)
        long, *shorts = [await world.exports.create(UUID(int=number)) for number in range(11)]

        async def short(export: PendingExport, start: float) -> None:
            await asyncio.sleep(start)
            while not long.done():
                with pytest.raises(WaitTimeoutError):
                    await export.wait(timeout=2)

        waits = [asyncio.create_task(short(export, number / 5)) for number, export in enumerate(shorts)]
        await asyncio.sleep(30)
        world.transport.script = lambda call: (
            READY if call.query.removeprefix("avatar_id=") == str(long.avatar_id) else PENDING
        )
        assert (await long.wait(timeout=300)).waited < 120
        await asyncio.gather(*waits)

    run(story())


def test_waits_for_earlier_jobs_do_not_hold_up_a_long_one_for_ever() -> None:
    """Although more of them begin than polls can run: the first poll of each is due when it is first awaited."""

    async def story() -> None:
        world = World(saying(PENDING), latency=1, most_polls=1)
        token = (await world.exports.create(AVATAR)).resume_token
        long = await world.exports.create(UUID(int=1))
        world.transport.script = lambda call: READY if call.query.endswith(str(long.avatar_id)) else PENDING

        async def resumed(number: int) -> None:
            await asyncio.sleep(number / 2)
            with pytest.raises(WaitTimeoutError):
                await world.exports.resume(token).wait(timeout=20)

        waits = [asyncio.create_task(resumed(number)) for number in range(600)]
        assert (await long.wait(timeout=300)).waited < 150
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    run(story())


def test_a_deadline_gets_a_poll_although_another_runs_at_first() -> None:
    """The running poll may have been answered before the job ended."""

    async def story() -> None:
        token = (await World(saying(PENDING)).exports.create(AVATAR)).resume_token
        world = World(saying(PENDING, READY), policy=NEVER, latency=0.4)
        export = world.exports.resume(token)  # polled at once
        first = asyncio.create_task(export.wait())
        await asyncio.sleep(0.2)
        assert URL == (await export.wait(timeout=10)).url == (await first).url
        assert [0, 9.2] == world.times

    run(story())


def test_short_waits_in_a_loop_share_their_polls() -> None:
    """A wait of 50 ms polls only if the last poll is half a second ago."""

    async def story() -> None:
        world = World(saying(PENDING), policy=NEVER)
        export = await world.exports.create(AVATAR)
        start = now()
        while now() < start + 10:
            with pytest.raises(WaitTimeoutError):
                await export.wait(timeout=0.05)
        assert spaced(world.times, 0.001)
        assert 18 <= world.polls <= 21

    run(story())


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), 1e308, 367 * 86_400], ids=repr)
def test_a_timeout_is_bounded(timeout: float) -> None:
    """Loops overflow on large ones; a wait without a limit is None."""

    async def story() -> None:
        world = World(saying(PENDING))
        export = await world.exports.create(AVATAR)
        with pytest.raises(ValueError, match="timeout must be at most 31622400 seconds, or None"):
            await export.wait(timeout=timeout)
        with pytest.raises(ValueError, match="timeout"):
            World(saying(PENDING), wait_timeout=timeout)
        assert not world.context.active

    run(story())


@pytest.mark.parametrize("timeout", ["5", b"5", True, object(), [5]], ids=["str", "bytes", "bool", "object", "list"])
def test_a_timeout_is_a_number(timeout: Any) -> None:
    """Anything else is a TypeError, also where the outcome is known."""

    async def story() -> None:
        for answer in (PENDING, READY):
            export = await World(saying(answer)).exports.create(AVATAR)
            with pytest.raises(TypeError, match="timeout must be a number of seconds or None"):
                await export.wait(timeout=timeout)

    run(story())


def test_the_client_s_wait_timeout_is_the_default() -> None:
    """For a wait without one, and for await without wait()."""

    async def story() -> None:
        world = World(saying(PENDING), wait_timeout=3)
        with pytest.raises(WaitTimeoutError, match="within 3 s"):
            await (await world.exports.create(AVATAR))

    run(story())


# Awaiters that come and go.


def test_each_awaiter_raises_an_exception_of_its_own() -> None:
    """Awaiters of a failed job do not share an object that gathers tracebacks."""

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


def test_a_failed_job_stays_failed() -> None:
    """Another wait does not poll it, which could start it anew."""

    async def story() -> None:
        world = World(saying(FAILED, READY))
        export = await world.exports.create(AVATAR)
        for _ in range(2):
            with pytest.raises(JobFailedError) as caught:
                await export
            assert "create" == caught.value.resolved_by
        assert [0] == world.times

    run(story())


def test_cancelling_one_awaiter_leaves_the_others() -> None:
    """Another gets the result, on the same schedule."""

    async def story() -> None:
        world = World(saying(PENDING, PENDING, READY), latency=0.2)
        export = await world.exports.create(AVATAR)
        first, second = (asyncio.create_task(export.wait()) for _ in range(2))
        await after(1.1, first.cancel)
        assert URL == (await second).url
        assert first.cancelled()
        assert 3 == len(world.times)

    run(story())


def test_the_last_awaiter_leaves_nothing_behind() -> None:
    """No timer and no poll goes on; `run` checks that no task does."""

    async def story() -> None:
        world = World(saying(PENDING), latency=5)
        export = await world.exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait())
        await after(1.5, waiting.cancel)
        await asyncio.gather(waiting, return_exceptions=True)
        assert not world.context.active
        await asyncio.sleep(100)
        assert not world.context.tasks
        assert 2 == len(world.times)

    run(story())


def test_a_poll_that_ended_with_its_awaiter_is_made_up_for() -> None:
    """The next awaiter does not wait for the poll after it."""

    async def story() -> None:
        world = World(saying(PENDING, READY), latency=1, policy=PollPolicy(first=2, factor=5, cap=500, jitter=0))
        export = await world.exports.create(AVATAR)
        with pytest.raises(WaitTimeoutError):
            await export.wait(timeout=2.5)
        start = now()
        await export
        assert now() - start <= 1.1

    run(story())


def test_asyncio_timeout_around_a_wait() -> None:
    """The TimeoutError is the caller's own."""

    async def story() -> None:
        world = World(saying(PENDING))
        export = await world.exports.create(AVATAR)
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(2):
                await export
        assert not isinstance(caught.value, WaitTimeoutError)
        assert not world.context.active

    run(story())


# Failures.

TRANSIENT: dict[str, Any] = {
    "refused": ConnectError("refused"),
    "reset": TransportError("reset"),
    "slow": RequestTimeoutError("slow"),
    "429": RateLimitError("429", status_code=429),
    "503": ServerError("503", status_code=503),
    "no url": {"status": "ready", "url": None},
}


@pytest.mark.parametrize("trouble", TRANSIENT)
def test_ten_transient_failures_in_a_row_are_tolerated(trouble: str) -> None:
    """A success in between begins the count anew."""

    async def story() -> None:
        failures = [TRANSIENT[trouble]] * 10
        world = World(saying(PENDING, *failures, PENDING, *failures, READY))
        assert URL == (await (await world.exports.create(AVATAR)).wait()).url
        assert 23 == len(world.times)

    run(story())


@pytest.mark.parametrize("trouble", list(TRANSIENT)[:5])
def test_the_eleventh_transient_failure_is_raised(trouble: str) -> None:
    """As it is, with a resume token; another wait goes on by the schedule."""

    async def story() -> None:
        failure = TRANSIENT[trouble]
        world = World(saying(PENDING, *[failure] * 11, READY))
        export = await world.exports.create(AVATAR)
        with pytest.raises(type(failure)) as caught:
            await export
        assert (export.resume_token, AVATAR) == (caught.value.resume_token, caught.value.avatar_id)
        assert caught.value is not failure
        assert not export.done()
        assert URL == (await export).url
        assert world.times[-1] - world.times[-2] >= 8

    run(story())


def test_ready_without_a_url_for_good_is_a_wait_error() -> None:
    """Not an error of a class that is nowhere documented."""

    async def story() -> None:
        world = World(saying({"status": "ready"}))
        export = await world.exports.create(AVATAR)
        with pytest.raises(WaitError, match="reported ready without a url") as caught:
            await export
        assert (WaitError, 11) == (type(caught.value), world.polls)
        with pytest.raises(WaitError) as caught:
            await export.refresh()
        assert WaitError is type(caught.value)

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
def test_errors_that_will_not_pass_end_the_wait_at_once(error: Exception) -> None:
    """They are raised from the first poll that met them."""

    async def story() -> None:
        world = World(saying(PENDING, error))
        with pytest.raises(type(error)):
            await (await world.exports.create(AVATAR))
        assert [0, 1] == world.times

    run(story())


def test_a_404_is_tolerated_while_the_job_is_young() -> None:
    """For ten seconds it may be a delay of the API."""

    async def story() -> None:
        world = World(saying(PENDING, NotFoundError("404", status_code=404)))
        with pytest.raises(NotFoundError):
            await (await world.exports.create(AVATAR))
        assert [0, 1, 3, 7, 15] == world.times

    run(story())


def test_an_unknown_status_counts_as_pending() -> None:
    """The wait goes on, and the status is shown."""

    async def story() -> None:
        world = World(saying({"status": "queued"}, {"status": "baking"}, READY))
        export = await world.exports.create(AVATAR)
        assert "queued" == export.status
        assert URL == (await export).url
        assert RenderStatus.READY is export.status

    run(story())


def test_a_defect_reaches_the_awaiters() -> None:
    """An unexpected exception ends the wait instead of hanging it."""

    async def story() -> None:
        world = World(saying(PENDING, ZeroDivisionError("defect")))
        with pytest.raises(ZeroDivisionError):
            await (await world.exports.create(AVATAR))

    run(story())


def test_a_session_that_cancels_requests_is_a_failure_of_polls() -> None:
    """Such as a borrowed one whose connector was closed: tolerated, then raised."""

    async def story() -> None:
        world = World(saying(PENDING))
        export = await world.exports.create(AVATAR)

        async def request(call: ApiRequest) -> Response:
            calls.append(call)
            raise asyncio.CancelledError

        calls: list[ApiRequest] = []
        world.transport.request = request  # type: ignore[method-assign]
        with pytest.raises(WaitError, match="cancelled by the HTTP session"):
            await export
        assert 11 == len(calls)

    run(story())


def test_a_poll_that_somebody_cancels_is_repeated() -> None:
    """Such as by a test or a framework that cancels all tasks but its own, at whatever step."""

    async def story(step: int) -> None:
        world = World(saying(PENDING, READY), latency=0.1)
        export = await world.exports.create(AVATAR)
        mine = {asyncio.current_task(), waiting := asyncio.create_task(export.wait(timeout=20))}
        while not world.context.tasks:
            await asyncio.sleep(0.05)
        for _ in range(step):
            await asyncio.sleep(0)
        for task in asyncio.all_tasks() - mine:
            task.cancel()
        assert URL == (await waiting).url

    for step in range(4):
        run(story(step))


def test_a_task_factory_that_raises_ends_the_wait() -> None:
    """With its exception; nothing else would."""

    def factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
        if "_poll" in work.__qualname__:
            work.close()
            raise ZeroDivisionError
        return asyncio.Task(work, loop=loop, **options)

    async def story() -> None:
        export = await World(saying(PENDING)).exports.create(AVATAR)
        with pytest.raises(ZeroDivisionError):
            await export.wait(timeout=None)

    run(story(), task_factory=factory)


def test_closing_ends_waits() -> None:
    """Awaiters get ClientClosedError with a resume token, also those that come later."""

    async def story() -> None:
        world = World(saying(PENDING), latency=0.5)
        export = await world.exports.create(AVATAR)
        waits = [asyncio.create_task(export.wait()) for _ in range(3)]
        await after(1.2, world.context.aclose)
        errors = await asyncio.gather(*waits, export.wait(), return_exceptions=True)
        assert [ClientClosedError] * 4 == [type(error) for error in errors]
        assert 4 == len({id(error) for error in errors})
        assert {(export.resume_token, AVATAR)} == {(each.resume_token, each.avatar_id) for each in errors}  # type: ignore[union-attr]
        assert not world.context.active

    run(story())


# Without a wait.


def test_refresh_polls_once() -> None:
    """It returns the status, raises what the poll raises, and sends nothing once the outcome is known."""

    async def story() -> None:
        world = World(saying(PENDING, PENDING, ServerError("500", status_code=500), READY))
        export = await world.exports.create(AVATAR)
        assert "pending" == await export.refresh()
        with pytest.raises(ServerError) as caught:
            await export.refresh()
        assert (export.resume_token, AVATAR) == (caught.value.resume_token, caught.value.avatar_id)
        with pytest.raises(NotReadyError, match="has not ended: last seen pending") as early:
            export.result()
        assert export.resume_token == early.value.resume_token
        assert ["ready", "ready"] == [await export.refresh() for _ in range(2)]
        assert "poll" == export.result().resolved_by
        assert 4 == len(world.times)

    run(story())


def test_a_refresh_resolves_awaiters() -> None:
    """And ends the poll that is on its way."""

    async def story() -> None:
        world = World(saying(PENDING, READY), policy=NEVER)
        export = await world.exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait())
        await after(1, export.refresh)
        assert URL == (await waiting).url
        assert not world.context.active

    run(story())


def test_a_render_needs_an_authenticated_source() -> None:
    """No endpoint reads a render, so a wait without webhooks is refused at once."""

    async def story() -> None:
        world = World(lambda _: {"id": str(AVATAR), "status": "pending"})
        render = await world.renders.create(AVATAR)
        with pytest.raises(WebhooksRequiredError) as caught:
            await render
        assert render.resume_token == caught.value.resume_token
        with pytest.raises(TypeError, match="can't be refreshed"):
            await render.refresh()

    run(story())


def test_a_render_that_is_ready_at_once_needs_no_webhook() -> None:
    """The response to its creation may have the url already."""

    async def story() -> None:
        world = World(lambda _: {"id": str(AVATAR), "status": "ready", "render_url": URL})
        render = await world.renders.create_and_wait(AVATAR, format="png")
        assert (URL, "create", AVATAR) == (render.url, render.resolved_by, render.id)
        assert "sesame" not in repr(render)

    run(story())


def test_pendings_of_another_process_need_no_running_loop() -> None:
    """A resume token and stored ids can be turned into objects anywhere."""

    async def token() -> str:
        return (await World(saying(PENDING)).exports.create(AVATAR)).resume_token

    world = World(saying(READY))
    exports = [world.exports.resume(run(token())), world.exports.resume(run(token()))]
    assert world.renders.pending(AVATAR, AVATAR).status == world.avatars.pending("u", AVATAR).status == "pending"

    async def story() -> None:
        started = time.time()
        models = await asyncio.gather(*exports)
        assert {URL} == {model.url for model in models}
        assert all(model.waited <= time.time() - started + 5 for model in models)

    run(story())
