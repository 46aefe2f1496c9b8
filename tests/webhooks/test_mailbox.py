"""The mailbox in memory: the contract, expiry, bounds, threads and memory."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import tracemalloc
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import attrs
import pytest

from avaturn_async import ClientClosedError, Delivery, Event, ExportReadyWebhook, MemoryMailbox
from avaturn_async.testing.mailbox_contract import MailboxContract
from avaturn_async.webhooks import key_of

from .samples import avatar, avatar_event, check_session_key, export_event, render_event


class TestContract(MailboxContract):
    """The contract, in memory."""

    @pytest.fixture
    def mailbox(self) -> MemoryMailbox:
        """Open a mailbox."""
        return MemoryMailbox()


@attrs.define
class Clock:
    """A clock that stands still until it is set."""

    now: float = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
async def complaints() -> list[dict[str, Any]]:
    """Collect what the loop would log about callbacks and futures."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    return found


@pytest.fixture
def traced() -> Iterator[None]:
    """Trace memory."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


async def kept(mailbox: MemoryMailbox, *events: Event) -> list[bool]:
    """Return for each event whether one is stored under its key."""
    return [await mailbox.position(key_of(event)) != "" for event in events]


async def stored(mailbox: MemoryMailbox, event: Event) -> Delivery:
    """Return the delivery that is stored under the key of `event`."""
    return await mailbox.wait(key_of(event), "")


async def wait_for_next(mailbox: MemoryMailbox, event: Event) -> asyncio.Future[Delivery]:
    """Wait for the delivery after the stored one."""
    return mailbox.wait(key_of(event), await mailbox.position(key_of(event)))


def exports(count: int) -> list[ExportReadyWebhook]:
    """Return events of so many exports."""
    return [export_event(avatar(number)) for number in range(count)]


# Waiting.


async def called_back(waiting: asyncio.Future[Delivery]) -> Delivery:
    """Get the result in a callback."""
    heard: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
    waiting.add_done_callback(lambda done: heard.set_result(done.result()))
    return await heard


async def wait_then_ask(waiting: asyncio.Future[Delivery]) -> Delivery:
    """Ask for the result after the end."""
    await asyncio.wait([waiting])
    return waiting.result()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    "ask",
    [asyncio.ensure_future, asyncio.shield, lambda it: asyncio.wait_for(it, 60), called_back, wait_then_ask],
    ids=["ensure_future", "shield", "wait_for", "callback", "wait"],
)
async def test_ways_to_wait(ask: Callable[[Any], Awaitable[Delivery]], before: bool) -> None:
    """A wait is a future, whether the event arrived before or later."""
    mailbox, event = MemoryMailbox(), export_event()
    if before:
        await mailbox.deliver(event)
    waiting = ask(mailbox.wait(key_of(event), ""))
    if not before:
        await mailbox.deliver(event)
    assert Delivery(await mailbox.position(key_of(event)), event) == await waiting


async def test_event_for_a_cancelled_wait_is_kept(complaints: list[Any]) -> None:
    """A delivery right after the cancellation is stored."""
    mailbox, (first, second) = MemoryMailbox(), exports(2)
    waits = [mailbox.wait(key_of(event), "") for event in (first, first, second)]
    for each in waits:
        each.cancel()
    await mailbox.deliver(first)
    await mailbox.deliver(second)
    assert [True] * 3 == [each.cancelled() for each in waits]
    assert [True, True] == await kept(mailbox, first, second)
    await asyncio.sleep(0)
    assert [] == complaints


async def test_delivery_and_cancellation_at_once(complaints: list[Any]) -> None:
    """A wait that is cancelled between a delivery in another thread and its wake-up stays cancelled."""
    mailbox = MemoryMailbox()
    waiting = mailbox.wait(key_of(export_event()), "")
    delivering = threading.Thread(target=lambda: asyncio.run(mailbox.deliver(export_event())))
    delivering.start()
    delivering.join()
    waiting.cancel()
    await asyncio.sleep(0)
    assert waiting.cancelled()
    assert [] == complaints


async def test_cancellation_by_a_signal_handler() -> None:
    """A wait may be cancelled in the midst of another call of the same thread, as `asyncio.run` does on Ctrl-C."""
    waits: list[asyncio.Future[Delivery]] = []

    def clock() -> float:
        for each in waits:
            each.cancel()
        return 0.0

    mailbox = MemoryMailbox(clock=clock)
    waits.append(mailbox.wait("export:x", ""))
    await mailbox.deliver(export_event())
    assert waits[0].cancelled()
    assert [True] == await kept(mailbox, export_event())


async def test_some_of_many_waits_are_cancelled() -> None:
    """The rest of the waits for the key are resolved."""
    mailbox = MemoryMailbox()
    waits = [mailbox.wait(key_of(export_event()), "") for _ in range(5)]
    for left in waits[::2]:
        left.cancel()
    await asyncio.sleep(0)
    await mailbox.deliver(export_event())
    assert [export_event()] * 2 == [(await each).event for each in waits[1::2]]


async def test_abandoned_wait_is_not_reported(complaints: list[Any]) -> None:
    """A future that nobody awaits when the mailbox closes is no unretrieved exception."""
    mailbox = MemoryMailbox()
    waiting = mailbox.wait("export:x", "")
    await mailbox.aclose()
    await asyncio.sleep(0)
    assert isinstance(waiting.exception(), ClientClosedError)
    del waiting
    gc.collect()
    assert [] == complaints


async def test_many_threads_deliver() -> None:
    """Concurrent deliveries lose nothing."""
    mailbox, events = MemoryMailbox(), exports(400)
    waiting = [mailbox.wait(key_of(event), "") for event in events]
    start = threading.Barrier(4)

    def work(mine: list[ExportReadyWebhook]) -> None:
        start.wait()
        for event in mine:
            asyncio.run(mailbox.deliver(event))

    await asyncio.gather(*(asyncio.to_thread(work, events[number::4]) for number in range(4)))
    found = await asyncio.gather(*waiting)
    assert events == [delivery.event for delivery in found]
    assert 400 == len({delivery.id for delivery in found})


async def test_wait_on_a_closed_loop_is_skipped() -> None:
    """A wait whose loop is gone disturbs neither a delivery nor closing."""
    mailbox, events = MemoryMailbox(), exports(2)

    def leave(event: ExportReadyWebhook) -> Any:
        async def start() -> Any:
            return mailbox.wait(key_of(event), "")

        loop = asyncio.new_event_loop()
        left = loop.run_until_complete(start())
        loop.close()
        return left

    left = [await asyncio.to_thread(leave, event) for event in events]
    waiting = mailbox.wait(key_of(events[0]), "")
    await mailbox.deliver(events[0])
    assert events[0] == (await waiting).event
    await mailbox.aclose()
    assert [False, False] == [each.done() for each in left]


async def test_closing_from_another_thread_ends_waits() -> None:
    """Waits are ended on their own loop."""
    mailbox = MemoryMailbox()
    waiting = mailbox.wait(key_of(export_event()), "")
    await asyncio.to_thread(lambda: asyncio.run(mailbox.aclose()))
    with pytest.raises(ClientClosedError):
        await waiting


# Expiry.


async def test_events_expire() -> None:
    """An event is kept for its ttl and no longer; then even a render's can be stored anew."""
    clock = Clock()
    mailbox = MemoryMailbox(ttl=900, clock=clock)
    await mailbox.deliver(render_event())
    clock.now = 899
    assert [True] == await kept(mailbox, render_event())
    clock.now = 900
    assert [False] == await kept(mailbox, render_event())
    again = render_event(status="failed", render_url=None)
    await mailbox.deliver(again)
    assert again == (await stored(mailbox, again)).event


async def test_each_delivery_renews_the_ttl() -> None:
    """An event that was replaced expires by the last delivery."""
    clock = Clock()
    mailbox = MemoryMailbox(ttl=10, clock=clock)
    for clock.now in (0.0, 9.0, 18.0):
        await mailbox.deliver(export_event())
    clock.now = 27
    assert [True] == await kept(mailbox, export_event())
    clock.now = 28
    assert [False] == await kept(mailbox, export_event())


@pytest.mark.parametrize("authenticated", [True, False])
async def test_expired_events_leave_memory(authenticated: bool) -> None:
    """The next call frees them."""
    clock = Clock()
    mailbox, event = MemoryMailbox(ttl=10, clock=clock), export_event(extra={})
    await mailbox.deliver(event, authenticated=authenticated)
    gone = weakref.ref((await stored(mailbox, event)).event)
    del event
    clock.now = 10
    assert "" == await mailbox.position("export:x")
    gc.collect()
    assert gone() is None


# Bounds.


async def test_oldest_is_evicted() -> None:
    """Beyond the bound the oldest event goes; one that was replaced counts as new."""
    mailbox, (first, second, third) = MemoryMailbox(max_rows=2), exports(3)
    for event in (first, second, first, third):
        await mailbox.deliver(event)
    assert [True, False, True] == await kept(mailbox, first, second, third)


async def test_exports_and_avatars_are_evicted_before_renders() -> None:
    """The event of a render, which can't be polled, outlives the others."""
    mailbox = MemoryMailbox(max_rows=2)
    renders = [render_event(avatar(number)) for number in range(3)]
    await mailbox.deliver(renders[0])
    await mailbox.deliver(export_event())
    await mailbox.deliver(avatar_event())
    assert [True, False, True] == await kept(mailbox, renders[0], export_event(), avatar_event())
    await mailbox.deliver(renders[1])
    await mailbox.deliver(renders[2])
    assert [False, False, True, True] == await kept(mailbox, avatar_event(), *renders)


@pytest.mark.parametrize(
    "make",
    [
        lambda number: export_event(avatar(number), export_url=f"{number:060000}"),
        lambda number: export_event(avatar(number), user_id=f"{number:060000}"),
        lambda number: export_event(avatar(number), extra={"deep": [[] for _ in range(1_000)]}),
        lambda number: export_event(avatar(number), extra={f"{number}-{each}": each for each in range(500)}),
        lambda number: render_event(avatar(number), render_url=f"{number:060000}"),
    ],
    ids=["export_url", "user_id", "lists", "names", "render_url"],
)
async def test_bytes_are_bounded(make: Callable[[int], Event], traced: None) -> None:
    """Large events take no more memory than the bound, wherever their bytes are."""
    mailbox, bound = MemoryMailbox(max_bytes=500_000), 500_000
    for number in range(40):
        await mailbox.deliver(make(number))
    gc.collect()
    assert bound / 2 < tracemalloc.get_traced_memory()[0] < bound * 1.1
    assert [False, True] == await kept(mailbox, make(0), make(39))


async def test_small_events_fill_the_rows_before_the_bytes() -> None:
    """10,000 exports with links of 1,500 characters fit into the default bounds."""
    mailbox = MemoryMailbox()
    events = [attrs.evolve(event, export_url="x" * 1_500) for event in exports(10_000)]
    for event in events:
        await mailbox.deliver(event)
    assert all(await kept(mailbox, *events))


async def test_event_beyond_the_bound_still_wakes() -> None:
    """An event that is too large to keep reaches its waiters, and is the first to go."""
    mailbox = MemoryMailbox(max_bytes=10_000)
    large = export_event(export_url="x" * 20_000)
    waiting = mailbox.wait(key_of(large), "")
    await mailbox.deliver(large)
    assert large == (await waiting).event
    await mailbox.deliver(avatar_event())
    await mailbox.deliver(large)
    assert [False] == await kept(mailbox, large)


async def test_awaited_events_are_never_evicted() -> None:
    """An event whose successor is awaited stays, even beyond the bound."""
    mailbox, events, waiting = MemoryMailbox(max_rows=1), exports(3), []
    for event in events:
        first = mailbox.wait(key_of(event), "")
        await mailbox.deliver(event)
        await first
        waiting.append(await wait_for_next(mailbox, event))
    assert [True, True, True] == await kept(mailbox, *events)
    for each in waiting:
        each.cancel()


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_events_can_be_evicted_after_the_last_wait(count: int) -> None:
    """Once all waits for the key were cancelled, its event is like any other."""
    mailbox, (first, second, third) = MemoryMailbox(max_rows=1), exports(3)
    await mailbox.deliver(first)
    waits = [await wait_for_next(mailbox, first) for _ in range(count)]
    await mailbox.deliver(second)
    assert [True, False] == await kept(mailbox, first, second)
    for each in waits:
        each.cancel()
    await asyncio.sleep(0)
    await mailbox.deliver(third)
    assert [False, True] == await kept(mailbox, first, third)


async def test_unauthenticated_events_are_bounded() -> None:
    """1,000 of them are kept without a waiter, and none displaces an authenticated one."""
    mailbox = MemoryMailbox(max_rows=1_100)
    genuine, awaited = export_event(avatar(9_000)), export_event(avatar(9_001))
    await mailbox.deliver(genuine)
    await mailbox.deliver(awaited, authenticated=False)
    waiting = await wait_for_next(mailbox, awaited)
    forged = exports(1_200)
    for event in forged:
        await mailbox.deliver(event, authenticated=False)
    assert [True, True] == await kept(mailbox, genuine, awaited)
    assert [False] * 200 + [True] * 1_000 == await kept(mailbox, *forged)
    waiting.cancel()


async def test_unauthenticated_event_gives_way_in_a_full_mailbox() -> None:
    """It is not kept at the expense of authenticated ones, but its waiters are woken."""
    mailbox, (first, second, third, fourth) = MemoryMailbox(max_rows=2), exports(4)
    await mailbox.deliver(first)
    await mailbox.deliver(second)
    waiting = mailbox.wait(key_of(third), "")
    for event in (third, fourth):
        await mailbox.deliver(event, authenticated=False)
    assert third == (await waiting).event
    assert [True, True, False] == await kept(mailbox, first, second, fourth)


async def test_repeated_unauthenticated_event_counts_once() -> None:
    """However often it is sent, it displaces no other."""
    mailbox, events = MemoryMailbox(), exports(500)
    for event in events + [events[-1]] * 1_000:
        await mailbox.deliver(event, authenticated=False)
    assert all(await kept(mailbox, *events))


async def test_awaited_unauthenticated_events_stay() -> None:
    """Those whose successor is awaited do not count towards the bound."""
    mailbox, events, waiting = MemoryMailbox(), exports(1_002), []
    for event in events:
        await mailbox.deliver(event, authenticated=False)
        waiting.append(await wait_for_next(mailbox, event))
    await mailbox.deliver(events[0], authenticated=False)
    assert all(await kept(mailbox, *events))
    for each in waiting:
        each.cancel()


@pytest.mark.parametrize("awaited", [True, False])
async def test_unauthenticated_events_are_stripped(awaited: bool) -> None:
    """Unknown fields and long texts of an unverified sender are dropped, those of a verified one are kept."""
    mailbox, event = MemoryMailbox(), export_event(export_url="x" * 60_000, extra={"new": [[]] * 10_000})
    waiting = mailbox.wait(key_of(event), "") if awaited else stored(mailbox, event)
    await mailbox.deliver(event, authenticated=False)
    assert export_event(export_url="") == (await waiting).event
    await mailbox.deliver(event)
    assert event == (await stored(mailbox, event)).event


class Reference:
    """What a mailbox keeps, in the plainest way: a list of events, the next to be evicted first."""

    def __init__(self, max_rows: int, ttl: float) -> None:
        self.rows: list[tuple[str, int, float]] = []  # key, rank of eviction, expiry
        self.awaited: list[str] = []
        self._max_rows, self._ttl = max_rows, ttl

    def deliver(self, event: Event, authenticated: bool, now: float) -> None:
        """Store an event."""
        key, is_render = key_of(event), event.event == "render.ready"
        rank = 0 if not authenticated else 1 + is_render
        found = [row for row in self.rows if row[0] == key]
        if found and (found[0][1] > rank or (is_render and (found[0][1] > 0) == authenticated)):
            return
        self.rows = [row for row in self.rows if row[0] != key]
        while len(self.rows) >= self._max_rows and (victim := self._victim(2 if authenticated else 0)):
            self.rows.remove(victim)
        if len(self.rows) < self._max_rows or key in self.awaited:
            self.rows.append((key, rank, now + self._ttl))
        self.awaited = [each for each in self.awaited if each != key]

    def leave(self, key: str) -> None:
        """End a wait; an event that nobody awaits any more counts as new."""
        self.awaited.remove(key)
        if key not in self.awaited:
            self.rows.sort(key=lambda row: row[0] == key)

    def _victim(self, most: int) -> tuple[str, int, float] | None:
        free = [row for row in self.rows if row[0] not in self.awaited and row[1] <= most]
        return min(free, key=lambda row: row[1], default=None)

    def expire(self, now: float) -> None:
        """Drop what is too old."""
        self.rows = [row for row in self.rows if row[2] > now]


@pytest.mark.parametrize("seed", range(20))
async def test_the_same_is_kept_as_by_a_reference(seed: int, complaints: list[Any]) -> None:
    """In any order of deliveries, expiry, waits and cancellations."""
    dice, clock = random.Random(seed), Clock()
    mailbox, reference = MemoryMailbox(ttl=20, max_rows=4, clock=clock), Reference(4, 20)
    waits: list[tuple[str, asyncio.Future[Delivery]]] = []
    events = [make(avatar(number)) for make in (export_event, render_event, avatar_event) for number in range(4)]
    for _ in range(400):
        event = dice.choice(events)
        match dice.randrange(4):
            case 0:
                authenticated = dice.random() < 0.7
                reference.deliver(event, authenticated, clock.now)
                await mailbox.deliver(event, authenticated=authenticated)
            case 1:
                waits.append((key_of(event), await wait_for_next(mailbox, event)))
                reference.awaited.append(key_of(event))
            case 2 if waits:
                key, waiting = waits.pop(dice.randrange(len(waits)))
                waiting.cancel()
                reference.leave(key)
                await asyncio.sleep(0)
            case _:
                clock.now += 1
        reference.expire(clock.now)
        waits = [(key, each) for key, each in waits if not each.done()]
        assert [any(key_of(each) == row[0] for row in reference.rows) for each in events] == await kept(
            mailbox, *events
        )
    await mailbox.aclose()
    assert {ClientClosedError} >= {type(each.exception()) for _, each in waits}
    await asyncio.sleep(0)
    assert [] == complaints


@pytest.mark.parametrize(
    "options",
    [{"ttl": 0}, {"ttl": -1}, {"ttl": float("nan")}, {"max_rows": 0}, {"max_bytes": 0}],
    ids=["no-ttl", "negative-ttl", "nan-ttl", "no-rows", "no-bytes"],
)
def test_bounds_are_checked(options: dict[str, Any]) -> None:
    """A bound that keeps nothing is refused by name."""
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        MemoryMailbox(**options)


# Memory.


async def memory_after(mailbox: MemoryMailbox, keys: list[str]) -> tuple[int, int]:
    """Return the memory while all `keys` are awaited, and after all waits were cancelled."""
    waiting = [mailbox.wait(key, "") for key in keys]
    during = tracemalloc.get_traced_memory()[0]
    for each in waiting:
        each.cancel()
    await asyncio.sleep(0)
    del waiting, each
    gc.collect()
    return during, tracemalloc.get_traced_memory()[0]


@pytest.mark.slow
async def test_waits_are_small_and_leave_nothing(traced: None) -> None:
    """20,000 waits take at most 500 bytes each, and nothing once they are cancelled, also for one key."""
    mailbox = MemoryMailbox()
    keys = [f"export:{number}" for number in range(19_000)] + ["export:0"] * 1_000
    before = tracemalloc.get_traced_memory()[0]
    during, after = await memory_after(mailbox, keys)
    _, again = await memory_after(mailbox, keys[-5_000:])
    assert during - before < 20_000 * 500
    assert after - before < 20_000 * 120  # the tables of two dicts that were large
    assert again - after < 20_000


@pytest.mark.parametrize(
    "key", ["", "export", "export:", f"other:{avatar()}", f"export:{str(avatar()).upper()}", "export: 1"]
)
async def test_keys_of_another_form_match_nothing(key: str) -> None:
    """A key that no event has is awaited for ever."""
    mailbox = MemoryMailbox()
    await mailbox.deliver(export_event())
    assert "" == await mailbox.position(key)
    waiting = mailbox.wait(key, "")
    assert not waiting.done()
    waiting.cancel()


# Deliveries.


async def test_deliveries_are_immutable_values() -> None:
    """They compare by value, can be hashed, and changed only in a copy."""
    mailbox = MemoryMailbox()
    await mailbox.deliver(export_event())
    delivery = await stored(mailbox, export_event())
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        delivery.id = "another"  # type: ignore[misc]
    assert Delivery("another", export_event()) == attrs.evolve(delivery, id="another")
    assert hash(delivery) == hash(Delivery(delivery.id, export_event()))


async def test_an_event_is_found_by_its_session() -> None:
    """It is the same delivery."""
    await check_session_key(MemoryMailbox())
