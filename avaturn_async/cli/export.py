"""``avaturn export``: export avatars, and download the models."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import avaturn_async as sdk

from .command import (
    AVATAR,
    DONE,
    FAILED,
    Access,
    Hooks,
    OutFolder,
    Overwrite,
    Timeout,
    argument,
    command,
    connected,
    failure,
    in_thread,
    tell_of,
)
from .output import Column, Output, size_of

__all__ = ["COLUMNS", "Model", "prepare_folder", "saved_as"]

EXPORT = """Export avatars as GLB models and download them, as DIR/ID.glb.

Exports are polled. With --webhook-port and AVATURN_WEBHOOK_SECRET they are also awaited by webhook, which is quicker
and takes fewer requests.
"""
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

    export: "sdk.Export"
    download: "sdk.Download"

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


def saved_as(download: "sdk.Download") -> dict[str, Any]:
    """Return the part of a record that describes a file."""
    return {"size": download.size, "sha256": download.sha256, "file": str(download.path)}


def prepare_folder(folder: Path, files: Iterable[Path] = (), *, overwrite: bool = False) -> None:
    """Create a folder for downloads; raise OSError if one of `files` is a folder or, unless `overwrite`, exists."""
    for file in files:
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
        if file.exists() and not overwrite:
            raise FileExistsError(errno.EEXIST, "it exists already; --overwrite replaces it", str(file))
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    folder.mkdir(parents=True, exist_ok=True)


@command(
    EXPORT, f"avaturn export {AVATAR} --out models", "avaturn export $(cat ids.txt) --out models --webhook-port 8481"
)
async def _export(
    access: Access,
    hooks: Hooks,
    output: Output,
    ids: Annotated[list[str], argument("ID...", "Avatars; repeated ids are exported once.")],
    out: OutFolder = Path(),
    timeout: Timeout = 900,
    overwrite: Overwrite = False,
) -> int:
    import asyncio

    from ..models import as_uuid

    files = {avatar: out / f"{avatar}.glb" for avatar in (as_uuid(each, "the avatar's id") for each in ids)}
    models: dict[UUID, Model] = {}

    async def one(avatar: "UUID") -> None:
        try:
            made = await client.exports.create_and_wait(avatar, timeout=timeout)
            saved = await made.download(files[avatar], overwrite=overwrite, checksum=True)
            models[avatar] = Model(made, saved)
            output.emit(models[avatar].record())
        except (sdk.AuthenticationError, sdk.PaymentRequiredError):
            raise  # the other exports would fail too
        except sdk.AvaturnError as error:
            tell_of(avatar, error)
            output.emit({"avatar_id": str(avatar), "error": type(error).__name__, "message": failure(error)})
        advance()

    async with connected(access, hooks) as client:
        await in_thread(prepare_folder, out, files.values(), overwrite=overwrite)
        with output.progress() as progress:
            advance = progress.stage("exports", len(files))
            async with asyncio.TaskGroup() as tasks:
                for avatar in files:
                    tasks.create_task(one(avatar))
    if models:
        output.table(COLUMNS, [models[avatar].row() for avatar in files if avatar in models])
    return DONE if len(models) == len(files) else FAILED
