"""What commands print: results to stdout, for people or as JSON lines; progress and errors to stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from .progress import Progress

__all__ = ["Column", "Output", "note", "one_line", "size_of"]


class Column(NamedTuple):
    """A column of a table: its heading, its width where it has a fixed one, and whether it holds numbers."""

    heading: str
    width: int | None = None
    numbers: bool = False


class Output:
    """The results of a command: `emit` speaks to machines, `line` and `table` to people, `result` to either."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def emit(self, record: Mapping[str, Any]) -> None:
        """Print a record as a line of JSON, or nothing where people read."""
        if self.as_json:
            import json

            typer.echo(json.dumps(record, ensure_ascii=False))

    def line(self, text: str) -> None:
        """Print a line for people, or nothing where machines read."""
        if not self.as_json:
            typer.echo(text)

    def result(self, record: Mapping[str, Any], text: str) -> None:
        """Print a record as JSON, or else a line for people."""
        self.emit(record)
        self.line(text)

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        """Print a table for people. Nothing is ever cut: what is too wide goes on in the next line."""
        if not self.as_json:
            from .tables import draw

            typer.echo(draw(columns, [[one_line(cell) for cell in row] for row in rows]))

    def progress(self) -> AbstractContextManager[Progress]:
        """Show how far stages of work are: bars on a terminal, plain lines elsewhere."""
        from .progress import Bars, Lines
        from .tables import console_on

        console = console_on(sys.stderr)
        return Bars(console) if console.is_terminal and not self.as_json else Lines()


def note(text: str) -> None:
    """Print one line to stderr, above a progress bar where there is one."""
    sys.stderr.write(f"{one_line(text)}\n")
    sys.stderr.flush()


def one_line(text: str) -> str:
    """Return `text` in one line and without control characters, which could drive a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def size_of(size: int) -> str:
    """Return a number of bytes for people."""
    from rich.filesize import decimal

    return decimal(size)
