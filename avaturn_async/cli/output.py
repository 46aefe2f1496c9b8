"""Print results to stdout, for people or as lines of JSON, and notes and progress to stderr.

Everything that a command prints passes through here. Ids, urls and messages come from an API and from files, so control
characters, which could drive a terminal, are removed for people and escaped for machines.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rich.console import Console
    from rich.progress import Progress as Bars, ProgressColumn

__all__ = ["Column", "Output", "Progress", "note", "one_line", "page", "size_of"]

#: Characters after which a text for people is cut; an API could send megabytes.
LONGEST = 4_000
#: Terminals with fewer columns get tables with narrow gaps.
ROOMY = 90
#: Width of a line where the output is not a terminal.
ENDLESS = 10_000


class Column(NamedTuple):
    """A column of a table: its heading, its width if that is fixed, and whether it has numbers."""

    heading: str
    width: int | None = None
    numbers: bool = False


class Output:
    """The results of a command: `emit` prints for machines, `line` and `table` for people, `result` for either."""

    def __init__(
        self, as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False
    ) -> None:
        self.as_json: bool = as_json

    def emit(self, record: Mapping[str, Any]) -> None:
        """Print a record as a line of JSON, in ASCII, where --json was given."""
        if self.as_json:
            _print(_json(record))

    def line(self, text: str) -> None:
        """Print a line, unless --json was given."""
        if not self.as_json:
            _print(one_line(text))

    def text(self, text: str) -> None:
        """Print lines that need no cleaning, unless --json was given."""
        if not self.as_json:
            _print(text)

    def document(self, record: Mapping[str, Any]) -> None:
        """Print a record as JSON: indented for people, on one line for machines."""
        _print(_json(record) if self.as_json else _json(record, indent=2))

    def result(self, record: Mapping[str, Any], text: str) -> None:
        """Print a record for machines, or a line for people."""
        self.emit(record)
        self.line(text)

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        """Print a table for people. Cells are never cut: wide ones continue on the next line."""
        if self.as_json:
            return
        from rich.table import Table

        console = _console_on(sys.stdout)
        gap = 1 if console.width < ROOMY else 2
        headings = any(column.heading for column in columns)
        table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold", show_header=headings)
        for heading, width, numbers in columns:
            table.add_column(heading, width=width, justify="right" if numbers else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(one_line, row))
        with console.capture() as capture:
            console.print(table)
        _print("\n".join(line.rstrip() for line in capture.get().splitlines()))

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Show the progress of stages of work: bars on a terminal, plain lines elsewhere."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with self.bars(*columns) or nullcontext() as bars:
            yield Progress(bars)

    def bars(self, *columns: ProgressColumn) -> Bars | None:
        """Make progress bars, which disappear at the end; None where stderr is no terminal, or JSON is printed."""
        from rich.progress import Progress as Bars

        console = _console_on(sys.stderr)
        if self.as_json or not console.is_terminal:
            return None
        # Results go to stdout unchanged; notes on stderr are printed above the bars.
        return Bars(*columns, console=console, transient=True, redirect_stdout=False)


class Progress:
    """The progress of stages of work. Without bars, a line is printed when a stage begins and ends."""

    def __init__(self, bars: Bars | None) -> None:
        self._bars = bars

    def stage(self, name: str, total: int) -> Callable[[], None]:
        """Begin a stage of `total` pieces; the callback counts one more as done."""
        bars, done = self._bars, 0
        if bars is not None:
            task = bars.add_task(name, total=total)
            return lambda: bars.advance(task)

        def advance() -> None:
            nonlocal done
            done += 1
            if done == total:
                note(f"{name}: {done} of {total}")

        note(f"{name}: 0 of {total}")
        return advance

    def transfer(self, name: str) -> Callable[[int, int], None]:
        """Begin a transfer, which only bars show; the callback takes the bytes so far, and in all."""
        bars = self._bars
        if bars is None:
            return lambda done, size: None
        task = bars.add_task(f"{name}, kB", total=None)
        return lambda done, size: bars.update(task, completed=done // 1000, total=size // 1000)


def note(text: str) -> None:
    """Print one line to stderr, above a progress bar if there is one."""
    sys.stderr.write(f"{_encodable(one_line(text), sys.stderr.encoding)}\n")
    sys.stderr.flush()


def one_line(text: str) -> str:
    """Return a text on one line, without control characters, and cut if it is very long."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in text[: 2 * LONGEST]).split())
    return clean if len(clean) <= LONGEST else f"{clean[:LONGEST]}..."


def page(name: str) -> str:
    """Read the template of an HTML page."""
    from importlib.resources import files

    return files(__package__).joinpath(name).read_text("utf-8")


def size_of(size: int) -> str:
    """Return a number of bytes for people."""
    from rich.filesize import decimal

    return decimal(size)


def _console_on(stream: Any) -> Console:
    """Return Rich's console on a stream; it honours NO_COLOR and TERM."""
    from rich.console import Console

    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = ENDLESS
    return console


def _print(text: str) -> None:
    typer.echo(_encodable(text, getattr(sys.stdout, "encoding", None)))


def _encodable(text: str, encoding: str | None) -> str:
    """Escape the characters that a stream can't encode, instead of losing the line."""
    return text.encode(encoding or "utf-8", "backslashreplace").decode(encoding or "utf-8")


def _json(record: Mapping[str, Any], indent: int | None = None) -> str:
    return json.dumps(record, indent=indent).replace("\x7f", "\\u007f")  # DEL is the one control character in ASCII
