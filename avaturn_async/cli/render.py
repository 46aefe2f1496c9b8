"""``avaturn render``."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ..errors import WebhooksRequiredError
from .connecting import Access, Hooks, connected, unique_ids
from .files import make_folder, refuse_existing
from .options import BaseUrl, Json, OutFolder, Overwrite, Secret, Timeout, Token, WebhookHost, WebhookPort, examples
from .output import Output, size_of
from .running import DONE, off_loop, run

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    line = "avaturn render 0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00 --webhook-port 8481 --secret $SECRET"
    app.command(epilog=examples(line, f"{line} --scene common/forest_half_body --format png"))(render)


class Format(StrEnum):
    """The formats of images."""

    JPG = "jpg"
    PNG = "png"
    WEBP = "webp"


class Picture(NamedTuple):
    """An image to be made."""

    scene: str
    format: Format
    folder: Path
    timeout: float
    overwrite: bool

    def file(self, avatar: "UUID") -> Path:
        """Return where the image goes."""
        return self.folder / f"{avatar}-{self.scene.replace('/', '-')}.{self.format}"


def render(
    avatar_id: Annotated[str, typer.Argument(metavar="ID")],
    scene: Annotated[str, typer.Option(metavar="SCENE", help="A documented scene, or one of your own.")] = (
        "common/preview"
    ),
    format: Annotated[Format, typer.Option(help="The image's format.")] = Format.JPG,
    out: OutFolder = Path(),
    timeout: Timeout = 900,
    overwrite: Overwrite = False,
    webhook_host: WebhookHost = "127.0.0.1",
    webhook_port: WebhookPort = None,
    secret: Secret = None,
    token: Token = None,
    base_url: BaseUrl = None,
    json: Json = False,
) -> None:
    """Render an avatar in a scene and download the image.

    The file is DIR/ID-SCENE.FORMAT. The API tells by webhook alone that a render is over, so --webhook-port and
    --secret are needed: those of the url in the developer portal.
    """
    picture, hooks = Picture(scene, format, out, timeout, overwrite), Hooks(webhook_host, webhook_port, secret)
    run(_render(Access(token, base_url), hooks, Output(as_json=json), avatar_id, picture))


async def _render(access: Access, hooks: Hooks, output: Output, avatar_id: str, picture: Picture) -> int:
    (avatar,) = unique_ids([avatar_id])
    if hooks.port is None:
        raise WebhooksRequiredError("the end of a render is told by webhook alone: give --webhook-port and --secret")
    async with connected(access, hooks) as client:
        await off_loop(_prepare, picture, avatar)
        pending = await client.renders.create(avatar, picture.scene, format=picture.format.value)
        made = await pending.wait(timeout=picture.timeout)
        file = await made.download(picture.file(avatar), overwrite=picture.overwrite)
    record: dict[str, Any] = {"render_id": str(made.id), "avatar_id": str(avatar), "resolved_by": made.resolved_by}
    record |= {"seconds": round(made.waited, 3), "size": file.size, "sha256": file.sha256, "file": str(file.path)}
    output.result(record, f"{file.path} ({size_of(file.size)}, by {made.resolved_by} in {made.waited:.2f} s)")
    return DONE


def _prepare(picture: Picture, avatar: "UUID") -> None:
    if not picture.overwrite:
        refuse_existing([picture.file(avatar)])
    make_folder(picture.folder)
