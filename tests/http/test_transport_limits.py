"""When a request may leave: slots, the rate limit, and the hold-back after a 429."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from typing import Any
from unittest.mock import AsyncMock

import aiohttp
import attrs
import pytest
from aiohttp import web
from yarl import URL

from avaturn_async.config import RateLimit, RetryPolicy, Timeouts
from avaturn_async.errors import ClientClosedError, RateLimitError, ServerError
from avaturn_async.http.delays import Throttle
from avaturn_async.http.endpoints import ApiRequest
from avaturn_async.http.session import ClientSessions
from avaturn_async.http.transport import Transport
from avaturn_async.http.upload import UploadBody
from avaturn_async.redact import Secret, SecretUrl

from .._aioresponses import Responses
from .kit import BASE, GET, POST, Clock, form, opened, seed, serving

ONCE = RetryPolicy(attempts=1)
UPLOAD = SecretUrl("https://storage.example/photos?sig=1")


async def read_body(_: URL, *, data: UploadBody, **__: Any) -> None:
    """Have the body of an upload sent, in a task of its own as in aiohttp, before the answer."""
    await asyncio.create_task(data.write(AsyncMock(transport=None)))


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let waits take no time."""
    return Clock(monkeypatch)


class Api:
    """An API that notes when it was asked, and answers from a script, then 200."""

    def __init__(self, responses: Responses, clock: Clock) -> None:
        self._responses = responses
        self._clock = clock
        self.times: list[float] = []

    def answers(self, path: str, *answers: dict[str, Any]) -> ApiRequest:
        """Say what one path answers; return the call for it."""
        for answer in answers:
            self._responses.get(BASE + path, callback=self._note, **answer)
        self._responses.get(BASE + path, callback=self._note, repeat=True)
        return attrs.evolve(GET, path=path)

    def _note(self, url: Any, **_: Any) -> None:
        self.times.append(self._clock.now - 1000)


@pytest.fixture
def api(clock: Clock) -> Iterator[Api]:
    """Response requests without a network."""
    with Responses() as responses:
        # The origin is all of an upload url that the session is given.
        responses.post(str(URL(UPLOAD).origin()), callback=read_body, repeat=True)
        yield Api(responses, clock)


async def turns(number: int = 50) -> None:
    """Let whatever is ready go on."""
    for _ in range(number):
        await asyncio.sleep(0)


# The hold-back.


async def test_a_429_holds_back_every_request(api: Api) -> None:
    """Those who come later wait for the end of somebody else's Retry-After."""
    limited = api.answers("/api/v1/a", {"status": 429, "headers": {"Retry-After": "5"}})
    other = api.answers("/api/v1/b")
    async with opened() as transport:
        await transport.request(limited)
        await transport.request(other)
    assert [0, 5, 5] == api.times


async def test_a_429_that_is_not_retried_holds_back_the_others(api: Api) -> None:
    """The caller gets the error, the others are spared the same."""
    limited = api.answers("/api/v1/a", {"status": 429, "headers": {"Retry-After": "5"}})
    async with opened(retry=ONCE) as transport:
        with pytest.raises(RateLimitError):
            await transport.request(limited)
        await transport.request(api.answers("/api/v1/b"))
    assert [0, 5] == api.times


async def test_a_429_beyond_the_cap_holds_back_the_others_for_the_cap(api: Api) -> None:
    """An hour is not waited for by anybody."""
    limited = api.answers("/api/v1/a", {"status": 429, "headers": {"Retry-After": "3600"}})
    async with opened() as transport:
        with pytest.raises(RateLimitError):
            await transport.request(limited)
        await transport.request(api.answers("/api/v1/b"))
    assert [0, 60] == api.times


async def test_a_429_without_retry_after_holds_back_for_a_jittered_delay(api: Api) -> None:
    """The delay is that of the failed attempt."""
    limited = api.answers("/api/v1/a", {"status": 429}, {"status": 429})
    draw = seed()
    first, second = draw.uniform(0, 1), draw.uniform(0, 2)
    async with opened(retry=RetryPolicy(base=1)) as transport:
        await transport.request(limited)
    assert [0, pytest.approx(first), pytest.approx(first + second)] == api.times


async def test_the_longest_of_several_hold_backs_counts(clock: Clock) -> None:
    """A shorter one that comes later does not end it."""
    throttle = Throttle(1, None, clock.sleep)
    throttle.hold(9)
    throttle.hold(2)
    async with throttle:
        pass
    assert [9] == clock.sleeps


async def test_other_statuses_hold_back_nobody(api: Api) -> None:
    """A 503 with Retry-After is that request's own affair."""
    failing = api.answers("/api/v1/a", {"status": 503, "headers": {"Retry-After": "5"}})
    async with opened(retry=ONCE) as transport:
        with pytest.raises(ServerError):
            await transport.request(failing)
        await transport.request(api.answers("/api/v1/b"))
    assert [0, 0] == api.times


async def test_an_upload_is_not_held_back(api: Api, clock: Clock) -> None:
    """Photos go to a store, which is not the API."""
    limited = api.answers("/api/v1/a", {"status": 429, "headers": {"Retry-After": "5"}})
    async with opened(retry=ONCE, rate_limit=RateLimit(1, 10), max_connections=1) as transport:
        with pytest.raises(RateLimitError):
            await transport.request(limited)
        await transport.upload(UPLOAD, form())
    assert [] == clock.waited


async def test_a_429_of_the_upload_holds_back_nobody(api: Api, clock: Clock) -> None:
    """It is waited for by the upload alone."""
    again = SecretUrl("https://again.example/photos")
    shown = "https://again.example"
    api._responses.post(shown, status=429, headers={"Retry-After": "7"})
    api._responses.post(shown, callback=read_body)
    async with opened() as transport:
        await transport.upload(again, form())
        assert [7] == clock.waited
        await transport.request(api.answers("/api/v1/b"))
    assert [7] == clock.waited


async def enter(throttle: Throttle, entered: Callable[[], object]) -> None:
    """Enter a throttle, note it and leave."""
    async with throttle:
        entered()


async def test_a_hold_back_that_begins_during_the_wait_for_a_slot_counts(clock: Clock) -> None:
    """The slot is given back until the hold-back ends."""
    throttle = Throttle(1, None, clock.sleep)
    async with throttle:
        waiting = asyncio.create_task(enter(throttle, lambda: None))
        await turns()
        throttle.hold(5)
    await waiting
    assert [5] == clock.sleeps
    assert 1005 == clock.now


async def test_a_hold_back_that_grows_counts(clock: Clock) -> None:
    """The end of the first one does not let the waiting request enter."""
    throttle = Throttle(1, None, clock.sleep)
    throttle.hold(5)
    waiting = asyncio.create_task(enter(throttle, lambda: None))
    await asyncio.sleep(0)
    throttle.hold(8)
    await waiting
    assert 1013 == clock.now


async def test_held_back_requests_enter_one_by_one_in_order(clock: Clock) -> None:
    """The end of a hold-back wakes one, and each wakes the next."""
    throttle = Throttle(100, None, clock.sleep)
    throttle.hold(5)
    entered: list[int] = []
    tasks = [asyncio.create_task(enter(throttle, partial(entered.append, number))) for number in range(50)]
    counts = []
    while len(entered) < 50:
        await asyncio.sleep(0)
        counts.append(len(entered))
    await asyncio.gather(*tasks)
    assert list(range(50)) == entered
    assert max(after - before for before, after in pairwise(counts)) <= 2
    assert [5] == clock.sleeps


# The rate limit.


async def test_the_rate_limit_spaces_requests_evenly(api: Api) -> None:
    """At most 4 in any 2 seconds is one each half second."""
    call = api.answers("/api/v1/a")
    async with opened(rate_limit=RateLimit(4, 2)) as transport:
        await asyncio.gather(*(transport.request(call) for _ in range(5)))
    assert [0, 0.5, 1, 1.5, 2] == api.times


async def test_what_was_not_used_is_not_saved_up(api: Api, clock: Clock) -> None:
    """After a pause there is no burst."""
    call = api.answers("/api/v1/a")
    async with opened(rate_limit=RateLimit(1, 1)) as transport:
        await transport.request(call)
        clock.now += 10
        await asyncio.gather(*(transport.request(call) for _ in range(3)))
    assert [0, 10, 11, 12] == api.times


async def test_retries_count_against_the_rate_limit(api: Api) -> None:
    """Everything that is sent counts."""
    call = api.answers("/api/v1/a", {"status": 500}, {"status": 500})
    async with opened(rate_limit=RateLimit(1, 3), retry=RetryPolicy(base=0)) as transport:
        await transport.request(call)
    assert [0, 3, 6] == api.times


async def test_thousands_of_waiting_requests_keep_the_rate_and_their_order(clock: Clock) -> None:
    """No second has more than its 10 requests, even if some of those that wait are cancelled."""
    throttle = Throttle(10_000, RateLimit(10), clock.sleep)
    entered: list[tuple[int, float]] = []

    def note(number: int) -> None:
        entered.append((number, clock.now))

    tasks = [asyncio.create_task(enter(throttle, partial(note, number))) for number in range(3000)]
    await turns(3)
    for task in tasks[5::3]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    numbers = [number for number, _ in entered]
    times = [moment for _, moment in entered]
    assert [number for number in range(3000) if number < 5 or number % 3 != 2] == numbers
    assert min(later - earlier for earlier, later in pairwise(times)) >= 0.1 - 1e-9


# Slots.


@asynccontextmanager
async def counting(delay: float = 0.02) -> AsyncIterator[tuple[str, list[int]]]:
    """Run a server that takes its time; yield its url and how many requests it had at once, each time."""
    seen: list[int] = []
    now = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal now
        now += 1
        seen.append(now)
        await asyncio.sleep(delay)
        now -= 1
        return web.json_response({})

    async with serving(answer) as url:
        yield url, seen


async def test_the_wait_for_a_slot_is_in_no_timeout() -> None:
    """100 calls over 10 connections all succeed, though each waits longer than its timeouts."""
    tight = Timeouts(connect=1, total=1)
    async with counting(0.15) as (url, seen), opened(url, max_connections=10, timeouts=tight, retry=ONCE) as transport:
        await asyncio.gather(*(transport.request(GET) for _ in range(100)))
    assert (100, 10) == (len(seen), max(seen))


@pytest.mark.parametrize(
    ("most", "limits", "expected"),
    [
        (5, {"limit": 2}, 2),
        (5, {"limit": 0, "limit_per_host": 3}, 3),
        (5, {"limit": 4, "limit_per_host": 3}, 3),
        (2, {"limit": 0}, 2),
    ],
)
async def test_a_borrowed_sessions_limits_are_kept_in_front_of_it(
    most: int, limits: dict[str, int], expected: int
) -> None:
    """Else its own queue would be counted into the timeouts."""
    async with (
        counting() as (url, seen),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(**limits)) as session,
        opened(url, session=session, max_connections=most) as transport,
    ):
        await asyncio.gather(*(transport.request(GET) for _ in range(12)))
    assert expected == max(seen)


async def test_uploads_have_slots_of_their_own() -> None:
    """A stuck upload holds up no call of the API."""
    stuck = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        if request.path == "/photos":
            await stuck.wait()
        return web.json_response({})

    async with serving(answer) as url, opened(url, max_connections=1) as transport:
        upload = asyncio.create_task(transport.upload(SecretUrl(f"{url}photos"), form()))
        for _ in range(3):
            await transport.request(GET)
        assert not upload.done()
        stuck.set()
        await upload


@pytest.mark.parametrize("step", range(1, 12))
async def test_a_cancelled_request_gives_back_its_slot(step: int) -> None:
    """At whatever step it is cancelled: the next one goes through the only slot."""
    async with counting() as (url, _), opened(url, max_connections=1) as transport:
        await transport.request(GET)
        for call in (GET, POST):
            doomed = [asyncio.create_task(transport.request(call)) for _ in range(3)]
            await turns(step)
            for task in doomed:
                task.cancel()
            results = await asyncio.gather(*doomed, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
        assert 200 == (await transport.request(GET)).status


async def test_a_cancelled_wait_before_a_retry_is_a_cancellation(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither swallowed nor retried, and the slot is free."""
    call = api.answers("/api/v1/a", {"status": 500})
    resting = asyncio.Event()

    async def sleep(*_: object) -> None:
        resting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(ClientSessions, "sleep", sleep)
    async with opened(max_connections=1) as transport:
        task = asyncio.create_task(transport.request(call))
        await resting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 200 == (await transport.request(call)).status
    assert 2 == len(api.times)


async def test_a_cancelled_retry_is_a_cancellation(api: Api) -> None:
    """The second attempt is no exception to the rule."""
    api.answers("/api/v1/a", {"status": 500}, {"exception": asyncio.CancelledError()})
    async with opened() as transport:
        with pytest.raises(asyncio.CancelledError):
            await transport.request(attrs.evolve(GET, path="/api/v1/a"))
    assert 2 == len(api.times)


# Closing ends the waits.


async def failing(transport: Transport, call: ApiRequest) -> str:
    """Return what a call says when the client is closed under it."""
    with pytest.raises(ClientClosedError) as caught:
        await transport.request(call)
    return str(caught.value)


@pytest.mark.parametrize("status", [429, 503], ids=["hold-back", "retry"])
async def test_closing_ends_the_waits_before_sending(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who waits for a hold-back or a retry is told at once, and so are those behind it."""
    resting = asyncio.Event()
    sleep = ClientSessions.sleep

    async def note(sessions: ClientSessions, seconds: float) -> None:
        resting.set()
        await sleep(sessions, seconds)

    monkeypatch.setattr(ClientSessions, "sleep", note)

    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": "50"})

    async with serving(refuse) as url, opened(url) as transport:
        first = asyncio.create_task(failing(transport, GET))
        await resting.wait()
        others = [asyncio.create_task(failing(transport, GET)) for _ in range(3 if status == 429 else 0)]
        await asyncio.sleep(0)
        await transport.aclose()
        messages = await asyncio.gather(first, *others)
    assert {"the client was closed while a request waited to be sent"} == set(messages)


async def test_closing_ends_the_wait_for_an_answer_and_for_a_slot() -> None:
    """The connection is closed, and whoever is next finds the client closed."""
    arrived = asyncio.Event()

    async def hang(request: web.Request) -> web.Response:
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(hang, shutdown_timeout=0) as url:
        transport = Transport(token=Secret("t"), base_url=url, max_connections=1)
        tasks = [asyncio.create_task(failing(transport, GET)) for _ in range(3)]
        await arrived.wait()
        await transport.aclose()
        messages = await asyncio.gather(*tasks)
    assert ["the client was closed before the response was received"] * 3 == messages
