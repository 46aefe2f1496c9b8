"""``avaturn export``, and how an exported model is shown."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from .command import AVATAR, OutFolder, Overwrite, Timeout, command
from .connect import Access, Hooks, connected
from .output import Column, Output, size_of
from .runner import DONE, FAILED, failure, tell_of

if TYPE_CHECKING:
    from uuid import UUID

    from ..pending.results import Download, Export

__all__ = ["COLUMNS", "Model", "add_to", "prepare_folder"]

HELP = """Export avatars as GLB models and download them, as DIR/ID.glb.

Exports are polled. With --webhook-port and AVATURN_WEBHOOK_SECRET they are awaited by webhook as well, which is quicker
and costs fewer requests.
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
    """A model on the disk, and its export."""

    export: "Export"
    download: "Download"

    def record(self) -> dict[str, Any]:
        """Return the record for machines."""
        export, download = self
        return {
            "avatar_id": str(export.avatar_id),
            "resolved_by": export.resolved_by,
            "seconds": round(export.waited, 3),
            "polls": export.polls,
            "size": download.size,
            "sha256": download.sha256,
            "file": str(download.path),
        }

    def row(self) -> tuple[str, ...]:
        """Return the row of the table for people, with the file's name alone: its folder is named elsewhere."""
        export, download = self
        seconds, size = f"{export.waited:.2f} s", size_of(download.size)
        return str(export.avatar_id), export.resolved_by, seconds, str(export.polls), size, download.path.name


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    lines = (
        f"avaturn export {AVATAR} --out models",
        "avaturn export $(cat ids.txt) --out models --webhook-port 8481",
    )
    command(app, help=HELP, examples=lines)(export)


def prepare_folder(folder: Path, files: Iterable[Path] = ()) -> None:
    """Create a folder for downloads, and raise FileExistsError for the first of `files` that exists."""
    for file in files:
        if file.exists():
            raise FileExistsError(errno.EEXIST, "it exists already; --overwrite replaces it", str(file))
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    folder.mkdir(parents=True, exist_ok=True)


async def export(
    access: Access,
    hooks: Hooks,
    output: Output,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Avatars; each is exported once.")],
    out: OutFolder = Path(),
    timeout: Timeout = 900,
    overwrite: Overwrite = False,
) -> int:
    """Export avatars."""
    import asyncio

    from ..errors import AuthenticationError, AvaturnError, PaymentRequiredError
    from ..models import as_uuid

    files = {avatar: out / f"{avatar}.glb" for avatar in (as_uuid(each, "the avatar's id") for each in ids)}
    models: list[Model] = []

    async def one(avatar: "UUID") -> None:
        try:
            made = await client.exports.create_and_wait(avatar, timeout=timeout)
            model = Model(made, await made.download(files[avatar], overwrite=overwrite, checksum=True))
            models.append(model)
            output.emit(model.record())
        except (AuthenticationError, PaymentRequiredError):
            raise  # each of the others would fail too
        except AvaturnError as error:
            tell_of(avatar, error)
            output.emit({"avatar_id": str(avatar), "error": type(error).__name__, "message": failure(error)})
        stage.advance()

    async with connected(access, hooks) as client:
        await asyncio.to_thread(prepare_folder, out, [] if overwrite else files.values())
        with output.progress() as progress:
            stage = progress.stage("exports", len(files))
            async with asyncio.TaskGroup() as tasks:
                for avatar in files:
                    tasks.create_task(one(avatar))
    if models:
        order = list(files)
        models.sort(key=lambda model: order.index(model.export.avatar_id))
        output.table(COLUMNS, [model.row() for model in models])
    return DONE if len(models) == len(files) else FAILED
