"""``avaturn avatars``."""

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from . import customization
from .connecting import Access, connected
from .options import BaseUrl, Json, Timeout, Token, examples
from .output import Column, Output, note
from .running import DONE, off_loop, run

__all__ = ["add_to"]

avatars = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

UserId = Annotated[str, typer.Argument(metavar="USER")]
AvatarId = Annotated[str, typer.Argument(metavar="ID")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    customization.add_to(avatars)
    app.add_typer(avatars, name="avatars", help="List, create, customize and delete avatars.")


class Scan(NamedTuple):
    """An avatar to be made."""

    photos: tuple[Path, Path, Path]
    body_type: str
    telephoto: bool
    customization: Path | None
    timeout: float


@avatars.command("list", epilog=examples("avaturn avatars list cm3x8s9d2 --all"))
def list_(
    user_id: UserId,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are not ready, or failed.")] = False,
    token: Token = None,
    base_url: BaseUrl = None,
    json: Json = False,
) -> None:
    """List the avatars of a user."""
    run(_list(Access(token, base_url), Output(as_json=json), user_id, everything=everything))


@avatars.command(
    epilog=examples(
        "avaturn avatars create cm3x8s9d2 front.jpg left.jpg right.jpg --body-type female --customization outfit.json",
    )
)
def create(
    user_id: UserId,
    frontal: Annotated[Path, typer.Argument(metavar="FRONTAL", help="A JPEG: straight into the camera.")],
    side_1: Annotated[Path, typer.Argument(metavar="SIDE1", help="A JPEG: turned to one side.")],
    side_2: Annotated[Path, typer.Argument(metavar="SIDE2", help="A JPEG: turned to the other.")],
    body_type: Annotated[str, typer.Option(metavar="male|female")],
    telephoto: Annotated[bool, typer.Option("--telephoto", help="They were taken through a telephoto lens.")] = False,
    customization: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON to customize the avatar with; exports need it.")
    ] = None,
    timeout: Timeout = 900,
    token: Token = None,
    base_url: BaseUrl = None,
    json: Json = False,
) -> None:
    """Create an avatar from three photos and print its id.

    It waits until the photos are processed.
    """
    scan = Scan((frontal, side_1, side_2), body_type, telephoto, customization, timeout)
    run(_create(Access(token, base_url), Output(as_json=json), user_id, scan))


@avatars.command(epilog=examples("avaturn avatars delete cm3x8s9d2 0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00"))
def delete(
    user_id: UserId,
    avatar_id: AvatarId,
    missing_ok: Annotated[bool, typer.Option("--missing-ok", help="Be content where there is no such avatar.")] = False,
    token: Token = None,
    base_url: BaseUrl = None,
    json: Json = False,
) -> None:
    """Delete one avatar of a user, with its cached exports."""
    run(_delete(Access(token, base_url), Output(as_json=json), user_id, avatar_id, missing_ok=missing_ok))


async def _list(access: Access, output: Output, user_id: str, *, everything: bool) -> int:
    async with connected(access) as client:
        found = await client.avatars.list(user_id, include_not_ready=everything)
    for avatar in found:
        output.emit({"avatar_id": str(avatar.id), "status": str(avatar.status)})
    output.table([Column("avatar", 36), Column("status")], [(str(avatar.id), str(avatar.status)) for avatar in found])
    return DONE


async def _create(access: Access, output: Output, user_id: str, scan: Scan) -> int:
    from ..resources.photos import Photos

    frontal, side_1, side_2 = scan.photos
    photos = Photos(frontal, side_1, side_2, body_type=scan.body_type, telephoto=scan.telephoto)  # type: ignore[arg-type]
    wanted = None if scan.customization is None else await off_loop(customization.read, scan.customization)
    async with connected(access) as client:
        pending = await client.avatars.create_from_photos(user_id, photos, customization=wanted)
        note(f"uploaded the photos of avatar {pending.avatar_id}; waiting for the scan")
        avatar = await pending.wait(timeout=scan.timeout)
    output.result({"avatar_id": str(avatar.id), "status": str(avatar.status)}, str(avatar.id))
    return DONE


async def _delete(access: Access, output: Output, user_id: str, avatar_id: str, *, missing_ok: bool) -> int:
    async with connected(access) as client:
        await client.avatars.delete(user_id, avatar_id, missing_ok=missing_ok)
    output.result({"avatar_id": avatar_id, "deleted": True}, f"deleted avatar {avatar_id}")
    return DONE
