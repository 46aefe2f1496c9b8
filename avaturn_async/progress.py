"""How far a batch is, and when it will be over."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BatchProgress", "Meter"]

#: Seconds between two calls of on_progress, at the least.
_PAUSE = 0.1
#: How many of the last ends the rate is taken from, and the fewest that say anything.
_WINDOW = 256
_FEWEST = 5


@attrs.frozen(kw_only=True)
class BatchProgress:
    """How far a batch is.

    Attributes:
        total: avatars in all, duplicates included, or None where the input does not say.
        done: exports that ended well, or had so in an earlier run.
        failed: those that did not.
        pending: those under way.
        bytes: downloaded so far.
        rate: ends a second, over the last few; None until it can be told.
        eta: seconds until the end at that rate; None until it can be told.
    """

    total: int | None
    done: int
    failed: int
    pending: int
    bytes: int
    rate: float | None
    eta: float | None


class Meter:
    """Counts what a batch does, and tells it a few times a second."""

    def __init__(
        self, tell: Callable[[BatchProgress], object] | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total: int | None = None
        self.done = self.failed = self.pending = self.bytes = self.repeated = 0
        self._tell = tell
        self._clock = clock
        self._ends: deque[float] = deque(maxlen=_WINDOW)
        self._told = -_PAUSE

    def began(self) -> None:
        """Count an export as under way."""
        self.pending += 1

    def ended(self, *, well: bool, skipped: bool = False) -> None:
        """Count its end; one that an earlier run had done says nothing about the rate."""
        self.pending -= 1
        self.done += well
        self.failed += not well
        if not skipped:
            self._ends.append(self._clock())
        self.tell()

    def tell(self, *, last: bool = False) -> None:
        """Call on_progress, unless it was called just now; what it raises ends the batch."""
        now = self._clock()
        if self._tell is not None and (last or now - self._told >= _PAUSE):
            self._told = now
            self._tell(self.snapshot())

    def snapshot(self) -> BatchProgress:
        """Return how far it is now."""
        rate = self._rate()
        left = None if self.total is None else self.total - self.done - self.failed - self.repeated
        return BatchProgress(
            total=self.total,
            done=self.done,
            failed=self.failed,
            pending=self.pending,
            bytes=self.bytes,
            rate=rate,
            eta=left / rate if rate and left is not None else None,
        )

    def _rate(self) -> float | None:
        if len(self._ends) < _FEWEST:
            return None
        seconds = self._clock() - self._ends[0]
        return (len(self._ends) - 1) / seconds if seconds > 0 else None
