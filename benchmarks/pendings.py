"""How much memory do many pending exports take, and how long does their polling block the event loop?

The memory is measured without the tasks that await the exports: they are the user's.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable
from typing import Any
from uuid import UUID

from avaturn_async import AvaturnClient, PendingExport, PollPolicy, RenderStatus
from avaturn_async.models import NewExportResponse
from avaturn_async.pending.race import Race
from avaturn_async.webhooks import MemoryMailbox

from .kit import LOOPS, Child, Gaps, Loop, Row, at_most, figure, on, show

ALIVE = 100_000
POLLING = 10_000
IDS = [UUID(int=(0x4000_8000 << 64) + number) for number in range(ALIVE)]
PENDING = NewExportResponse(status=RenderStatus.PENDING)
gc.freeze()  # keeps the garbage collector from traversing the benchmark's own half a million objects


def make_client(mailbox: MemoryMailbox | None = None, **options: Any) -> AvaturnClient:
    """Return a client; by default, nothing can be sent with it."""
    base_url = options.pop("base_url", "http://127.0.0.1:9")
    return AvaturnClient("token", base_url=base_url, webhooks=mailbox, confirm_webhooks=False, **options)


def pend(client: AvaturnClient, count: int) -> list[asyncio.Future[Any]]:
    """Return the awaiters of pending exports, each subscribed and scheduled."""
    loop = asyncio.get_running_loop()
    client._context.check_open()
    waiters = []
    for avatar_id in IDS[:count]:
        pending = PendingExport(client._context, avatar_id, PENDING, position="")
        pending._race = Race(pending, loop)
        waiters.append(pending._race.join(None))
    return waiters


def bytes_of(make: Callable[[], object]) -> float:
    """Return the bytes kept alive by the result of `make`, divided by `ALIVE`."""
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
            for measure in (memory, lambda loop: gaps(loop, origin)):
                rows += on(loop, lambda loop=loop, measure=measure: measure(loop))
    return rows


if __name__ == "__main__":
    show(run())
