"""The mailbox in memory: the contract, and its own ttl, bounds and threads."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import tracemalloc
import types
import weakref
from typing import Any

import attrs
import pytest

from avaturn_async import ClientClosedError, ExportReadyWebhook, MemoryMailbox
from avaturn_async.webhooks import Delivery, key_of

from .mailbox_contract import MailboxContract, MakeMailbox, standing
from .samples import avatar, avatar_event, export_event, render_event

NUMBER = "0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f0a"


@pytest.fixture
def make_mailbox() -> MakeMailbox:
    """Make mailboxes in memory."""

    async def make(**options: Any) -> MemoryMailbox:
        return MemoryMailbox(**options)

    return make


class TestContract(MailboxContract):
    """The contract, in memory."""


@attrs.define
class Clock:
    """A clock that stands still until it is set."""

    now: float = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


async def kept(mailbox: MemoryMailbox, *events: Any) -> list[bool]:
    """Say for each event whether a row stands under its key."""
    return [await mailbox.position(key_of(event)) != "" for event in events]


async def called_back(waiting: asyncio.Future[Delivery]) -> Delivery:
    """Ask for the result in a callback."""
    heard = asyncio.get_running_loop().create_future()
    waiting.add_done_callback(lambda done: heard.set_result(done.result()))
    return await heard


async def gathered(waiting: asyncio.Future[Delivery]) -> Delivery:
    """Ask for the result beside another."""
    return (await asyncio.gather(waiting, asyncio.sleep(0)))[0]


async def asked_when_done(waiting: asyncio.Future[Delivery]) -> Delivery:
    """Ask for the result after the end."""
    await asyncio.wait([waiting])
    return waiting.result()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    "ask",
    [
        asyncio.ensure_future,
        asyncio.shield,
        lambda it: asyncio.wait_for(it, 60),
        called_back,
        gathered,
        asked_when_done,
    ],
)
async def test_ways_to_wait(ask: Any, before: bool) -> None:
    """However it is asked for, and whether the event was there before or not, it is a delivery that comes."""
    mailbox = MemoryMailbox()
    if before:
        await mailbox.deliver(export_event())
    else:
        asyncio.get_running_loop().call_soon(mailbox._put, export_event(), True)
    assert export_event() == (delivery := await ask(mailbox.wait(key_of(export_event()), ""))).event
    assert (Delivery, True, True) == (type(delivery), delivery.authenticated, delivery.only)
    assert delivery.id == await mailbox.position(key_of(export_event()))


async def test_yield_from() -> None:
    """As old coroutines wait."""

    @types.coroutine
    def old(waiting: Any) -> Any:
        return (yield from waiting)

    mailbox = MemoryMailbox()
    asyncio.get_running_loop().call_soon(mailbox._put, export_event(), True)
    assert export_event() == (await old(mailbox.wait(key_of(export_event()), ""))).event


async def test_an_event_for_one_who_has_just_left() -> None:
    """It is kept, and delivered without a word."""
    mailbox = MemoryMailbox()
    waits = [mailbox.wait(key_of(export_event()), "") for _ in range(2)]
    alone = mailbox.wait(key_of(export_event(avatar(1))), "")
    for each in [*waits, alone]:
        each.cancel()
    await mailbox.deliver(export_event())
    await mailbox.deliver(export_event(avatar(1)))
    assert all(each.cancelled() for each in [*waits, alone])
    assert [True, True] == await kept(mailbox, export_event(), export_event(avatar(1)))


def standing_once(mailbox: MemoryMailbox) -> bool:
    """Say whether each row stands once in the queues or is aside, and nothing else is aside."""
    queued = [row for queue in mailbox._queues for row in queue]
    times = [sum(row is each for each in queued) + (place in mailbox._aside) for place, row in mailbox._rows.items()]
    return set(times) <= {1} and mailbox._aside <= mailbox._rows.keys()


@pytest.mark.parametrize("seed", range(20))
async def test_rows_that_are_awaited_come_and_go(seed: int) -> None:
    """Whatever order events, expiry, waits and their ends come in: each row can be evicted, once, or is awaited."""
    dice, clock = random.Random(seed), Clock()
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    mailbox, waits = MemoryMailbox(ttl=20, max_rows=3, clock=clock), []
    for _ in range(300):
        event = dice.choice([export_event, render_event])(avatar(dice.randrange(5)))
        match dice.randrange(4):
            case 0:
                await mailbox.deliver(event, authenticated=dice.random() < 0.7)
            case 1:
                key = key_of(event)
                waits.append(mailbox.wait(key, await mailbox.position(key)))
            case 2 if waits:
                waits.pop(dice.randrange(len(waits))).cancel()
                await asyncio.sleep(0)
            case _:
                clock.now += 1
        assert standing_once(mailbox)
    await mailbox.aclose()
    for each in waits:
        each.cancel()
    await asyncio.sleep(0)
    assert [] == complaints


async def test_a_result_is_not_there_before_the_event() -> None:
    """It is a future like any other."""
    waiting = MemoryMailbox().wait(key_of(export_event()), "")
    with pytest.raises(asyncio.InvalidStateError):
        waiting.result()


async def test_rows_expire() -> None:
    """A row lives for its ttl and no longer; a render's can then be written again."""
    clock = Clock()
    mailbox = MemoryMailbox(ttl=900, clock=clock)
    await mailbox.deliver(render_event())
    clock.now = 899
    assert [True] == await kept(mailbox, render_event())
    clock.now = 900
    assert [False] == await kept(mailbox, render_event())
    again = render_event(status="failed", render_url=None)
    await mailbox.deliver(again)
    assert again == (await standing(mailbox, again)).event


async def test_a_replacement_lives_from_its_own_time() -> None:
    """A row that is replaced expires by the last delivery, and `only` looks at live rows alone."""
    clock = Clock()
    mailbox = MemoryMailbox(ttl=10, clock=clock)
    only = []
    for clock.now in (0.0, 9.0, 18.0, 28.0):
        await mailbox.deliver(export_event())
        only.append((await standing(mailbox, export_event())).only)
    assert [True, False, False, True] == only


async def test_expired_rows_are_dropped() -> None:
    """What expired leaves memory with the next delivery."""
    clock = Clock()
    mailbox = MemoryMailbox(ttl=10, clock=clock)
    for authenticated in (True, False):
        event = export_event()
        await mailbox.deliver(event, authenticated=authenticated)
        gone = weakref.ref(event)
        del event
        clock.now += 10
        await mailbox.deliver(avatar_event(), authenticated=False)
        gc.collect()
        assert gone() is None
    assert [True] == await kept(mailbox, avatar_event())


async def test_the_oldest_are_evicted() -> None:
    """Beyond the bound the oldest row goes; one that was replaced counts as new."""
    mailbox = MemoryMailbox(max_rows=2)
    first, second, third = (export_event(avatar(number)) for number in range(3))
    for event in (first, second, first, third):
        await mailbox.deliver(event)
    assert [True, False, True] == await kept(mailbox, first, second, third)


async def test_exports_and_avatars_are_evicted_first() -> None:
    """A render, which nothing can read again, outlives the others."""
    mailbox = MemoryMailbox(max_rows=2)
    renders = [render_event(avatar(number)) for number in range(3)]
    await mailbox.deliver(renders[0])
    await mailbox.deliver(export_event())
    await mailbox.deliver(avatar_event())
    assert [True, False, True] == await kept(mailbox, renders[0], export_event(), avatar_event())
    await mailbox.deliver(renders[1])
    await mailbox.deliver(renders[2])
    assert [False, False, True, True] == await kept(mailbox, avatar_event(), *renders)


async def test_the_awaited_are_never_evicted() -> None:
    """A row whose successor is awaited stays, even beyond the bound."""
    mailbox = MemoryMailbox(max_rows=1)
    events = [export_event(avatar(number)) for number in range(3)]
    waiting = []
    for event in events:
        waiting.append(mailbox.wait(key_of(event), ""))
        await mailbox.deliver(event)
        waiting.append(mailbox.wait(key_of(event), await mailbox.position(key_of(event))))
    assert [True, True, True] == await kept(mailbox, *events)
    for each in waiting:
        each.cancel()


async def test_hints_are_bounded() -> None:
    """1,000 hints are kept that nobody awaits, and none of them drives out what is authenticated."""
    mailbox = MemoryMailbox(max_rows=1100)
    told, awaited = export_event(avatar(9000)), export_event(avatar(9001))
    await mailbox.deliver(told)
    await mailbox.deliver(awaited, authenticated=False)
    waiting = mailbox.wait(key_of(awaited), await mailbox.position(key_of(awaited)))
    hints = [export_event(avatar(number)) for number in range(1200)]
    for hint in hints:
        await mailbox.deliver(hint, authenticated=False)
    assert [True, True] == await kept(mailbox, told, awaited)
    assert 1000 - 1 == sum(await kept(mailbox, *hints))
    waiting.cancel()


async def test_a_hint_that_comes_again_counts_once() -> None:
    """However often one is sent anew, it drives out none of the others."""
    mailbox = MemoryMailbox()
    hints = [export_event(avatar(number)) for number in range(500)]
    for hint in hints:
        await mailbox.deliver(hint, authenticated=False)
    for _ in range(1000):
        await mailbox.deliver(hints[-1], authenticated=False)
    assert all(await kept(mailbox, *hints))


async def test_a_delivery_is_one_to_whoever_gets_it() -> None:
    """It can't be changed, and a changed copy can be made of it."""
    mailbox = MemoryMailbox()
    await mailbox.deliver(export_event())
    delivery = await standing(mailbox, export_event())
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        delivery.id = "another"  # type: ignore[misc]
    assert Delivery("another", export_event()) == attrs.evolve(delivery, id="another")
    assert delivery != "another"
    assert hash(delivery) == hash(Delivery(delivery.id, export_event()))


async def test_hints_carry_no_ballast() -> None:
    """What a forger adds to an event is not kept; what comes from a verified source is."""
    mailbox, event = MemoryMailbox(), export_event(extra={"new": [[]] * 10_000})
    await mailbox.deliver(event, authenticated=False)
    assert export_event() == (await standing(mailbox, event)).event
    await mailbox.deliver(event)
    assert event == (await standing(mailbox, event)).event


async def test_who_waits_for_a_hint_gets_no_ballast_either() -> None:
    """It is as bare as what is kept."""
    mailbox, event = MemoryMailbox(), export_event(extra={"new": 1})
    waiting = mailbox.wait(key_of(event), "")
    await mailbox.deliver(event, authenticated=False)
    assert export_event() == (await waiting).event


async def test_awaited_hints_stay() -> None:
    """A hint that is awaited is not dropped for being one of too many."""
    mailbox = MemoryMailbox()
    waiting = []
    for number in range(1002):
        key = key_of(export_event(avatar(number)))
        first = mailbox.wait(key, "")
        await mailbox.deliver(export_event(avatar(number)), authenticated=False)
        await first
        waiting.append(mailbox.wait(key, await mailbox.position(key)))
    assert [True] * 1002 == await kept(mailbox, *(export_event(avatar(number)) for number in range(1002)))
    for each in waiting:
        each.cancel()


async def test_many_threads_deliver() -> None:
    """Threads that deliver at the same time lose nothing."""
    mailbox = MemoryMailbox()
    events = [export_event(avatar(number)) for number in range(400)]
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


async def test_a_waiter_whose_loop_is_closed() -> None:
    """Who waited on a loop that is closed is passed over, at a delivery and at the end."""
    mailbox = MemoryMailbox()

    def leave(event: ExportReadyWebhook) -> Any:
        loop = asyncio.new_event_loop()

        async def start() -> Any:
            return mailbox.wait(key_of(event), "")

        left = loop.run_until_complete(start())
        loop.close()
        return left

    left = [await asyncio.to_thread(leave, event) for event in (export_event(), export_event(avatar(1)))]
    waiting = mailbox.wait(key_of(export_event()), "")
    await mailbox.deliver(export_event())
    assert export_event() == (await waiting).event
    await mailbox.aclose()
    assert [False, False] == [each.done() for each in left]


async def test_cancelled_after_the_delivery() -> None:
    """A wait that is cancelled between the delivery and its waking stays cancelled."""
    mailbox = MemoryMailbox()
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    waiting = mailbox.wait(key_of(export_event()), "")
    delivering = threading.Thread(target=lambda: asyncio.run(mailbox.deliver(export_event())))
    delivering.start()
    delivering.join()
    waiting.cancel()
    await asyncio.sleep(0)
    assert waiting.cancelled()
    assert [] == complaints


async def test_many_wait_for_one_key() -> None:
    """Each of them is woken, but for those who left, in whatever order they came and went."""
    mailbox = MemoryMailbox(max_rows=1)
    waits = [mailbox.wait(key_of(export_event()), "") for _ in range(5)]
    for left in waits[::2]:
        left.cancel()
    await asyncio.sleep(0)
    await mailbox.deliver(export_event())
    assert [export_event()] * 2 == [(await each).event for each in waits[1::2]]


async def test_a_row_that_is_not_awaited_any_more_is_evicted() -> None:
    """Whether one or several waited for what follows it."""
    for count in (1, 2, 3):
        mailbox = MemoryMailbox(max_rows=1)
        await mailbox.deliver(export_event())
        position = await mailbox.position(key_of(export_event()))
        waits = [mailbox.wait(key_of(export_event()), position) for _ in range(count)]
        await mailbox.deliver(export_event(avatar(1)))
        assert position == await mailbox.position(key_of(export_event()))
        for each in waits:
            each.cancel()
        await asyncio.sleep(0)
        await mailbox.deliver(export_event(avatar(2)))
        assert "" == await mailbox.position(key_of(export_event()))


async def test_nobody_reads_of_the_end() -> None:
    """A future that nobody holds at the end is no unretrieved exception."""
    mailbox = MemoryMailbox()
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    waiting = mailbox.wait("export:x", "")
    await mailbox.aclose()
    await asyncio.sleep(0)
    assert isinstance(waiting.exception(), ClientClosedError)
    del waiting
    gc.collect()
    assert [] == complaints


async def memory_after(mailbox: MemoryMailbox, keys: list[str]) -> tuple[int, int]:
    """Return the memory while all `keys` are awaited, and after all waits are cancelled."""
    waiting = [mailbox.wait(key, "") for key in keys]
    during = tracemalloc.get_traced_memory()[0]
    for each in waiting:
        each.cancel()
    await asyncio.sleep(0)
    del waiting, each
    gc.collect()
    return during, tracemalloc.get_traced_memory()[0]


async def test_waiters_are_small_and_leave_nothing() -> None:
    """100,000 waits take less than 1 kB each, and nothing more once they are cancelled, also for one key."""
    mailbox = MemoryMailbox()
    keys = [f"export:{number}" for number in range(99_000)] + ["export:0"] * 1000
    tracemalloc.start()
    try:
        during, after = await memory_after(mailbox, keys)
        _, again = await memory_after(mailbox, keys[-5000:])
    finally:
        tracemalloc.stop()
    assert during < 100_000 * 1000
    assert after < 100_000 * 60  # the table of a dict that was large
    assert again - after < 100_000


@pytest.mark.parametrize(
    "key",
    [
        "",
        "export",
        "export:",
        f"other:{NUMBER}",
        f"export:{NUMBER.upper()}",
        f"export:0000{NUMBER.replace('-', '')}",
        "export: 1",
    ],
)
async def test_keys_of_another_form_stand_alone(key: str) -> None:
    """They name no event, and are not taken for a key that does."""
    mailbox = MemoryMailbox()
    await mailbox.deliver(ExportReadyWebhook(avatar_id=NUMBER, user_id="u", status="ready"))  # type: ignore[arg-type]
    assert await mailbox.position(f"export:{NUMBER}")
    assert "" == await mailbox.position(key)
    waiting = mailbox.wait(key, "")
    assert not waiting.done()
    waiting.cancel()


@pytest.mark.parametrize("options", [{"ttl": 0}, {"ttl": -1}, {"ttl": float("nan")}, {"max_rows": 0}])
def test_odd_bounds_are_refused(options: dict[str, Any]) -> None:
    """A mailbox keeps something, for some time."""
    with pytest.raises(ValueError, match="must be"):
        MemoryMailbox(**options)
