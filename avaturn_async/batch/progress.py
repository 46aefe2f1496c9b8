"""How far a batch is, and when it will be over."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BatchProgress", "Meter"]


@attrs.frozen(kw_only=True)
class BatchProgress:
    """How far a batch is.

    Attributes:
        total: avatars in all, without the duplicates met so far, or None where the input has no length.
        done: those that ended well, or had so in an earlier run.
        failed: those that did not.
        pending: exports under way, from their creation until their file is whole.
        bytes: downloaded so far.
        rate: exports ended a second, over the last two rounds of them; None until one has ended.
        eta: seconds until the end at that rate; None until it can be known, which takes twice as long as the first
            export.
    """

    total: int | None
    done: int
    failed: int
    pending: int
    bytes: int
    rate: float | None
    eta: float | None


class Meter:
    """Counts what a batch does.

    The rate is taken over twice as many ends as there may be exports at once: they tend to come in waves, and less than
    a whole wave says nothing. What an earlier run had done counts, but not as fast.

    Args:
        at_once: the most exports that are under way at once.
        clock: seconds, monotonic.
    """

    def __init__(self, at_once: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.done = self.failed = self.pending = self.bytes = 0
        self._clock = clock
        self._marks: deque[float] = deque(maxlen=2 * at_once + 1)
        self._began: float | None = None
        self._to_first_end: float | None = None

    def began(self) -> None:
        """Count an export as under way."""
        self.pending += 1
        if self._began is None:
            self._began = self._clock()
            self._marks.append(self._began)

    def ended(self) -> None:
        """Count it as over."""
        self.pending -= 1
        now = self._clock()
        self._marks.append(now)
        if self._to_first_end is None:
            self._to_first_end = now - self._marks[0]

    def count(self, *, well: bool) -> None:
        """Count an outcome."""
        self.done += well
        self.failed += not well

    def snapshot(self, total: int | None) -> BatchProgress:
        """Return how far it is now, of `total`."""
        rate = self._rate()
        left = None if total is None else max(0, total - self.done - self.failed)
        return BatchProgress(
            total=total,
            done=self.done,
            failed=self.failed,
            pending=self.pending,
            bytes=self.bytes,
            rate=rate,
            eta=0.0 if left == 0 else self._eta(left, rate),
        )

    def _rate(self) -> float | None:
        ends = len(self._marks) - 1
        seconds = self._clock() - self._marks[0] if self._marks else 0.0
        return ends / seconds if ends > 0 and seconds > 0 else None

    def _eta(self, left: int | None, rate: float | None) -> float | None:
        if left is None or rate is None or self._began is None or self._to_first_end is None:
            return None
        settled = self._clock() - self._began >= 2 * self._to_first_end
        return left / rate if settled else None
