"""``avaturn wait``: await a job by its resume token."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from .command import Access, Hooks, Overwrite, Timeout, argument, command, connected, in_thread, option
from .export import prepare_folder, saved_as
from .output import Output, size_of
from .render import RENDERS_NEED_WEBHOOKS

WAIT = """Wait for a job by its resume token, and print how it ended.

TOKEN is the resume token of an export, render, avatar or session, from your app or from an error; - reads it from
stdin. It is JSON, so put it in quotes. --out downloads the model or image.
"""


@command(WAIT, "avaturn wait - < export.json", 'avaturn wait "$(cat export.json)" --out avatar.glb')
async def _wait(
    access: Access,
    hooks: Hooks,
    output: Output,
    resume_token: Annotated[str, argument("TOKEN", "The resume token; - is stdin.")],
    out: Annotated[Path | None, option("FILE", "Download the model or image.")] = None,
    overwrite: Overwrite = False,
    timeout: Timeout = 900,
) -> None:
    from_stdin = resume_token == "-"  # noqa: S105 - no password
    token = (await in_thread(sys.stdin.read) if from_stdin else resume_token).strip()
    if not token.startswith("{"):
        raise ValueError("TOKEN must be the JSON of a resume token; to read it from a file: avaturn wait - < FILE")
    try:
        kind = str(json.loads(token)["kind"])
    except (ValueError, TypeError, KeyError, RecursionError):
        kind = "export"  # whose `resume` says what is wrong with the token
    if out is not None:
        if kind in ("avatar", "session"):
            raise ValueError(f"--out is for exports and renders, and this token is of the kind {kind}")
        await in_thread(prepare_folder, out.parent, [out], overwrite=overwrite)
    if kind == "render" and hooks.webhook_port is None:
        raise ValueError(RENDERS_NEED_WEBHOOKS)
    async with connected(access, hooks) as client:
        jobs: dict[str, Any] = {"render": client.renders, "avatar": client.avatars, "session": client.sessions}
        pending = jobs.get(kind, client.exports).resume(token)
        result: Any = await pending.wait(timeout=timeout)
        avatar = getattr(result, "avatar_id", None) or result.id
        record: dict[str, Any] = {"kind": kind, "avatar_id": str(avatar), "status": "ready"}
        if kind == "render":
            record["render_id"] = str(result.id)
        shown = f"the {kind} of " if kind in ("export", "render") else ""
        shown += f"avatar {avatar} is ready"
        if out is not None:
            saved = await result.download(out, overwrite=overwrite, checksum=True)
            record |= saved_as(saved)
            shown = f"{saved.path} ({size_of(saved.size)}): {shown}"
    output.result(record, shown)
