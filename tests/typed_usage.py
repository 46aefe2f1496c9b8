"""What a type checker is to make of the SDK's calls; it is checked, never run."""

from __future__ import annotations

from typing import Any, assert_type
from uuid import UUID

import avaturn_async as av
from avaturn_async import AvaturnClient


async def usage(client: AvaturnClient, avatar_id: UUID) -> None:
    """Call everything once."""
    user = assert_type(await client.users.create(), av.NewUserResponse)
    assert_type(await client.users.delete(user.id, missing_ok=True), None)
    config = av.EditExistingSessionConfig(avatar_id=avatar_id)
    assert_type(await client.sessions.create(user.id, config), av.NewSessionResponse)
    assert_type(await client.avatars.list(user.id, include_not_ready=True), list[av.AvatarListItem])
    made = assert_type(await client.avatars.create(user.id), av.NewAvatarResponse)
    photos = av.Photos("frontal.jpg", "side_1.jpg", b"", body_type="male", telephoto=True)
    assert_type(await client.avatars.upload(made.upload_url, photos), av.ScanStatus)
    customization = assert_type(await client.avatars.get_customization(avatar_id), av.ExternalAvatarCustomization)
    assert_type(await client.avatars.set_customization(str(avatar_id), customization), None)
    assert_type(await client.avatars.delete(user.id, avatar_id), None)
    scan = assert_type(await client.avatars.create_from_photos(user.id, photos), av.PendingAvatar)
    assert_type(await scan, av.AvatarListItem)
    assert_type(scan.user_id, str)
    session = assert_type(await client.sessions.create(user.id), av.NewSessionResponse)
    assert_type(await client.sessions.pending(session), av.AvatarListItem)
    assert_type(scan.status, av.ScanStatus)
    export = assert_type(await client.exports.create(avatar_id), av.PendingExport)
    model = assert_type(await export.wait(timeout=None), av.Export)
    assert_type(export.status, av.RenderStatus)
    assert_type(await client.exports.create_and_wait(avatar_id, timeout=60), av.Export)
    assert_type(client.exports.resume(export.resume_token), av.PendingExport)
    got = assert_type(await model.download("avatar.glb"), av.Download)
    assert_type(got.size, int)
    async for chunk in model.stream():
        assert_type(chunk, bytes)
    render = assert_type(await client.renders.create(avatar_id, format="png"), av.PendingRender)
    image = assert_type(await render, av.Render)
    assert_type(image.id, UUID)


def errors(error: av.AvaturnError) -> None:
    """Look at what errors carry."""
    assert_type(error.resume_token, str | None)
    if isinstance(error, av.RateLimitError):
        assert_type(error.retry_after, float | None)
    if isinstance(error, av.GoneError):
        assert_type(error.asset_ids, tuple[UUID, ...])


async def webhooks(receiver: av.WebhookReceiver) -> None:
    """Register callbacks, and pass a webhook on by hand."""

    @receiver.on("avatar.ready")
    @receiver.on(av.AvatarReadyWebhook)
    async def on_avatar(event: av.AvatarReadyWebhook) -> int:
        return 1

    @receiver.on("export.ready")
    @receiver.on(av.ExportReadyWebhook)
    async def on_export(event: av.ExportReadyWebhook) -> None: ...

    @receiver.on("render.ready")
    @receiver.on(av.RenderReadyWebhook)
    async def on_render(event: av.RenderReadyWebhook) -> None: ...

    @receiver.on("body.ready")
    async def on_unknown(event: av.UnknownEvent) -> None: ...

    @receiver.on("avatar.ready")
    @receiver.on("export.ready")
    async def on_any(event: av.Event) -> None: ...

    assert_type(
        await on_avatar(av.AvatarReadyWebhook(avatar_id=UUID(int=0))), int
    )  # a decorated function keeps its type
    receiver.on("avatar.ready")(on_export)  # type: ignore[type-var]
    receiver.on(av.AvatarReadyWebhook)(on_export)  # type: ignore[type-var]
    receiver.on(av.RenderReadyWebhook)(on_export)  # type: ignore[type-var]
    receiver.on("export.ready")(print)  # type: ignore[type-var]
    receiver.on(on_export)  # type: ignore[call-overload]
    assert_type(await receiver.handle(b"", path="", headers={"a": "b"}), av.Reply)
    assert_type(receiver.aws_lambda({})["statusCode"], Any)
