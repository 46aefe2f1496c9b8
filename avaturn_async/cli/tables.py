"""Tables by Rich."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .output import Column

__all__ = ["console_on", "draw"]

#: Columns of a terminal below which tables have narrow gaps.
ROOMY = 90
#: Characters to a line where no terminal wraps it.
ENDLESS = 10_000


def console_on(stream: TextIO) -> Console:
    """Return Rich's console on a stream; it minds NO_COLOR and TERM."""
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = ENDLESS
    return console


def draw(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> str:
    """Draw a table for stdout, in which what is too wide goes on in the next line."""
    console = console_on(sys.stdout)
    gap = 1 if console.width < ROOMY else 2
    headings = any(column.heading for column in columns)
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold", show_header=headings)
    for column in columns:
        side = "right" if column.numbers else "left"
        table.add_column(column.heading, width=column.width, justify=side, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*row)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
