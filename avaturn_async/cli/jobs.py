"""``avaturn export``, ``render`` and ``wait``: await jobs, and download their results."""

import errno
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from .command import (
    AVATAR,
    DONE,
    FAILED,
    Access,
    AvatarId,
    Hooks,
    OutFolder,
    Overwrite,
    Timeout,
    command,
    connected,
    failure,
    tell_of,
)
from .output import Column, Output, size_of

if TYPE_CHECKING:
    from uuid import UUID

    from ..pending.results import Download, Export

__all__ = ["COLUMNS", "Model", "prepare_folder", "saved_as"]

EXPORT = """Export avatars as GLB models and download them, as DIR/ID.glb.

Exports are polled. With --webhook-port and AVATURN_WEBHOOK_SECRET they are also awaited by webhook, which is quicker
and takes fewer requests.
"""
RENDER = """Render an avatar in a scene and download the image.

The image is saved as DIR/ID-SCENE.FORMAT.

The API reports the end of a render only by webhook, so --webhook-port and AVATURN_WEBHOOK_SECRET are required, and the
url in the developer portal must lead to that port.
"""
WAIT = """Wait for a job by its resume token, and print how it ended.

TOKEN is the resume token of an export, render, avatar or session, from your app or from an error; - reads it from
stdin. It is JSON, so put it in quotes. --out downloads the model or image.
"""
RENDERS_NEED_WEBHOOKS = (
    "the end of a render is reported only by webhook: give --webhook-port and set AVATURN_WEBHOOK_SECRET"
)
COLUMNS = (
    Column("avatar", 36),
    Column("by"),
    Column("took", numbers=True),
    Column("polls", numbers=True),
    Column("size", numbers=True),
    Column("file"),
)


class Model(NamedTuple):
    """A downloaded model, and its export."""

    export: "Export"
    download: "Download"

    def record(self) -> dict[str, Any]:
        """Return the record for --json."""
        export = self.export
        record = {"avatar_id": str(export.avatar_id), "resolved_by": export.resolved_by}
        return record | {"seconds": round(export.waited, 3), "polls": export.polls, **saved_as(self.download)}

    def row(self) -> tuple[str, ...]:
        """Return the row of the table `COLUMNS`; it has the file's name without its folder."""
        export, download = self
        seconds, size = f"{export.waited:.2f} s", size_of(download.size)
        return str(export.avatar_id), export.resolved_by, seconds, str(export.polls), size, download.path.name


def saved_as(download: "Download") -> dict[str, Any]:
    """Return the part of a record that describes a file."""
    return {"size": download.size, "sha256": download.sha256, "file": str(download.path)}


def prepare_folder(folder: Path, files: Iterable[Path] = ()) -> None:
    """Create a folder for downloads, and raise FileExistsError for the first of `files` that exists."""
    for file in files:
        if file.exists():
            raise FileExistsError(errno.EEXIST, "it exists already; --overwrite replaces it", str(file))
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    folder.mkdir(parents=True, exist_ok=True)


@command(
    EXPORT,
    f"avaturn export {AVATAR} --out models",
    "avaturn export $(cat ids.txt) --out models --webhook-port 8481",
)
async def _export(
    access: Access,
    hooks: Hooks,
    output: Output,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Avatars; repeated ids are exported once.")],
    out: OutFolder = Path(),
    timeout: Timeout = 900,
    overwrite: Overwrite = False,
) -> int:
    import asyncio

    from ..errors import AuthenticationError, AvaturnError, PaymentRequiredError
    from ..models import as_uuid

    files = {avatar: out / f"{avatar}.glb" for avatar in (as_uuid(each, "the avatar's id") for each in ids)}
    models: dict[UUID, Model] = {}

    async def one(avatar: "UUID") -> None:
        try:
            made = await client.exports.create_and_wait(avatar, timeout=timeout)
            saved = await made.download(files[avatar], overwrite=overwrite, checksum=True)
            models[avatar] = Model(made, saved)
            output.emit(models[avatar].record())
        except (AuthenticationError, PaymentRequiredError):
            raise  # the other exports would fail too
        except AvaturnError as error:
            tell_of(avatar, error)
            output.emit({"avatar_id": str(avatar), "error": type(error).__name__, "message": failure(error)})
        advance()

    async with connected(access, hooks) as client:
        await asyncio.to_thread(prepare_folder, out, [] if overwrite else files.values())
        with output.progress() as progress:
            advance = progress.stage("exports", len(files))
            async with asyncio.TaskGroup() as tasks:
                for avatar in files:
                    tasks.create_task(one(avatar))
    if models:
        output.table(COLUMNS, [models[avatar].row() for avatar in files if avatar in models])
    return DONE if len(models) == len(files) else FAILED


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
    scene: Annotated[str, typer.Option(metavar="SCENE", help="A documented scene, or one of your own.")] = (
        "common/preview"
    ),
    format: Annotated[Literal["jpg", "png", "webp"], typer.Option(help="The image's format.")] = "jpg",
    out: OutFolder = Path(),
    timeout: Timeout = 900,
    overwrite: Overwrite = False,
) -> int:
    import asyncio

    from ..errors import WaitTimeoutError, WebhooksRequiredError
    from ..models import as_uuid

    avatar = as_uuid(avatar_id, "the avatar's id")
    if hooks.webhook_port is None:
        raise WebhooksRequiredError(RENDERS_NEED_WEBHOOKS)
    file = out / f"{avatar}-{scene.replace('/', '-')}.{format}"
    async with connected(access, hooks) as client:
        await asyncio.to_thread(prepare_folder, out, [] if overwrite else [file])
        pending = await client.renders.create(avatar, scene, format=format)
        try:
            made = await pending.wait(timeout=timeout)
        except WaitTimeoutError as error:
            raise WaitTimeoutError(
                f"no webhook reported the end of render {pending.id} within {timeout:g} s: check that the url in the "
                f"developer portal leads to {hooks.webhook_host}:{hooks.webhook_port} and ends with the secret",
                timeout=error.timeout,
                status=error.status,
            ) from None
        saved = await made.download(file, overwrite=overwrite, checksum=True)
    record: dict[str, Any] = {"render_id": str(made.id), "avatar_id": str(avatar), "resolved_by": made.resolved_by}
    record |= {"seconds": round(made.waited, 3), **saved_as(saved)}
    output.result(record, f"{saved.path} ({size_of(saved.size)}, by {made.resolved_by} in {made.waited:.2f} s)")
    return DONE


@command(WAIT, "avaturn wait - < export.json", 'avaturn wait "$(cat export.json)" --out avatar.glb')
async def _wait(
    access: Access,
    hooks: Hooks,
    output: Output,
    resume_token: Annotated[str, typer.Argument(metavar="TOKEN", help="The resume token; - is stdin.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Download the model or image.")] = None,
    overwrite: Overwrite = False,
    timeout: Timeout = 900,
) -> int:
    import asyncio

    from_stdin = resume_token == "-"  # noqa: S105 - no password
    token = (await asyncio.to_thread(sys.stdin.read) if from_stdin else resume_token).strip()
    try:
        kind = str(json.loads(token)["kind"])
    except (ValueError, TypeError, KeyError, RecursionError):
        kind = "export"  # whose `resume` says what is wrong with the token
    if out is not None:
        if kind in ("avatar", "session"):
            raise ValueError(f"--out is for exports and renders, and this token is of the kind {kind}")
        await asyncio.to_thread(prepare_folder, out.parent, [] if overwrite else [out])
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
    return DONE
