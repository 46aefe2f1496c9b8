"""Tables and progress bars, drawn by Rich."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["Bars", "Lines", "Stage", "console_on", "draw"]

#: Columns of a terminal below which tables have narrow gaps.
ROOMY = 90
#: Characters in a line of output that is no terminal's.
ENDLESS = 10_000


def console_on(stream: TextIO) -> Console:
    """Return Rich's console on a stream; it honours NO_COLOR and TERM."""
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = ENDLESS
    return console


def draw(columns: Sequence[tuple[str, int | None, bool]], rows: Iterable[Sequence[str]]) -> str:
    """Draw a table for stdout; wide cells continue on the next line.

    A column is its heading, its width where that is fixed, and whether it holds numbers.
    """
    console = console_on(sys.stdout)
    gap = 1 if console.width < ROOMY else 2
    headings = any(heading for heading, _, _ in columns)
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold", show_header=headings)
    for heading, width, numbers in columns:
        table.add_column(heading, width=width, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


class Stage(Protocol):
    """A stage of the work."""

    def advance(self) -> None:
        """Count one more piece as done."""


class Lines:
    """Progress as plain lines, for logs: one when a stage begins, one when it ends."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def stage(self, name: str, total: int) -> Stage:
        """Begin a stage of `total` pieces."""
        return _Line(name, total, self._note)

    def transfer(self, name: str) -> Callable[[int, int], None]:
        """Take the progress of a transfer and show nothing: whether it succeeded is said at its end."""
        return lambda done, size: None


class _Line:
    def __init__(self, name: str, total: int, note: Callable[[str], None]) -> None:
        self._name, self._total, self._done, self._note = name, total, 0, note
        note(f"{name}: 0 of {total}")

    def advance(self) -> None:
        self._done += 1
        if self._done == self._total:
            self._note(f"{self._name}: {self._done} of {self._total}")


class Bars:
    """Progress as bars on a terminal, which disappear at the end."""

    def __init__(self, console: Console) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        # Results go to stdout unchanged; only notes on stderr must not tear the bars.
        self._bars = Progress(*columns, console=console, transient=True, redirect_stdout=False)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def stage(self, name: str, total: int) -> Stage:
        """Begin a stage of `total` pieces."""
        return _Bar(self._bars, self._bars.add_task(name, total=total))

    def transfer(self, name: str) -> Callable[[int, int], None]:
        """Begin a transfer; the callback takes the bytes so far, and in all."""
        task = self._bars.add_task(f"{name}, kB", total=None)
        return lambda done, size: self._bars.update(task, completed=done // 1000, total=size // 1000)


class _Bar:
    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self) -> None:
        self._bars.advance(self._task)
