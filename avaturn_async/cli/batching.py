"""Run a batch for ``avaturn batch``, and sum it up."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import Counter
from typing import TYPE_CHECKING, Any

from .batch_progress import tracker
from .connecting import connected
from .exported import Model
from .files import make_folder
from .output import note, size_of
from .running import DONE, FAILED, failure, off_loop, tell_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..batch.report import BatchOutcome
    from .batch import Load
    from .connecting import Access, Hooks
    from .output import Output

__all__ = ["Tally", "run_batch"]

#: Failures of one kind that are told one by one.
TOLD = 20
PERCENTILES = (50, 95, 99)


async def run_batch(access: Access, hooks: Hooks, output: Output, load: Load) -> int:
    """Run a batch to its end and return the exit code."""
    tally = Tally(output)
    try:
        async with connected(access, hooks) as client:
            await off_loop(make_folder, load.folder)
            with tracker(output, len(load.ids)) as told:
                async with client.exports.batch(
                    load.ids,
                    download_to=load.folder,
                    journal=load.journal,
                    timeout=load.timeout,
                    max_pending=load.max_pending,
                    max_downloads=load.max_downloads,
                    on_progress=told,
                ) as batch:
                    async for outcome in batch:
                        tally.add(outcome)
    except asyncio.CancelledError:
        if load.journal is not None:
            note(f"{tally.done} were done; the same command goes on from here")
        raise
    tally.sum_up()
    return FAILED if tally.failed else DONE


class Tally:
    """Counts outcomes as they come, and keeps none of them."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._started = time.monotonic()
        self._reasons: Counter[str] = Counter()
        self._waited = array("d")
        self._size = 0
        self._before = 0
        self.done = 0

    @property
    def failed(self) -> int:
        """How many ended with an error."""
        return self._reasons.total()

    def add(self, outcome: BatchOutcome) -> None:
        """Count an outcome and tell machines of it; people are told of failures."""
        if outcome.error is not None:
            self._fail(outcome, outcome.error)
            return
        self.done += 1
        self._size += outcome.download.size if outcome.download else 0
        if outcome.export is None:
            self._before += 1
        else:
            self._waited.append(outcome.export.waited)
        self._output.emit(_record(outcome))

    def sum_up(self) -> None:
        """Say how it went: what is done, what failed and why, how long exports took."""
        seconds = time.monotonic() - self._started
        waits = percentiles(self._waited)
        record = {"done": self.done, "before": self._before, "failed": self.failed, "size": self._size}
        self._output.emit(record | {"seconds": round(seconds, 3), "percentiles": waits, "reasons": self._reasons})
        before = f" ({self._before} of them before)" if self._before else ""
        self._output.line(f"{self.done:,} done{before}, {self.failed:,} failed, in {seconds:.1f} s")
        self._output.line(f"{size_of(self._size)} in models")
        for kind, number in self._reasons.most_common():
            self._output.line(f"{number:,} x {kind}")
        if waits:
            told = ", ".join(f"{value:.1f} s at the {share}th" for share, value in waits.items())
            self._output.line(f"from the start of an export to its end, by percentile: {told}")

    def _fail(self, outcome: BatchOutcome, error: Exception) -> None:
        kind = type(error).__name__
        self._reasons[kind] += 1
        record = {"avatar_id": str(outcome.avatar_id), "error": kind, "message": failure(error)}
        self._output.emit(record | {"attempts": outcome.attempts})
        if self._reasons[kind] <= TOLD:
            tell_of(outcome.avatar_id, error)
        elif self._reasons[kind] == TOLD + 1:
            note(f"avaturn: further ones that fail with {kind} are counted only")


def percentiles(waited: Sequence[float]) -> dict[int, float]:
    """Return seconds by percentile, of the nearest rank; nothing where there are none."""
    ranked = sorted(waited)
    return {share: round(ranked[-(-share * len(ranked) // 100) - 1], 3) for share in PERCENTILES} if ranked else {}


def _record(outcome: BatchOutcome) -> dict[str, Any]:
    if outcome.export is not None and outcome.download is not None:
        return Model(outcome.export, outcome.download).record() | {"attempts": outcome.attempts}
    file = outcome.download
    known = {"size": file.size, "sha256": file.sha256, "file": str(file.path)} if file else {}
    return {"avatar_id": str(outcome.avatar_id), "resolved_by": None, **known, "attempts": outcome.attempts}
