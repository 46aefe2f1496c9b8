"""``avaturn wait``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .command import Overwrite, Timeout, command
from .connect import Access, Hooks, connected
from .export import prepare_folder
from .output import Output, size_of
from .runner import DONE

if TYPE_CHECKING:
    from ..client import AvaturnClient

__all__ = ["add_to"]

HELP = """Wait for a job by its resume token, and print how it ended.

TOKEN is that of an export, render, avatar or session, as your app stored it or an error carried it; - reads
it from stdin. It is JSON, so put it in quotes. --out downloads the model or image.
"""


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    lines = "avaturn wait - < export.json", 'avaturn wait "$(cat export.json)" --out avatar.glb'
    command(app, help=HELP, examples=lines)(wait)


async def wait(
    access: Access,
    hooks: Hooks,
    output: Output,
    resume_token: Annotated[str, typer.Argument(metavar="TOKEN", help="The resume token; - is stdin.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Download the model or image.")] = None,
    overwrite: Overwrite = False,
    timeout: Timeout = 900,
) -> int:
    """Wait for a job."""
    import asyncio

    from_stdin = resume_token == "-"  # noqa: S105 - no password
    token = await asyncio.to_thread(sys.stdin.read) if from_stdin else resume_token
    kind = _kind_of(token)
    if out is not None:
        if kind in ("avatar", "session"):
            raise ValueError(f"--out is for exports and renders, and this token is of the kind {kind}")
        await asyncio.to_thread(prepare_folder, out.parent, [] if overwrite else [out])
    if kind == "render" and hooks.port is None:
        raise ValueError(
            "a render's end is reported by webhook alone: give --webhook-port and set AVATURN_WEBHOOK_SECRET"
        )
    async with connected(access, hooks) as client:
        result: Any = await _resume(client, kind, token.strip()).wait(timeout=timeout)
        avatar = getattr(result, "avatar_id", None) or result.id
        record: dict[str, Any] = {"kind": kind, "avatar_id": str(avatar), "status": "ready"}
        if kind == "render":
            record["render_id"] = str(result.id)
        shown = (
            f"the {kind} of avatar {avatar} is ready" if kind in ("export", "render") else f"avatar {avatar} is ready"
        )
        if out is not None:
            saved = await result.download(out, overwrite=overwrite, checksum=True)
            record |= {"size": saved.size, "sha256": saved.sha256, "file": str(saved.path)}
            shown = f"{saved.path} ({size_of(saved.size)}): {shown}"
    output.result(record, shown)
    return DONE


def _kind_of(token: str) -> str:
    """Return what a token is of. Whatever is no token counts as an export's, which says what is wrong with it."""
    import json

    try:
        return str(json.loads(token)["kind"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return "export"


def _resume(client: "AvaturnClient", kind: str, token: str) -> Any:
    calls: dict[str, Any] = {
        "render": client.renders.resume,
        "avatar": client.avatars.resume,
        "session": client.sessions.resume,
    }
    return calls.get(kind, client.exports.resume)(token)
