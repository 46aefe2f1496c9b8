"""``avaturn avatars``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .command import AVATAR, AvatarId, Timeout, UserId, command, group
from .connect import Access, connected
from .output import Column, Output, note
from .runner import DONE

if TYPE_CHECKING:
    from ..models import ExternalAvatarCustomization

__all__ = ["add_to", "read_customization"]

CREATE_HELP = """Create an avatar from three photos and print its id.

It waits until the photos are processed, and then sets a customization, without which exports and renders of the avatar
are undefined: Avaturn's defaults, or those of --customization FILE, such as

\b
  {"body": "body_0", "assets": {"clothing": {"id": "..."},
   "hair_and_headwear": {"id": "...", "color": "#402010"}}}

"avaturn avatars customization get" prints that of another avatar.
"""


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    avatars = group(app, "avatars", help="List, create, customize and delete avatars.")
    command(
        avatars,
        "list",
        help="List the avatars of a user.",
        examples=("avaturn avatars list cm3x8s9d2 --all",),
    )(list_avatars)
    command(
        avatars,
        help=CREATE_HELP,
        examples=(
            "avaturn avatars create cm3x8s9d2 front.jpg left.jpg right.jpg --body-type female",
            "avaturn avatars create cm3x8s9d2 *.jpg --body-type male --customization outfit.json",
        ),
    )(create)
    command(
        avatars,
        help="Delete one avatar of a user, with its cached exports.",
        examples=(f"avaturn avatars delete cm3x8s9d2 {AVATAR}",),
    )(delete)
    customization = group(avatars, "customization", help="Read and set what an avatar looks like.")
    command(
        customization,
        "get",
        help="Print an avatar's customization, as ``set`` takes it.",
        examples=(
            f"avaturn avatars customization get {AVATAR}",
            f"avaturn avatars customization get {AVATAR} > outfit.json",
        ),
    )(get_customization)
    command(
        customization,
        "set",
        help="Set an avatar's customization; this makes a new version of it.",
        examples=(f"avaturn avatars customization set {AVATAR} outfit.json",),
    )(set_customization)


def read_customization(file: Path) -> "ExternalAvatarCustomization":
    """Read a customization from a JSON file, or from stdin for ``-``.

    Raises:
        ValueError: it is not one; the message says where.
    """
    from ..errors import ResponseFormatError
    from ..http import codec
    from ..models import ExternalAvatarCustomization

    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return codec.load(content, ExternalAvatarCustomization)
    except ResponseFormatError as error:
        raise ValueError(f"{file}: {str(error).removeprefix('the response ')}") from None


async def list_avatars(
    access: Access,
    output: Output,
    user_id: UserId,
    everything: Annotated[bool, typer.Option("--all", help="Include those that are not ready, or failed.")] = False,
) -> int:
    """List avatars."""
    async with connected(access) as client:
        found = await client.avatars.list(user_id, include_not_ready=everything)
    for avatar in found:
        output.emit({"avatar_id": str(avatar.id), "status": str(avatar.status)})
    output.table([Column("avatar", 36), Column("status")], [(str(avatar.id), str(avatar.status)) for avatar in found])
    return DONE


async def create(
    access: Access,
    output: Output,
    user_id: UserId,
    frontal: Annotated[Path, typer.Argument(metavar="FRONTAL", help="A JPEG: straight into the camera.")],
    side_1: Annotated[Path, typer.Argument(metavar="SIDE1", help="A JPEG: turned to one side.")],
    side_2: Annotated[Path, typer.Argument(metavar="SIDE2", help="A JPEG: turned to the other side.")],
    body_type: Annotated[str, typer.Option(metavar="male|female")],
    telephoto: Annotated[bool, typer.Option("--telephoto", help="They were taken through a telephoto lens.")] = False,
    customization: Annotated[
        Path | None, typer.Option("--customization", metavar="FILE", help="JSON to customize the avatar with.")
    ] = None,
    no_customization: Annotated[
        bool, typer.Option("--no-customization", help="Set none; the avatar can't be exported until one is set.")
    ] = False,
    timeout: Timeout = 900,
) -> int:
    """Create an avatar."""
    import asyncio

    from ..models import ExternalAvatarCustomization
    from ..resources.photos import Photos

    if customization is not None and no_customization:
        raise ValueError("--customization and --no-customization exclude each other")
    photos = Photos(frontal, side_1, side_2, body_type=body_type, telephoto=telephoto)  # type: ignore[arg-type]
    wanted = None if no_customization else ExternalAvatarCustomization()
    if customization is not None:
        wanted = await asyncio.to_thread(read_customization, customization)
    async with connected(access) as client:
        with output.progress() as bars:
            pending = await client.avatars.create_from_photos(
                user_id, photos, customization=wanted, progress=bars.transfer("photos")
            )
        note(f"uploaded the photos of avatar {pending.avatar_id}; waiting for the scan")
        avatar = await pending.wait(timeout=timeout)
    output.result({"avatar_id": str(avatar.id), "status": str(avatar.status)}, str(avatar.id))
    if no_customization:
        note(f"before the avatar can be exported: avaturn avatars customization set {avatar.id} FILE")
    return DONE


async def delete(
    access: Access,
    output: Output,
    user_id: UserId,
    avatar_id: AvatarId,
    missing_ok: Annotated[bool, typer.Option("--missing-ok", help="Succeed if the avatar does not exist.")] = False,
) -> int:
    """Delete an avatar."""
    from ..errors import NotFoundError

    deleted = True
    async with connected(access) as client:
        try:
            await client.avatars.delete(user_id, avatar_id)
        except NotFoundError:
            if not missing_ok:
                raise
            deleted = False
    told = f"deleted avatar {avatar_id}" if deleted else f"there is no avatar {avatar_id}"
    output.result({"avatar_id": avatar_id, "deleted": deleted}, told)
    return DONE


async def get_customization(access: Access, output: Output, avatar_id: AvatarId) -> int:
    """Print a customization."""
    from ..http.codec import unstructure

    async with connected(access) as client:
        output.document(unstructure(await client.avatars.get_customization(avatar_id)))
    return DONE


async def set_customization(
    access: Access,
    output: Output,
    avatar_id: AvatarId,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON; - is stdin.")],
) -> int:
    """Set a customization."""
    import asyncio

    wanted = await asyncio.to_thread(read_customization, file)
    async with connected(access) as client:
        await client.avatars.set_customization(avatar_id, wanted)
    output.result({"avatar_id": avatar_id, "customized": True}, f"customized avatar {avatar_id}")
    return DONE
