"""What do many pending exports cost: memory, being resolved through the mailbox, and their polls?

Exports are pending on behalf of futures here, not of tasks that await them: a task is the user's.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import time
import tracemalloc
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

from avaturn_async import AvaturnClient, ExportReadyWebhook, PendingExport, PollPolicy, RenderStatus
from avaturn_async.models import NewExportResponse
from avaturn_async.pending.race import Race
from avaturn_async.webhooks import MemoryMailbox

from .kit import LOOPS, Child, Gaps, Loop, Row, alternate, at_most, figure, medians, on, ratio, show

ALIVE = 100_000
POLLING = 10_000
CHUNK = 100
IDS = [UUID(int=(0x4000_8000 << 64) + number) for number in range(ALIVE)]
EVENTS = [
    ExportReadyWebhook(
        event="export.ready",
        avatar_id=avatar_id,
        user_id="u1",
        status=RenderStatus.READY,
        export_url=f"https://assets.example.com/exports/{avatar_id}.glb?X-Amz-Signature=0123456789abcdef",
    )
    for avatar_id in IDS
]
PENDING = NewExportResponse(status=RenderStatus.PENDING)
gc.freeze()  # else the garbage collector would go through the benchmark's own half a million objects again and again


class Quiet(PendingExport):
    """An export whose looks cost nothing and see nothing, so that what is left is the scheduling."""

    __slots__ = ()
    looks = 0

    async def _poll(self, cause: Any) -> None:
        Quiet.looks += 1


def make_client(mailbox: MemoryMailbox | None = None, **options: Any) -> AvaturnClient:
    """Return a client that nothing is sent with."""
    base_url = options.pop("base_url", "http://127.0.0.1:9")
    return AvaturnClient("token", base_url=base_url, webhooks=mailbox, confirm_webhooks=False, **options)


def pend(client: AvaturnClient, count: int, kind: type[PendingExport] = PendingExport) -> list[asyncio.Future[Any]]:
    """Return futures of awaiters, each of a pending export that is subscribed and scheduled."""
    loop = asyncio.get_running_loop()
    client._context.check_open()
    waiters = []
    for avatar_id in IDS[:count]:
        pending = kind(client._context, avatar_id, PENDING, position="")
        pending._race = Race(pending, client._context, loop)
        waiters.append(pending._race.join(None)[0])
    return waiters


def close(waiters: list[asyncio.Future[Any]]) -> None:
    """Forget awaiters."""
    for waiter in waiters:
        waiter.cancel()


# Memory.


def bytes_of(make: Callable[[], object]) -> float:
    """Return the bytes that what `make` returns keeps alive, for each of `ALIVE`."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = make()
    gc.collect()
    found = (tracemalloc.get_traced_memory()[0] - before) / ALIVE
    tracemalloc.stop()
    del kept
    return found


async def memory(loop: Loop) -> list[Row]:
    """Measure the memory of one pending export."""
    running = asyncio.get_running_loop()
    bare = bytes_of(lambda: {avatar_id: running.create_future() for avatar_id in IDS})
    client = make_client(MemoryMailbox(max_rows=2 * ALIVE), polling=PollPolicy(first=600, cap=600))
    ours = bytes_of(lambda: pend(client, ALIVE))
    await client.aclose()
    what = "memory of one `PendingExport`, awaited, subscribed and scheduled"
    setting = f"{loop}, {ALIVE:,} alive"
    return [at_most(what, setting, f"{ours:.0f} B", f"a future in a dict {bare:.0f} B", ours, 1_500, " B")]


# Resolving.


async def resolve_futures(gaps: list[float]) -> float:
    """Resolve bare futures, and return the seconds that it took."""
    running = asyncio.get_running_loop()
    waiting = {avatar_id: running.create_future() for avatar_id in IDS}
    kept = list(waiting.values())
    async with Gaps() as seen:
        before = time.perf_counter()
        for first in range(0, ALIVE, CHUNK):
            for event in EVENTS[first : first + CHUNK]:
                waiting.pop(event.avatar_id).set_result(event)
            await asyncio.sleep(0)
        took = time.perf_counter() - before
    assert all(each.done() for each in kept)
    gaps.append(seen.longest)
    return took


async def deliver_all(mailbox: MemoryMailbox, waiters: list[asyncio.Future[Any]], gaps: list[float]) -> float:
    """Deliver all events, and return the seconds until all who wait were woken."""
    async with Gaps() as seen:
        before = time.perf_counter()
        for first in range(0, ALIVE, CHUNK):
            for event in EVENTS[first : first + CHUNK]:
                await mailbox.deliver(event)
            await asyncio.sleep(0)
        while not all(each.done() for each in waiters[-1000:]):
            await asyncio.sleep(0)
        took = time.perf_counter() - before
    assert all(each.done() for each in waiters)
    gaps.append(seen.longest)
    return took


async def resolve_in_mailbox(gaps: list[float]) -> float:
    """Resolve bare futures of the mailbox's."""
    mailbox = MemoryMailbox()
    return await deliver_all(mailbox, [mailbox.wait(f"export:{avatar_id}", "") for avatar_id in IDS], gaps)


async def resolve_pendings(gaps: list[float]) -> float:
    """Resolve pending exports."""
    mailbox = MemoryMailbox()
    client = make_client(mailbox, polling=PollPolicy(first=600, cap=600))
    took = await deliver_all(mailbox, pend(client, ALIVE), gaps)
    await client.aclose()
    return took


async def resolving(loop: Loop) -> list[Row]:
    """Measure how long it takes to resolve many.

    The goal is held against both of what can be meant by the same with bare futures: in a dict, of which each is taken
    and set, and in the mailbox, which checks, keeps and evicts each event for either.
    """
    kinds: dict[str, Callable[[list[float]], Coroutine[Any, Any, float]]]
    kinds = {"futures": resolve_futures, "mailbox": resolve_in_mailbox, "pendings": resolve_pendings}
    gaps: dict[str, list[float]] = {name: [] for name in kinds}
    found = await alternate({name: lambda kind=kind, name=name: kind(gaps[name]) for name, kind in kinds.items()}, 5)  # type: ignore[misc]
    took, gap = medians(found), medians(gaps)
    what, setting = f"{ALIVE:,} pendings resolved by events in the mailbox", f"{loop}, confirm_webhooks=False"
    ours = f"{1000 * took['pendings']:.0f} ms"
    futures = f"bare futures {1000 * took['futures']:.0f} ms"
    in_mailbox = f"bare futures in the mailbox {1000 * took['mailbox']:.0f} ms"
    return [
        at_most(what, setting, ours, futures, ratio(found["pendings"], found["futures"]), 3, "x"),
        at_most(what, setting, ours, in_mailbox, ratio(found["pendings"], found["mailbox"]), 3, "x"),
        at_most("longest loop gap meanwhile", setting, "", f"{figure(gap['futures'])} ms", gap["pendings"], 10, " ms"),
    ]


# Polls.


class Heap:
    """What one would write by hand: a heap of who looks next, one timer, and a task for each look."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._heap: list[tuple[float, int]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.looks = 0

    async def run(self, count: int) -> None:
        """Look for ever, on behalf of so many."""
        loop = asyncio.get_running_loop()
        self._heap = [(loop.time() + self._every * (1 + number / count), number) for number in range(count)]
        while True:
            while self._heap and self._heap[0][0] <= loop.time():
                task = loop.create_task(self._look(heapq.heappop(self._heap)[1]))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(max(0.001, self._heap[0][0] - loop.time()) if self._heap else 0)

    async def _look(self, number: int) -> None:
        self.looks += 1
        heapq.heappush(self._heap, (asyncio.get_running_loop().time() + self._every, number))


async def spent_on(looks: Callable[[], int]) -> float:
    """Return the microseconds of CPU for each look, over two seconds."""
    await asyncio.sleep(0.6)
    seen, before = looks(), time.process_time()
    await asyncio.sleep(2)
    return 1e6 * (time.process_time() - before) / (looks() - seen)


async def schedule_by_hand() -> float:
    """Measure a heap."""
    heap = Heap(0.5)
    task = asyncio.create_task(heap.run(POLLING))
    spent = await spent_on(lambda: heap.looks)
    task.cancel()
    await asyncio.wait((task,))
    return spent


async def schedule_pendings() -> float:
    """Measure pending exports whose looks do nothing."""
    client = make_client(polling=PollPolicy(first=0.5, factor=1, cap=0.5))
    waiters = pend(client, POLLING, Quiet)
    spent = await spent_on(lambda: Quiet.looks)
    close(waiters)
    await client.aclose()
    return spent


async def scheduling(loop: Loop) -> list[Row]:
    """Measure the CPU of one poll without its request.

    The goal of 20 us was set where a heap took 8.5; the ratio holds on machines of any speed.
    """
    found = await alternate({"ours": schedule_pendings, "heap": schedule_by_hand}, 5)
    middle = medians(found)
    what, setting = "CPU of scheduling one poll", f"{loop}, {POLLING:,} wait"
    ours, by_hand = f"{middle['ours']:.1f} us", f"a heap by hand {middle['heap']:.1f} us"
    return [
        at_most(what, setting, "", by_hand, middle["ours"], 20, " us"),
        at_most(what, setting, ours, by_hand, ratio(found["ours"], found["heap"]), 20 / 8.5, "x"),
    ]


async def gaps(loop: Loop, origin: str) -> list[Row]:
    """Measure the gaps of the loop while many waits poll by HTTP."""
    async with Gaps() as idle:
        await asyncio.sleep(2)
    async with make_client(base_url=f"{origin}/pending") as client:
        waits = [
            asyncio.ensure_future(PendingExport(client._context, avatar_id, PENDING).wait())
            for avatar_id in IDS[:POLLING]
        ]
        await asyncio.sleep(0)
        async with Gaps() as seen:
            await asyncio.sleep(10)
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)
    what, setting = "loop gap at p99 while waits poll", f"{loop}, {POLLING:,} waits, the first 10 s"
    ours = f"longest {figure(seen.longest)} ms"
    return [at_most(what, setting, ours, f"idle {figure(idle.percentile(99))} ms", seen.percentile(99), 10, " ms")]


def run() -> list[Row]:
    """Measure on both kinds of loop."""
    rows: list[Row] = []
    with Child("canned") as server:
        origin = f"http://127.0.0.1:{server.read()}"
        for loop in LOOPS:
            for measure in (memory, resolving, scheduling, lambda loop: gaps(loop, origin)):
                rows += on(loop, lambda loop=loop, measure=measure: measure(loop))
    return rows


if __name__ == "__main__":
    show(run())
