"""The client, an embedded receiver and the emulator together, on real sockets."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest

from avaturn_async import (
    AvatarReadyWebhook,
    AvaturnClient,
    ExportReadyWebhook,
    ExternalAvatarCustomization,
    JobFailedError,
    PollPolicy,
    Unauthenticated,
    Verifier,
    WebhookReceiver,
    WebhooksRequiredError,
)
from avaturn_async.emulator import Emulator, Faults, Timing

NEVER = PollPolicy(first=600, cap=600, first_with_webhooks=600)
TIMING = Timing(scan=0.05, export=0.05, render=0.05)


@asynccontextmanager
async def wired(auth: str | Verifier | None = None) -> AsyncIterator[tuple[Emulator, AvaturnClient, WebhookReceiver]]:
    """Connect a client that does not poll and a receiver to an emulator."""
    receiver = WebhookReceiver(auth or secrets.token_urlsafe(24))
    async with Emulator(timing=TIMING, models="small") as avaturn, receiver.serve() as server:
        avaturn.webhook_url = server.url
        async with AvaturnClient(avaturn.token, base_url=avaturn.url, webhooks=receiver, polling=NEVER) as client:
            yield avaturn, client, receiver


async def ready_avatar(avaturn: Emulator, client: AvaturnClient) -> UUID:
    """Make an avatar in a session, and wait for it by its webhook."""
    user = await client.users.create()
    session = await client.sessions.create(user.id)
    avatar_id = await avaturn.complete_session(session.id)
    assert "ready" == (await client.avatars.pending(user.id, avatar_id).wait()).status
    return avatar_id


async def test_an_export_is_resolved_by_its_webhook() -> None:
    """One create, one confirmation, no poll."""
    async with wired() as (avaturn, client, _):
        avatar_id = await ready_avatar(avaturn, client)
        model = await client.exports.create_and_wait(avatar_id)
        assert ("webhook", 1) == (model.resolved_by, model.polls)
        assert 2 == avaturn.counts["create_export"]


@pytest.mark.parametrize("image_format", ["jpg", "png", "webp"])
async def test_a_render_is_resolved_by_its_webhook(image_format: str, tmp_path: Path) -> None:
    """And its image is of the format that was asked for."""
    magic = {"jpg": b"\xff\xd8\xff", "png": b"\x89PNG", "webp": b"RIFF"}[image_format]
    async with wired() as (avaturn, client, _):
        avatar_id = await ready_avatar(avaturn, client)
        render = await client.renders.create_and_wait(avatar_id, format=image_format)  # type: ignore[arg-type]
        assert ("webhook", avatar_id) == (render.resolved_by, render.avatar_id)
        await render.download(tmp_path / "image")
        assert (tmp_path / "image").read_bytes().startswith(magic)


async def test_early_events_are_not_lost() -> None:
    """Events that arrive before the responses resolve exports and renders."""
    async with wired() as (avaturn, client, _):
        avatar_id = await ready_avatar(avaturn, client)
        avaturn.faults = Faults(webhook_early=1)
        model = await client.exports.create_and_wait(avatar_id)
        render = await client.renders.create_and_wait(avatar_id)
        assert {"webhook"} == {model.resolved_by, render.resolved_by}


async def test_failures_are_told_by_webhook() -> None:
    """A failed export is confirmed by one poll; a failed render, which nothing reads, by none."""
    async with wired() as (avaturn, client, _):
        avatar_id = await ready_avatar(avaturn, client)
        avaturn.faults = Faults(job_failures=1)
        with pytest.raises(JobFailedError) as caught:
            await client.exports.create_and_wait(avatar_id)
        assert "webhook" == caught.value.resolved_by
        with pytest.raises(JobFailedError):
            await client.renders.create_and_wait(avatar_id)
        assert 2 == avaturn.counts["create_export"]


async def test_a_stale_failure_of_an_older_version_ends_nothing() -> None:
    """A late event about the first version does not end the export of the second."""
    async with wired() as (avaturn, client, _):
        avatar_id = await ready_avatar(avaturn, client)
        avaturn.faults = Faults(job_failures=1, webhook_delay=0.4)
        avaturn.timing = Timing(export=0.2)
        await client.exports.create(avatar_id)
        await client.avatars.set_customization(avatar_id, ExternalAvatarCustomization(age="adult"))
        avaturn.faults = Faults()
        avaturn.timing = Timing(export=1.2)
        model = await client.exports.create_and_wait(avatar_id)
        assert ("webhook", {"failed", "ready"}) == (
            model.resolved_by,
            {delivery.event["status"] for delivery in avaturn.deliveries if delivery.event["event"] == "export.ready"},
        )


async def test_callbacks_get_events_that_nobody_awaits() -> None:
    """By name and by class, beside those that are awaited."""
    seen: asyncio.Queue[object] = asyncio.Queue()
    async with wired() as (avaturn, client, receiver):
        receiver.on("avatar.ready")(seen.put)
        receiver.on(ExportReadyWebhook)(seen.put)
        avatar_id = await ready_avatar(avaturn, client)
        await client.exports.create(avatar_id)
        first, second = await seen.get(), await seen.get()
        assert isinstance(first, AvatarReadyWebhook)
        assert isinstance(second, ExportReadyWebhook)
        assert avatar_id == first.avatar_id == second.avatar_id


async def test_an_unauthenticated_receiver_gives_hints() -> None:
    """Exports are confirmed by a read; renders can't be awaited."""
    async with wired(Unauthenticated()) as (avaturn, client, _):
        avatar_id = await ready_avatar(avaturn, client)
        assert "webhook" == (await client.exports.create_and_wait(avatar_id)).resolved_by
        with pytest.raises(WebhooksRequiredError):
            await client.renders.create_and_wait(avatar_id)


async def test_two_clients_share_a_mailbox() -> None:
    """A render awaited by one client is found by another from its resume token."""
    async with wired() as (avaturn, client, receiver):
        avatar_id = await ready_avatar(avaturn, client)
        token = (await client.renders.create(avatar_id)).resume_token
        async with AvaturnClient(avaturn.token, base_url=avaturn.url, webhooks=receiver.mailbox) as other:
            assert "webhook" == (await other.renders.resume(token).wait()).resolved_by
