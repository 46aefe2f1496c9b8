"""``avaturn avatars customization``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .connecting import Access, connected
from .options import BaseUrl, Json, Token, examples
from .output import Output
from .running import DONE, off_loop, run

if TYPE_CHECKING:
    from ..models import ExternalAvatarCustomization

__all__ = ["add_to", "read"]

customization = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

AvatarId = Annotated[str, typer.Argument(metavar="ID")]

EXAMPLE = "0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00"


def add_to(avatars: typer.Typer) -> None:
    """Add the commands to those of avatars."""
    avatars.add_typer(customization, name="customization", help="Read and set what an avatar looks like.")


def read(file: Path) -> "ExternalAvatarCustomization":
    """Read a customization from a file, or from stdin for ``-``; raise ValueError for what is none."""
    from ..errors import ResponseFormatError
    from ..http import codec
    from ..models import ExternalAvatarCustomization

    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return codec.load(content, ExternalAvatarCustomization)
    except ResponseFormatError as error:
        raise ValueError(f"{file}: {str(error).removeprefix('the answer ')}") from None


@customization.command(
    epilog=examples(
        f"avaturn avatars customization get {EXAMPLE}",
        f"avaturn avatars customization get {EXAMPLE} > outfit.json",
    )
)
def get(avatar_id: AvatarId, token: Token = None, base_url: BaseUrl = None, json: Json = False) -> None:
    """Print an avatar's customization, as ``set`` takes it."""
    run(_get(Access(token, base_url), Output(as_json=json), avatar_id))


@customization.command("set", epilog=examples(f"avaturn avatars customization set {EXAMPLE} outfit.json"))
def set_(
    avatar_id: AvatarId,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON; - is stdin.")],
    token: Token = None,
    base_url: BaseUrl = None,
    json: Json = False,
) -> None:
    """Set an avatar's customization; this makes a new version of it."""
    run(_set(Access(token, base_url), Output(as_json=json), avatar_id, file))


async def _get(access: Access, output: Output, avatar_id: str) -> int:
    import json as jsonlib

    from ..http.codec import unstructure

    async with connected(access) as client:
        found = unstructure(await client.avatars.get_customization(avatar_id))
    output.result(found, jsonlib.dumps(found, indent=2, ensure_ascii=False))
    return DONE


async def _set(access: Access, output: Output, avatar_id: str, file: Path) -> int:
    wanted = await off_loop(read, file)
    async with connected(access) as client:
        await client.avatars.set_customization(avatar_id, wanted)
    output.result({"avatar_id": avatar_id, "customized": True}, f"customized avatar {avatar_id}")
    return DONE
