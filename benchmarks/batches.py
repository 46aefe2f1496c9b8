"""How long does a batch of 5,000 exports take, compared with the time that the jobs themselves need?

Each export takes one second on the emulator, which runs in another process, and 256 are awaited concurrently. The ideal
is 5,000 / 256 seconds: as if creating an export, learning of its end and returning its outcome took no time. The
emulator posts webhooks to an embedded receiver in the client's process. One more round has no webhooks, so that exports
are resolved by polls of the default policy.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from avaturn_async import AvaturnClient, WebhookReceiver
from avaturn_async.emulator import Emulator, Timing

from .kit import LOOPS, Child, Loop, Row, Spent, at_most, on, show, spending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EXPORTS = 5_000
PENDING = 256
SECONDS = 1.0
ROUNDS = 3
GOAL = 1.10


@attrs.frozen
class Taken:
    """The time of a batch, its exports that a webhook resolved, and its requests to the API."""

    spent: Spent
    by_webhook: int
    requests: int


def run() -> list[Row]:
    """Measure batches with webhooks on each loop, and one without."""
    rows = []
    for loop in LOOPS:

        async def main(loop: Loop = loop) -> list[Row]:
            return await _rows(loop)

        rows += on(loop, main)
    return rows


async def _rows(loop: Loop) -> list[Row]:
    taken = [await _batch(webhooks=True) for _ in range(ROUNDS)]
    rows = [_row(loop, taken, "webhooks", GOAL)]
    if loop == "asyncio":
        rows.append(_row(loop, [await _batch(webhooks=False)], "polls only", None))
    return rows


def _row(loop: Loop, taken: list[Taken], how: str, goal: float | None) -> Row:
    ideal = EXPORTS / PENDING * SECONDS
    wall = statistics.median(one.spent.wall for one in taken)
    cpu = statistics.median(one.spent.cpu for one in taken) / EXPORTS
    by_webhook = statistics.median(one.by_webhook for one in taken) / EXPORTS
    requests = statistics.median(one.requests for one in taken) / EXPORTS
    ours = f"{wall:.2f} s, CPU {1e3 * cpu:.2f} ms/export, {by_webhook:.0%} by webhook, {requests:.2f} requests/export"
    setting = f"{loop}, {EXPORTS:,} of {SECONDS:g} s, {PENDING} at once, {how}, {len(taken)} rounds"
    return at_most("batch of exports", setting, ours, f"ideal {ideal:.2f} s", wall / ideal, goal)


async def _batch(*, webhooks: bool) -> Taken:
    with tempfile.TemporaryDirectory() as folder, Child("batches", "serve", f"{folder}/ids", str(EXPORTS)) as child:
        token, url = (await asyncio.to_thread(child.read)).split()
        ids = Path(folder, "ids").read_text().split()
        async with contextlib.AsyncExitStack() as stack:
            receiver = await stack.enter_async_context(_receiver(child)) if webhooks else None
            client = await stack.enter_async_context(AvaturnClient(token, base_url=url, webhooks=receiver))
            taken = await _export_all(client, ids)
        return attrs.evolve(taken, requests=int(await child.ask("requests")))


@contextlib.asynccontextmanager
async def _receiver(child: Child) -> AsyncIterator[WebhookReceiver]:
    receiver = WebhookReceiver(secrets.token_urlsafe(24))
    async with receiver, receiver.serve() as server:
        await child.ask(server.url)
        yield receiver


async def _export_all(client: AvaturnClient, ids: list[str]) -> Taken:
    with spending() as spent:
        async with client.exports.batch(ids, max_pending=PENDING) as batch:
            report = await batch.run()
        total = spent()
    if report.failed or len(report.succeeded) != len(ids):
        raise RuntimeError(f"{len(report.failed)} of {len(ids)} exports failed, first: {report.failed[:1]}")
    by_webhook = sum(row["resolved_by"] == "webhook" for row in report.rows())
    return Taken(spent=total, by_webhook=by_webhook, requests=0)


async def _serve(path: str, count: int) -> None:
    """Run the emulator with avatars ready for export. A line of input is the webhook url, or ``requests``."""
    async with Emulator(timing=Timing(scan=0, export=SECONDS, render=0, upload=0)) as avaturn:
        ids = await _avatars(avaturn, count)
        Path(path).write_text("\n".join(ids))
        before = avaturn.counts.total()
        print(avaturn.token, avaturn.url, flush=True)
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            if line == "requests":
                print(avaturn.counts.total() - before, flush=True)
            else:
                avaturn.webhook_url = line
                print("yes", flush=True)


async def _avatars(avaturn: Emulator, count: int) -> list[str]:
    """Make avatars as users of the editor would, fifty sessions at once."""
    made = []
    async with AvaturnClient(avaturn.token, base_url=avaturn.url) as client:
        user = await client.users.create()
        for start in range(0, count, 50):
            sessions = await asyncio.gather(
                *(client.sessions.create(user.id) for _ in range(start, min(start + 50, count)))
            )
            made += [str(await avaturn.complete_session(session.id)) for session in sessions]
    await avaturn.settled()
    return made


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(_serve(sys.argv[2], int(sys.argv[3])))
    else:
        show(run())
