"""A client, a receiver and the emulator together, and what must be left of them: nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import psutil

from avaturn_async import AvaturnClient, PollPolicy, WebhookReceiver
from avaturn_async.emulator import Emulator

FULL = os.environ.get("AVATURN_CHAOS") == "full"
SEED = int(os.environ.get("AVATURN_CHAOS_SEED", secrets.randbelow(2**31)))
QUICK = PollPolicy(first=0.5, factor=1.6, cap=5, first_with_webhooks=3)


def scaled(full: int, short: int) -> int:
    """Return how many: `full` in the long form."""
    return full if FULL else short


async def make_avatars(client: AvaturnClient, avaturn: Emulator, count: int) -> list[UUID]:
    """Make avatars as users of the editor would, all ready to be exported."""
    print(f"seed {SEED}")
    user = await client.users.create()
    made = []
    for _ in range(count):
        session = await client.sessions.create(user.id)
        made.append(await avaturn.complete_session(session.id))
    await avaturn.settled()
    return made


@asynccontextmanager
async def wired(avaturn: Emulator, **options: object) -> AsyncIterator[tuple[AvaturnClient, WebhookReceiver]]:
    """Connect a client and an embedded receiver to the emulator."""
    receiver = WebhookReceiver(secrets.token_urlsafe(24))
    async with receiver, receiver.serve() as server:
        avaturn.webhook_url = server.url
        async with AvaturnClient(
            avaturn.token,
            base_url=avaturn.url,
            webhooks=receiver,
            **{"polling": QUICK, **options},  # type: ignore[arg-type]
        ) as client:
            yield client, receiver
    avaturn.webhook_url = None


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Check that the block leaves no task and no open file or socket."""
    me = psutil.Process()
    tasks, files = asyncio.all_tasks(), me.num_fds()
    yield
    for _ in range(50):
        gc.collect()
        if not asyncio.all_tasks() - tasks and me.num_fds() <= files:
            return
        await asyncio.sleep(0.02)
    assert not asyncio.all_tasks() - tasks
    assert me.num_fds() <= files
