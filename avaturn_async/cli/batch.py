"""``avaturn batch``."""

import sys
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from .connecting import Access, Hooks
from .options import BaseUrl, Json, OutFolder, Secret, Timeout, Token, WebhookHost, WebhookPort, examples
from .output import Output
from .running import refuse, run

__all__ = ["add_to", "read_ids"]


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    lines = examples(
        "avaturn batch --from ids.txt --out models --journal batch.db",
        "psql -Atc 'select avatar_id from avatars' | avaturn batch --out models --journal batch.db --json",
    )
    app.command(epilog=lines)(batch)


class Load(NamedTuple):
    """A batch to be run."""

    ids: list[str]
    folder: Path
    journal: Path | None
    timeout: float
    max_pending: int
    max_downloads: int


def batch(
    source: Annotated[
        Path, typer.Option("--from", metavar="FILE", help="Ids of avatars, one a line; - is stdin.", allow_dash=True)
    ] = Path("-"),
    out: OutFolder = Path(),
    journal: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A SQLite file by which the same command goes on.")
    ] = None,
    timeout: Timeout = 900,
    max_pending: Annotated[int, typer.Option(min=1, metavar="N", help="Exports awaited at once.")] = 256,
    max_downloads: Annotated[int, typer.Option(min=1, metavar="N", help="Downloads at once.")] = 8,
    webhook_host: WebhookHost = "127.0.0.1",
    webhook_port: WebhookPort = None,
    secret: Secret = None,
    token: Token = None,
    base_url: BaseUrl = None,
    json: Json = False,
) -> None:
    """Export many avatars and download them, as DIR/ID.glb.

    Empty lines and lines that begin with # are skipped, and an id that comes twice is exported once. With --journal
    the same command goes on where an earlier one ended: whole models are kept, what was pending is awaited further.
    Without, files that are there are replaced.
    """
    try:
        ids = read_ids(source)
    except OSError as error:
        refuse(error)
    from .batching import run_batch

    load = Load(ids, out, journal, timeout, max_pending, max_downloads)
    hooks = Hooks(webhook_host, webhook_port, secret)
    run(run_batch(Access(token, base_url), hooks, Output(as_json=json), load))


def read_ids(source: Path) -> list[str]:
    """Read the ids in a file, or stdin for ``-``, each once: one a line, without empty lines and comments."""
    content = sys.stdin.buffer.read() if str(source) == "-" else source.read_bytes()
    lines = (line.strip() for line in content.decode("utf-8-sig", "replace").splitlines())
    unique: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith("#"):
            unique.setdefault(line.casefold(), line)
    return list(unique.values())
