"""Webhooks as Avaturn sends them."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

from avaturn_async import AvatarReadyWebhook, ExportReadyWebhook, Mailbox, MemoryMailbox, RenderReadyWebhook

SECRET = "s3cretPathSegment_aaaaaaaa"
OTHER = "another-PathSegment_bbbbbbb"
AVATAR = UUID("0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00")
RENDER = UUID("0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f01")


def avatar(number: int = 0) -> UUID:
    """Return the id of an avatar, one for each number."""
    return UUID(int=AVATAR.int + (number << 64))


def export_event(avatar_id: UUID = AVATAR, **changes: Any) -> ExportReadyWebhook:
    """Make an export's event."""
    return ExportReadyWebhook(**{"avatar_id": avatar_id, "user_id": "u", "status": "ready"} | changes)


def avatar_event(avatar_id: UUID = AVATAR) -> AvatarReadyWebhook:
    """Make an avatar's event."""
    return AvatarReadyWebhook(avatar_id=avatar_id)


def render_event(render_id: UUID = RENDER, **changes: Any) -> RenderReadyWebhook:
    """Make a render's event."""
    return RenderReadyWebhook(
        **{"id": render_id, "avatar_id": AVATAR, "user_id": "u", "status": "ready", "render_url": "https://r"} | changes
    )


def export_body(avatar_id: UUID = AVATAR, **changes: Any) -> bytes:
    """Return the bytes of an export's event."""
    event = {"event": "export.ready", "avatar_id": str(avatar_id), "user_id": "u", "status": "ready"}
    return json.dumps(event | changes).encode()


def render_body(render_id: UUID = RENDER, **changes: Any) -> bytes:
    """Return the bytes of a render's event."""
    event = {"event": "render.ready", "id": str(render_id), "avatar_id": str(AVATAR), "user_id": "u"}
    return json.dumps(event | {"status": "ready", "render_url": "https://r"} | changes).encode()


class Gated(MemoryMailbox):
    """A mailbox whose store is slow."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.gate = asyncio.Event(), asyncio.Event()

    async def deliver(self, event: Any, *, authenticated: bool = True) -> None:
        """Wait for the gate."""
        self.asked.set()
        await self.gate.wait()
        await super().deliver(event, authenticated=authenticated)


async def check_session_key(mailbox: Mailbox) -> None:
    """Check that an event which names its session is one delivery under two keys, whatever an odd name of it."""
    session = UUID(int=5)
    await mailbox.deliver(AvatarReadyWebhook(avatar_id=AVATAR, session_id=str(session).upper()))
    delivery = await mailbox.wait(f"session:{session}", "")
    assert delivery == await mailbox.wait(f"avatar:{AVATAR}", "")
    assert delivery.id == await mailbox.position(f"session:{session}")
    await mailbox.deliver(AvatarReadyWebhook(avatar_id=AVATAR, session_id="odd"))
    assert "odd" == (await mailbox.wait(f"avatar:{AVATAR}", delivery.id)).event.session_id  # type: ignore[union-attr]
