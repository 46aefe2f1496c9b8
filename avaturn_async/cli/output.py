"""Print results to stdout, for people or as lines of JSON, and notes to stderr.

Everything that a command prints passes through here. Ids, urls and messages come from an API and from files, so control
characters, which could drive a terminal, are removed for people and escaped for machines.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .terminal import Bars, Lines

__all__ = ["Column", "Output", "note", "one_line", "size_of"]

#: Characters of a text that people are shown; an API could send megabytes.
LONGEST = 4_000


class Column(NamedTuple):
    """A column of a table: its heading, its width where that is fixed, and whether it holds numbers."""

    heading: str
    width: int | None = None
    numbers: bool = False


class Output:
    """The results of a command: `emit` prints for machines, `line` and `table` for people, `result` for either."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def emit(self, record: Mapping[str, Any]) -> None:
        """Print a record as a line of JSON, in ASCII, where --json was given."""
        if self.as_json:
            _print(_json(record))

    def line(self, text: str) -> None:
        """Print a line, unless --json was given."""
        if not self.as_json:
            _print(one_line(text))

    def text(self, text: str) -> None:
        """Print lines of our own, unless --json was given."""
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
        if not self.as_json:
            from .terminal import draw

            _print(draw(columns, [[one_line(cell) for cell in row] for row in rows]))

    def progress(self) -> Bars | Lines:
        """Show the progress of stages of work: bars on a terminal, plain lines elsewhere."""
        from .terminal import Bars, Lines, console_on

        console = console_on(sys.stderr)
        return Bars(console) if console.is_terminal and not self.as_json else Lines(note)


def note(text: str) -> None:
    """Print one line to stderr, above a progress bar if there is one."""
    sys.stderr.write(f"{_encodable(one_line(text), sys.stderr.encoding)}\n")
    sys.stderr.flush()


def one_line(text: str) -> str:
    """Return a text on one line, without control characters, and cut if it is very long."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in text[: 2 * LONGEST]).split())
    return clean if len(clean) <= LONGEST else f"{clean[:LONGEST]}..."


def size_of(size: int) -> str:
    """Return a number of bytes for people."""
    from rich.filesize import decimal

    return decimal(size)


def _print(text: str) -> None:
    typer.echo(_encodable(text, getattr(sys.stdout, "encoding", None)))


def _encodable(text: str, encoding: str | None) -> str:
    """Escape the characters that a stream can't encode, instead of losing the line."""
    return text.encode(encoding or "utf-8", "backslashreplace").decode(encoding or "utf-8")


def _json(record: Mapping[str, Any], indent: int | None = None) -> str:
    import json

    return json.dumps(record, indent=indent).replace("\x7f", "\\u007f")  # DEL is the one control character in ASCII
