"""A client, an emulator and avatars to export."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from avaturn_async import AvaturnClient, PollPolicy
from avaturn_async.emulator import Emulator, Timing

QUICK = PollPolicy(first=0.05, factor=1.5, cap=0.3)


@asynccontextmanager
async def avatars(
    count: int, *, seed: int = 0, timing: Timing | None = None, **options: object
) -> AsyncIterator[tuple[Emulator, AvaturnClient, list[UUID]]]:
    """Run an emulator with so many avatars that can be exported, and a client that polls quickly."""
    async with (
        Emulator(seed=seed, timing=timing or Timing(scan=0, export=0.05), model_variety=4) as avaturn,
        AvaturnClient(avaturn.token, base_url=avaturn.url, **{"polling": QUICK, **options}) as client,  # type: ignore[arg-type]
    ):
        user = await client.users.create()
        made = []
        for _ in range(count):
            session = await client.sessions.create(user.id)
            made.append(await avaturn.complete_session(session.id))
        await avaturn.settled()
        yield avaturn, client, made
