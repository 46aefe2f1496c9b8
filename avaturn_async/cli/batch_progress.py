"""How far a batch is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress as RichProgress, TextColumn

from .output import note
from .tables import console_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..batch.report import BatchProgress
    from .output import Output

    Told = Callable[[BatchProgress], object]

__all__ = ["tracker"]

#: Lines in all that a batch has where there is no terminal.
LINES = 20


@contextmanager
def tracker(output: Output, total: int) -> Iterator[Told]:
    """Return what a batch tells its progress to."""
    console = console_on(sys.stderr)
    if not console.is_terminal or output.as_json:
        yield _lines(total)
        return
    columns = BarColumn(bar_width=16), MofNCompleteColumn(), TextColumn("{task.fields[told]}")
    with RichProgress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("", total=total, told="")
        yield lambda now: bar.update(task, completed=now.done + now.failed, told=_told(now))


def _lines(total: int) -> Told:
    step = max(1, total // LINES)
    following = step

    def tell(now: BatchProgress) -> None:
        nonlocal following
        ended = now.done + now.failed
        if ended >= following:
            following = ended - ended % step + step
            note(f"exports: {ended} of {total}, {_told(now)}")

    return tell


def _told(now: BatchProgress) -> str:
    parts = [f"{now.failed} failed", f"{now.pending} under way"]
    if now.rate is not None:
        parts.append(f"{now.rate:.1f}/s")
    if now.eta is not None:
        parts.append(f"{timedelta(seconds=round(now.eta))} left")
    return ", ".join(parts)
