"""``avaturn batch``: export the avatars of a table; and the tables, counts and progress that `make` uses too."""

import sys
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from uuid import UUID

import avaturn_async as sdk

from .command import (
    DONE,
    FAILED,
    Access,
    Hooks,
    OutFolder,
    Reports,
    Timeout,
    command,
    connected,
    failure,
    flag,
    in_thread,
    option,
    tell_of,
)
from .export import prepare_folder
from .output import Column, Output, note, size_of
from .reports import ReportWriter

if TYPE_CHECKING:
    from ..batch.table import Row, Table

__all__ = ["Planned", "Tally", "read_table", "run_plan", "show_plan", "tracker"]

HELP = """Export the avatars of a table and download them, as DIR/ID.glb.

The table is CSV with a header, as spreadsheets write it, JSON lines, or one id a line. An avatar that comes twice is
exported once. --name makes the names of files from the columns of their row.

With --journal the same command continues where an earlier one ended: whole models are kept, pending exports are
awaited, what failed is tried again. --retry takes the avatars from a journal: those that failed or did not end. Without
a journal, existing files are replaced. A journal must be in a folder that only you can write to.

--to s3://BUCKET/PREFIX, gs:// or az:// puts the models in an object store, with the settings of its own tools in the
environment; this needs the package obstore.
"""

#: Failures of one kind that are printed individually.
PRINTED = 20
#: Lines of progress that a whole batch prints where stderr is not a terminal.
LINES = 20
#: Rows that a dry run shows to people.
ROWS = 10


class Planned(NamedTuple):
    """A row of a table: what identifies it and the name of its file, or why it can't be used."""

    row: "Row"
    key: "UUID | str"
    name: str
    error: Exception | None = None
    photos: "sdk.Photos | None" = None


@command(
    HELP,
    "avaturn batch --from ids.txt --out models --journal batch.db",
    "avaturn batch --from people.csv --name '{user_id}/{avatar_id}.glb'",
    "avaturn batch --from ids.txt --report r.csv --failed-to f.csv --html r.html",
    "psql -Atc 'select id from avatars' | avaturn batch --to s3://models/new",
    "avaturn batch --retry batch.db --out models --failed-to failed.csv",
)
async def _batch(
    access: Access,
    hooks: Hooks,
    reports: Reports,
    output: Output,
    source: Annotated[
        Path | None, option("FILE", "The table; - is stdin.", "--from", show_default="stdin", allow_dash=True)
    ] = None,
    column: Annotated[str, option("NAME", "The column with the ids of avatars.")] = "avatar_id",
    name: Annotated[str | None, option("TEMPLATE", "How files are named.", show_default="{avatar_id}.glb")] = None,
    out: OutFolder = Path(),
    to: Annotated[str | None, option("URL", "An object store for the files, not a folder.")] = None,
    journal: Annotated[Path | None, option("FILE", "A SQLite file from which the same command continues.")] = None,
    retry: Annotated[Path | None, option("JOURNAL", "Export what failed or did not end in an earlier batch.")] = None,
    dry_run: Annotated[bool, flag("--dry-run", "Check the table; export nothing.")] = False,
    timeout: Timeout = 900,
    max_pending: Annotated[int, option("N", "Exports awaited at once.", min=1)] = 256,
    max_downloads: Annotated[int, option("N", "Downloads at once.", min=1)] = 8,
) -> int:
    if retry is not None and (source, name, journal) != (None, None, None):
        raise ValueError("--retry takes the avatars and names of its journal: leave out --from, --name and --journal")
    if to is not None and out != Path():
        raise ValueError("--out and --to exclude each other: files go into a folder or into a store")
    sink = None if to is None else await in_thread(_sink, to)
    columns: tuple[str, ...]
    plan: Callable[[], Iterable[Planned]]
    async with AsyncExitStack() as stack:
        client = None if dry_run and retry is None else await stack.enter_async_context(connected(access, hooks))
        if retry is not None:
            assert client is not None  # noqa: S101 - mypy
            plan, columns = (await _unfinished(client, retry)).copy, ("avatar_id",)
        else:
            table = await in_thread(read_table, source or Path("-"), column)
            table.require(column, where=str(source or "stdin"))
            plan, columns = partial(_planned, table, column, name, folder=sink is None), table.columns
        if client is None or dry_run:
            return show_plan(plan(), output)
        if sink is None:
            await in_thread(prepare_folder, out)
        options: dict[str, Any] = {"sink": sink, "download_to": out if sink is None else None, "timeout": timeout}
        options |= {"journal": retry or journal, "max_pending": max_pending, "max_downloads": max_downloads}
        tally, writer = Tally(output, out if to is None else to), await in_thread(ReportWriter, reports, columns)
        start = partial(client.exports.batch, **options)
        return await run_plan(start, plan, tally, writer, resumable=options["journal"] is not None)


async def run_plan(
    start: "Callable[..., sdk.ExportBatch]",
    plan: Callable[[], Iterable[Planned]],
    tally: "Tally",
    writer: ReportWriter,
    *,
    resumable: bool = True,
    under_way: "dict[UUID, Planned] | None" = None,
    describe: "Callable[[Any, sdk.BatchOutcome], Awaitable[tuple[dict[str, str], sdk.BatchOutcome]]] | None" = None,
) -> int:
    """Report the rows that can't be used as failed, run a batch of the others, and return the exit code.

    Args:
        start: starts the batch of the keys of rows.
        plan: returns the rows; called twice, so that they are not kept in memory.
        tally: counts and prints the outcomes.
        writer: writes the outcomes to files; it is closed here.
        resumable: whether the batch has a journal.
        under_way: the dict in which to keep the rows under way, by their keys.
        describe: returns the fields to add to the record of an outcome, and the outcome to report.
    """
    import asyncio

    rows: dict[Any, Planned] = {} if under_way is None else under_way
    count = 0

    def keys() -> "Iterator[UUID | str]":
        for each in plan():
            if each.error is None:
                rows[each.key] = each
                yield each.key

    async with writer:
        for each in plan():
            count += each.error is None
            if each.error is not None:
                outcome = sdk.BatchOutcome(avatar_id=each.key, error=each.error, attempts=0)
                tally.add(outcome)
                await writer.add(each.row, outcome)
        try:
            with tracker(tally.output, count) as on_progress:
                async with start(keys(), name=lambda key: rows[key].name, on_progress=on_progress) as running:
                    async for outcome in running:
                        row, made = rows.pop(outcome.avatar_id).row, None
                        if describe is not None:
                            made, outcome = await describe(outcome.avatar_id, outcome)
                        tally.add(outcome, made and {"line": row.line, **made})
                        await writer.add(row, outcome, made or {})
        except asyncio.CancelledError:
            if resumable:
                note(f"{tally.done} were done; the same command continues from here")
            raise
        await tally.end(writer)
    return FAILED if tally.failed else DONE


def read_table(source: Path, column: str) -> "Table":
    """Read a table from a file, or from stdin for ``-``."""
    from ..batch.table import Table

    if str(source) == "-":
        if sys.stdin.isatty():
            note("reading rows, or ids, one a line, until Ctrl-D; --from FILE reads a file")
        return Table(sys.stdin.buffer.read(), column)
    return Table(source.read_bytes(), column)


def _planned(table: "Table", column: str, template: str | None, *, folder: bool) -> Iterator[Planned]:
    """Yield the rows of a table. Repeated avatars are skipped or, where rows name the files, yielded as errors."""
    from ..batch.table import FileNames, Row
    from ..models import as_uuid

    names = None if template is None else FileNames(template, (*table.columns, "avatar_id"), folder=folder)
    lines: dict[UUID, int] = {}
    for row in table:
        try:
            avatar = row.parse(column, as_uuid)
            earlier = lines.setdefault(avatar, row.line)
            if earlier == row.line:
                cells = {**row.cells, "avatar_id": str(avatar)}
                yield Planned(row, avatar, names.claim(Row(row.line, cells)) if names else f"{avatar}.glb")
            elif names is not None:
                error = ValueError(f"line {row.line}: avatar {avatar} is also that of line {earlier}")
                yield Planned(row, avatar, "", error)
        except ValueError as error:
            yield Planned(row, row.cells.get(column, ""), "", error)


async def _unfinished(client: "sdk.AvaturnClient", path: Path) -> list[Planned]:
    """Return the avatars that a journal records as failed or unfinished."""
    from ..batch.journal import Journal
    from ..batch.table import Row

    await in_thread(path.stat)  # opening a missing journal would create it
    async with aclosing(Journal(path, client.base_url)) as journal:
        await journal.open()
        found = await journal.unfinished()
    return [
        Planned(Row(line, {"avatar_id": str(avatar)}), avatar, name or f"{avatar}.glb")
        for line, (avatar, name) in enumerate(found, 1)
    ]


def _sink(url: str) -> "sdk.Sink":
    """Open an object store; obstore reads regions, keys and endpoints from the environment."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError:
        raise sdk.ConfigurationError("--to needs a package: pip install 'avaturn-async[obstore]'") from None
    try:
        return sdk.ObjectStoreSink(from_url(url))
    except (BaseError, ValueError):
        problem = f"--to {url.partition('?')[0]} is not the url of an object store, such as s3://BUCKET/PREFIX"
    raise ValueError(problem)


def show_plan(plan: Iterable[Planned], output: Output) -> int:
    """Print a dry run: each row as JSON or, for people, the first rows and all problems."""
    good, bad, shown = 0, 0, []
    for each in plan:
        line = each.row.line
        if each.error is None:
            good += 1
            output.emit({"line": line, "file": each.name, **each.row.cells})
            if good <= ROWS:
                shown.append((str(line), each.name))
        else:
            bad += 1
            output.emit({"line": line, "error": type(each.error).__name__, "message": failure(each.error)})
            note(f"avaturn: {failure(each.error)}")
    if shown:
        output.table([Column("line", numbers=True), Column("file")], shown)
    more = f" ({good - ROWS:,} more than shown)" if good > ROWS else ""
    output.line(f"{good:,} can be done{more}, {bad:,} can't; nothing was sent")
    return FAILED if bad else DONE


class Tally:
    """Counts and prints outcomes as they arrive, without keeping them."""

    def __init__(self, output: Output, target: Path | str) -> None:
        self.output = output
        self._target = target
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

    def add(self, outcome: "sdk.BatchOutcome", row: dict[str, Any] | None = None) -> None:
        """Count an outcome; print its record with the fields of `row` or, for people, only failures."""
        told, error = row or {}, outcome.error
        if error is None:
            self.done += 1
            self._size += outcome.download.size if outcome.download else 0
            if outcome.export is None:
                self._earlier += 1
            else:
                self._waited.append(outcome.export.waited)
            fields = outcome.row()
            record = {name: fields[name] for name in ("avatar_id", "resolved_by", "attempts")}
            if outcome.export is not None:
                record |= {"seconds": fields["waited"], "polls": fields["polls"]}
            if outcome.download is not None:
                record |= {name: fields[name] for name in ("size", "sha256", "file")}
            self.output.emit(told | record)
            return
        kind = type(error).__name__
        self._reasons[kind] += 1
        record = {"avatar_id": str(outcome.avatar_id), "error": kind, "message": failure(error)}
        self.output.emit(told | record | {"attempts": outcome.attempts})
        if isinstance(error, sdk.AuthenticationError | sdk.PaymentRequiredError):  # after which a batch stops
            if self._reasons[kind] == 1:
                note(f"avaturn: {failure(error)}; nothing more is sent")
        elif self._reasons[kind] <= PRINTED:
            tell_of(f"line {told['line']}" if told else outcome.avatar_id, error)
        elif self._reasons[kind] == PRINTED + 1:
            note(f"avaturn: further {kind} failures are only counted")

    async def end(self, writer: ReportWriter) -> None:
        """Print the summary, and write it to files."""
        waits = self._percentiles()
        totals = {"done": f"{self.done:,}", "failed": f"{self.failed:,}", "in files": size_of(self._size)}
        totals |= {"took": f"{self._clock() - self._started:.1f} s"}
        totals |= {f"{share}th percentile of waits": f"{value:.1f} s" for share, value in waits.items()}
        target = await in_thread(self._target.absolute) if isinstance(self._target, Path) else self._target
        await writer.finish(f"Avatars exported to {target}", totals, self._waited, self._reasons)
        self.sum_up()

    def sum_up(self) -> None:
        """Print the summary: how many are done, how many failed and why, and how long exports took."""
        seconds = self._clock() - self._started
        waits = self._percentiles()
        record = {"done": self.done, "before": self._earlier, "failed": self.failed, "size": self._size}
        self.output.emit(record | {"seconds": round(seconds, 3), "percentiles": waits, "reasons": self._reasons})
        earlier = f" ({self._earlier} of them before)" if self._earlier else ""
        self.output.line(f"{self.done:,} done{earlier}, {self.failed:,} failed, in {seconds:.1f} s")
        self.output.line(f"{size_of(self._size)} in {self._target}")
        for kind, number in self._reasons.most_common():
            self.output.line(f"{number:,} x {kind}")
        if waits:
            shown = ", ".join(f"{share}th {value:.1f} s" for share, value in waits.items())
            self.output.line(f"export times by percentile: {shown}")

    def _percentiles(self) -> dict[int, float]:
        from ..batch.items import percentiles

        return {share: round(seconds, 3) for share, seconds in percentiles(self._waited).items()}


@contextmanager
def tracker(output: Output, total: int) -> "Iterator[Callable[[sdk.BatchProgress], object]]":
    """Return the progress callback of a batch: it updates a bar on a terminal, and prints lines elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

    step = max(1, total // LINES)
    following = step

    def print_line(now: "sdk.BatchProgress") -> None:
        nonlocal following
        ended = now.done + now.failed
        if ended >= following:
            following = ended - ended % step + step
            note(f"exports: {ended} of {total}, {_described(now)}")

    bar = output.bars(BarColumn(bar_width=16), MofNCompleteColumn(), TextColumn("{task.fields[shown]}"))
    if bar is None:
        yield print_line
        return
    with bar:
        task = bar.add_task("", total=total, shown="")
        yield lambda now: bar.update(task, completed=now.done + now.failed, shown=_described(now))


def _described(now: "sdk.BatchProgress") -> str:
    parts = [f"{now.failed} failed", f"{now.pending} under way"]
    if now.rate is not None:
        parts.append(f"{now.rate:.1f}/s")
    if now.eta is not None:
        parts.append(f"{timedelta(seconds=round(now.eta))} left")
    return ", ".join(parts)
