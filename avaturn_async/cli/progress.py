"""How far a command is, on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress as RichProgress, TaskID, TextColumn, TimeElapsedColumn

from .output import note

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

__all__ = ["Bars", "Lines", "Progress", "Stage"]


class Stage(Protocol):
    """A stage of the work."""

    def advance(self) -> None:
        """Count one more as done."""


class Progress(Protocol):
    """Several stages of work."""

    def stage(self, name: str, total: int) -> Stage:
        """Begin a stage of `total` pieces."""


class Lines:
    """Progress as plain lines, where no terminal is: when a stage begins, and when it ends."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return

    def stage(self, name: str, total: int) -> Stage:
        """Begin a stage of `total` pieces."""
        return _Line(name, total)


class _Line:
    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._done = name, total, 0
        self._tell()

    def advance(self) -> None:
        self._done += 1
        if self._done == self._total:
            self._tell()

    def _tell(self) -> None:
        note(f"{self._name}: {self._done} of {self._total}")


class Bars:
    """Progress as bars on a terminal, which go away at the end."""

    def __init__(self, console: Console) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        # Results go to stdout as they are; only what goes to stderr must not tear the bars.
        self._bars = RichProgress(*columns, console=console, transient=True, redirect_stdout=False)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def stage(self, name: str, total: int) -> Stage:
        """Begin a stage of `total` pieces."""
        return _Bar(self._bars, self._bars.add_task(name, total=total))


class _Bar:
    def __init__(self, bars: RichProgress, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self) -> None:
        self._bars.advance(self._task)
