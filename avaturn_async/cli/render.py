"""``avaturn render``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .command import AVATAR, AvatarId, OutFolder, Overwrite, Timeout, command
from .connect import Access, Hooks, connected
from .export import prepare_folder
from .output import Output, size_of
from .runner import DONE

__all__ = ["add_to"]

HELP = """Render an avatar in a scene and download the image.

The image is saved as DIR/ID-SCENE.FORMAT.

The API reports the end of a render by webhook alone. So --webhook-port and AVATURN_WEBHOOK_SECRET are needed, and the
url in the developer portal must lead to that port.
"""


class Format(StrEnum):
    """The formats of images."""

    JPG = "jpg"
    PNG = "png"
    WEBP = "webp"


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    line = f"avaturn render {AVATAR} --webhook-port 8481"
    command(app, help=HELP, examples=(line, f"{line} --scene common/forest_half_body --format png"))(render)


async def render(
    access: Access,
    hooks: Hooks,
    output: Output,
    avatar_id: AvatarId,
    scene: Annotated[str, typer.Option(metavar="SCENE", help="A documented scene, or one of your own.")] = (
        "common/preview"
    ),
    format: Annotated[Format, typer.Option(help="The image's format.")] = Format.JPG,
    out: OutFolder = Path(),
    timeout: Timeout = 900,
    overwrite: Overwrite = False,
) -> int:
    """Render an avatar."""
    import asyncio

    from ..errors import WaitTimeoutError, WebhooksRequiredError
    from ..models import as_uuid

    avatar = as_uuid(avatar_id, "the avatar's id")
    if hooks.port is None:
        raise WebhooksRequiredError(
            "the end of a render is reported by webhook alone: give --webhook-port and set AVATURN_WEBHOOK_SECRET"
        )
    file = out / f"{avatar}-{scene.replace('/', '-')}.{format}"
    async with connected(access, hooks) as client:
        await asyncio.to_thread(prepare_folder, out, [] if overwrite else [file])
        pending = await client.renders.create(avatar, scene, format=format.value)
        try:
            made = await pending.wait(timeout=timeout)
        except WaitTimeoutError as error:
            raise WaitTimeoutError(
                f"no webhook reported the end of render {pending.id} within {timeout:g} s: check that the url in the "
                f"developer portal leads to {hooks.host}:{hooks.port} and ends with the secret",
                timeout=error.timeout,
                status=error.status,
            ) from None
        saved = await made.download(file, overwrite=overwrite, checksum=True)
    record: dict[str, Any] = {"render_id": str(made.id), "avatar_id": str(avatar), "resolved_by": made.resolved_by}
    record |= {"seconds": round(made.waited, 3), "size": saved.size, "sha256": saved.sha256, "file": str(saved.path)}
    output.result(record, f"{saved.path} ({size_of(saved.size)}, by {made.resolved_by} in {made.waited:.2f} s)")
    return DONE
