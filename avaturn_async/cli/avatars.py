"""``avaturn avatars``: list, create, customize and delete avatars."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import avaturn_async as sdk

from .command import (
    AVATAR,
    Access,
    AvatarId,
    MissingOk,
    Timeout,
    UserId,
    argument,
    command,
    connected,
    deleted,
    flag,
    group,
    in_thread,
    option,
)
from .output import Column, Output, note

__all__ = ["read_customization"]

avatars: typer.Typer = group("avatars", "List, create, customize and delete avatars.")
customization: typer.Typer = group("customization", "Read and set what an avatar looks like.", avatars)

CREATE = """Create an avatar from three photos and print its id.

Waits until the photos are processed, then sets a customization, without which an avatar can't be exported or rendered:
Avaturn's defaults, or that of --customization FILE, such as

\b
  {"body": "body_0", "assets": {"clothing": {"id": "..."},
   "hair_and_headwear": {"id": "...", "color": "#402010"}}}

"avaturn avatars customization get" prints the customization of another avatar.
"""


@command("List the avatars of a user.", "avaturn avatars list cm3x8s9d2 --all", name="list", among=avatars)
async def _list(
    access: Access,
    output: Output,
    user_id: UserId,
    everything: Annotated[bool, flag("--all", "Include those that are not ready, or failed.")] = False,
) -> None:
    async with connected(access) as client:
        found = await client.avatars.list(user_id, include_not_ready=everything)
    for avatar in found:
        output.emit({"avatar_id": str(avatar.id), "status": str(avatar.status)})
    output.table([Column("avatar", 36), Column("status")], [(str(avatar.id), str(avatar.status)) for avatar in found])


@command(
    CREATE,
    "avaturn avatars create cm3x8s9d2 front.jpg left.jpg right.jpg --body-type female",
    "avaturn avatars create cm3x8s9d2 *.jpg --body-type male --customization outfit.json",
    name="create",
    among=avatars,
)
async def _create(
    access: Access,
    output: Output,
    user_id: UserId,
    frontal: Annotated[Path, argument("FRONTAL", "A JPEG: straight into the camera.")],
    side_1: Annotated[Path, argument("SIDE1", "A JPEG: turned to one side.")],
    side_2: Annotated[Path, argument("SIDE2", "A JPEG: turned to the other side.")],
    body_type: Annotated[str, typer.Option(metavar="male|female")],
    telephoto: Annotated[bool, flag("--telephoto", "They were taken through a telephoto lens.")] = False,
    customization: Annotated[Path | None, option("FILE", "JSON to customize the avatar with.")] = None,
    no_customization: Annotated[
        bool, flag("--no-customization", "Set none; the avatar can't be exported until one is set.")
    ] = False,
    timeout: Timeout = 900,
) -> None:
    if customization is not None and no_customization:
        raise ValueError("--customization and --no-customization exclude each other")
    photos = sdk.Photos(frontal, side_1, side_2, body_type=body_type, telephoto=telephoto)  # type: ignore[arg-type]
    wanted = None if no_customization else await in_thread(read_customization, customization)
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


@command(
    "Delete one avatar of a user, with its cached exports.",
    f"avaturn avatars delete cm3x8s9d2 {AVATAR}",
    name="delete",
    among=avatars,
)
async def _delete(
    access: Access, output: Output, user_id: UserId, avatar_id: AvatarId, missing_ok: MissingOk = False
) -> None:
    async with connected(access) as client:
        await deleted("avatar", avatar_id, client.avatars.delete(user_id, avatar_id), missing_ok, output)


@command(
    "Print an avatar's customization, as ``set`` takes it.",
    f"avaturn avatars customization get {AVATAR}",
    f"avaturn avatars customization get {AVATAR} > outfit.json",
    among=customization,
)
async def _get(access: Access, output: Output, avatar_id: AvatarId) -> None:
    from ..http.codec import unstructure

    async with connected(access) as client:
        output.document(unstructure(await client.avatars.get_customization(avatar_id)))


@command(
    "Set an avatar's customization; this makes a new version of it.",
    f"avaturn avatars customization set {AVATAR} outfit.json",
    among=customization,
)
async def _set(
    access: Access, output: Output, avatar_id: AvatarId, file: Annotated[Path, argument("FILE", "JSON; - is stdin.")]
) -> None:
    wanted = await in_thread(read_customization, file)
    async with connected(access) as client:
        await client.avatars.set_customization(avatar_id, wanted)
    output.result({"avatar_id": avatar_id, "customized": True}, f"customized avatar {avatar_id}")


def read_customization(file: Path | None) -> "sdk.ExternalAvatarCustomization":
    """Read a customization from a JSON file, or from stdin for ``-``; None is Avaturn's default.

    Raises:
        ValueError: it is not a customization; the message names the file and the place in it.
    """
    from ..http import codec

    if file is None:
        return sdk.ExternalAvatarCustomization()
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return codec.load(content, sdk.ExternalAvatarCustomization)
    except sdk.ResponseFormatError as error:
        raise ValueError(f"{file}: {str(error).removeprefix('the response ')}") from None
