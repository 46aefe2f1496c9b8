"""``avaturn batch``."""

import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .command import OutFolder, Timeout, command
from .connect import Access, Hooks, connected
from .export import prepare_folder
from .output import Output, note, size_of
from .runner import DONE, FAILED, failure, tell_of

if TYPE_CHECKING:
    from ..batch.report import BatchOutcome, BatchProgress

__all__ = ["Tally", "add_to", "percentiles", "read_ids", "tracker"]

HELP = """Export many avatars and download them, as DIR/ID.glb.

Empty lines and lines that begin with # are skipped, and an id that comes twice is exported once. With --journal the
same command continues where an earlier one ended: whole models are kept, pending exports are awaited. Without it,
existing files are replaced. A journal must be in a folder that only you can write to.
"""

#: Failures of one kind that are printed one by one.
PRINTED = 20
PERCENTILES = (50, 95, 99)
#: Lines of progress that a whole batch prints where there is no terminal.
LINES = 20


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    lines = (
        "avaturn batch --from ids.txt --out models --journal batch.db",
        "psql -Atc 'select avatar_id from avatars' | avaturn batch --out models --journal batch.db --json",
    )
    command(app, help=HELP, examples=lines)(batch)


def read_ids(source: Path) -> list[str]:
    """Read the lines of a file, or of stdin for ``-``, without empty ones, comments and duplicates."""
    if str(source) == "-":
        if sys.stdin.isatty():
            note("reading ids of avatars, one a line, until Ctrl-D; --from FILE reads a file")
        content = sys.stdin.buffer.read()
    else:
        content = source.read_bytes()
    lines = (line.strip() for line in content.decode("utf-8-sig", "replace").splitlines())
    ids: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith("#"):
            ids.setdefault(line.lower().replace("-", ""), line)  # a UUID in any of its forms
    return list(ids.values())


async def batch(
    access: Access,
    hooks: Hooks,
    output: Output,
    source: Annotated[
        Path, typer.Option("--from", metavar="FILE", help="Ids of avatars, one a line; - is stdin.", allow_dash=True)
    ] = Path("-"),
    out: OutFolder = Path(),
    journal: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A SQLite file from which the same command continues.")
    ] = None,
    timeout: Timeout = 900,
    max_pending: Annotated[int, typer.Option(min=1, metavar="N", help="Exports awaited at once.")] = 256,
    max_downloads: Annotated[int, typer.Option(min=1, metavar="N", help="Downloads at once.")] = 8,
) -> int:
    """Export many avatars."""
    import asyncio

    ids = await asyncio.to_thread(read_ids, source)
    tally = Tally(output, out)
    try:
        async with connected(access, hooks) as client:
            await asyncio.to_thread(prepare_folder, out)
            with tracker(output, len(ids)) as on_progress:
                async with client.exports.batch(
                    ids,
                    download_to=out,
                    journal=journal,
                    timeout=timeout,
                    max_pending=max_pending,
                    max_downloads=max_downloads,
                    on_progress=on_progress,
                ) as running:
                    async for outcome in running:
                        tally.add(outcome)
    except asyncio.CancelledError:
        if journal is not None:
            note(f"{tally.done} were done; the same command continues from here")
        raise
    tally.sum_up()
    return FAILED if tally.failed else DONE


class Tally:
    """Counts outcomes as they come, without keeping them."""

    def __init__(self, output: Output, folder: Path) -> None:
        import time

        self._output = output
        self._folder = folder
        self._clock = time.monotonic
        self._started = self._clock()
        self._reasons: Counter[str] = Counter()
        self._waited = array("d")
        self._size = 0
        self._earlier = 0
        self.done: int = 0

    @property
    def failed(self) -> int:
        """How many ended with an error."""
        return self._reasons.total()

    def add(self, outcome: "BatchOutcome") -> None:
        """Count an outcome and print its record; people see failures alone."""
        if outcome.error is not None:
            self._add_failure(outcome, outcome.error)
            return
        self.done += 1
        self._size += outcome.download.size if outcome.download else 0
        if outcome.export is None:
            self._earlier += 1
        else:
            self._waited.append(outcome.export.waited)
        self._output.emit(_record(outcome))

    def sum_up(self) -> None:
        """Print how many are done, how many failed and why, and how long exports took."""
        seconds = self._clock() - self._started
        waits = percentiles(self._waited)
        record = {"done": self.done, "before": self._earlier, "failed": self.failed, "size": self._size}
        self._output.emit(record | {"seconds": round(seconds, 3), "percentiles": waits, "reasons": self._reasons})
        earlier = f" ({self._earlier} of them before)" if self._earlier else ""
        self._output.line(f"{self.done:,} done{earlier}, {self.failed:,} failed, in {seconds:.1f} s")
        self._output.line(f"{size_of(self._size)} in {self._folder}")
        for kind, number in self._reasons.most_common():
            self._output.line(f"{number:,} x {kind}")
        if waits:
            shown = ", ".join(f"{value:.1f} s at the {share}th" for share, value in waits.items())
            self._output.line(f"from the start of an export to its end, by percentile: {shown}")

    def _add_failure(self, outcome: "BatchOutcome", error: Exception) -> None:
        kind = type(error).__name__
        self._reasons[kind] += 1
        record = {"avatar_id": str(outcome.avatar_id), "error": kind, "message": failure(error)}
        self._output.emit(record | {"attempts": outcome.attempts})
        if self._reasons[kind] <= PRINTED:
            tell_of(outcome.avatar_id, error)
        elif self._reasons[kind] == PRINTED + 1:
            note(f"avaturn: further {kind} failures are only counted")


def percentiles(waited: Sequence[float]) -> dict[int, float]:
    """Return seconds by percentile, of the nearest rank; nothing for an empty sequence."""
    ranked = sorted(waited)
    return {share: round(ranked[-(-share * len(ranked) // 100) - 1], 3) for share in PERCENTILES} if ranked else {}


def _record(outcome: "BatchOutcome") -> dict[str, Any]:
    row = outcome.row()
    record = {"avatar_id": row["avatar_id"], "resolved_by": row["resolved_by"], "attempts": row["attempts"]}
    if outcome.export is not None:
        record |= {"seconds": row["waited"], "polls": row["polls"]}
    if outcome.download is not None:
        record |= {"size": row["size"], "sha256": row["sha256"], "file": row["file"]}
    return record


@contextmanager
def tracker(output: Output, total: int) -> "Iterator[Callable[[BatchProgress], object]]":
    """Return the callback for a batch's progress: a bar on a terminal, a line now and then elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from .terminal import console_on

    console = console_on(sys.stderr)
    if not console.is_terminal or output.as_json:
        yield _print_lines(total)
        return
    columns = BarColumn(bar_width=16), MofNCompleteColumn(), TextColumn("{task.fields[shown]}")
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("", total=total, shown="")
        yield lambda now: bar.update(task, completed=now.done + now.failed, shown=_described(now))


def _print_lines(total: int) -> "Callable[[BatchProgress], object]":
    step = max(1, total // LINES)
    following = step

    def show(now: "BatchProgress") -> None:
        nonlocal following
        ended = now.done + now.failed
        if ended >= following:
            following = ended - ended % step + step
            note(f"exports: {ended} of {total}, {_described(now)}")

    return show


def _described(now: "BatchProgress") -> str:
    from datetime import timedelta

    parts = [f"{now.failed} failed", f"{now.pending} under way"]
    if now.rate is not None:
        parts.append(f"{now.rate:.1f}/s")
    if now.eta is not None:
        parts.append(f"{timedelta(seconds=round(now.eta))} left")
    return ", ".join(parts)
