"""``avaturn render``: render an avatar, and download the image."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import avaturn_async as sdk

from .command import (
    AVATAR,
    Access,
    AvatarId,
    Hooks,
    OutFolder,
    Overwrite,
    Timeout,
    command,
    connected,
    in_thread,
    option,
)
from .export import prepare_folder, saved_as
from .output import Output, size_of

__all__ = ["RENDERS_NEED_WEBHOOKS"]

RENDER = """Render an avatar in a scene and download the image.

The image is saved as DIR/ID-SCENE.FORMAT.

The API reports the end of a render only by webhook, so --webhook-port and AVATURN_WEBHOOK_SECRET are required, and the
url in the developer portal must lead to that port.
"""
RENDERS_NEED_WEBHOOKS = (
    "the end of a render is reported only by webhook: give --webhook-port and set AVATURN_WEBHOOK_SECRET"
)


@command(
    RENDER,
    f"avaturn render {AVATAR} --webhook-port 8481",
    f"avaturn render {AVATAR} --webhook-port 8481 --scene common/forest_half_body --format png",
)
async def _render(
    access: Access,
    hooks: Hooks,
    output: Output,
    avatar_id: AvatarId,
    scene: Annotated[str, option("SCENE", "A documented scene, or one of your own.")] = ("common/preview"),
    format: Annotated[Literal["jpg", "png", "webp"], typer.Option(help="The image's format.")] = "jpg",
    out: OutFolder = Path(),
    timeout: Timeout = 900,
    overwrite: Overwrite = False,
) -> None:
    from ..models import as_uuid

    avatar = as_uuid(avatar_id, "the avatar's id")
    if hooks.webhook_port is None:
        raise sdk.WebhooksRequiredError(RENDERS_NEED_WEBHOOKS)
    file = out / f"{avatar}-{scene.replace('/', '-')}.{format}"
    async with connected(access, hooks) as client:
        await in_thread(prepare_folder, out, [file], overwrite=overwrite)
        pending = await client.renders.create(avatar, scene, format=format)
        try:
            made = await pending.wait(timeout=timeout)
        except sdk.WaitTimeoutError as error:
            raise sdk.WaitTimeoutError(
                f"no webhook reported the end of render {pending.id} within {timeout:g} s: check that the url in the "
                f"developer portal leads to {hooks.webhook_host}:{hooks.webhook_port} and ends with the secret",
                timeout=error.timeout,
                status=error.status,
            ) from None
        saved = await made.download(file, overwrite=overwrite, checksum=True)
    record: dict[str, Any] = {"render_id": str(made.id), "avatar_id": str(avatar), "resolved_by": made.resolved_by}
    record |= {"seconds": round(made.waited, 3), **saved_as(saved)}
    output.result(record, f"{saved.path} ({size_of(saved.size)}, by {made.resolved_by} in {made.waited:.2f} s)")
