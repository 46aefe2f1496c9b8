"""The items of a batch: the input that they are read from, their outcomes, and the report and progress."""

from __future__ import annotations

import asyncio
import contextlib
import reprlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import Any, TypeAlias
from uuid import UUID

import attrs

from ..downloads.downloader import Download
from ..downloads.sinks import Saved
from ..http.tasks import is_cancelled
from ..models import as_uuid
from ..pending.results import Export
from ..redact import without_queries

__all__ = ["AvatarIds", "BatchOutcome", "BatchProgress", "BatchReport", "IdSource", "ProgressMeter", "percentiles"]

AvatarIds: TypeAlias = Iterable[str | UUID] | AsyncIterable[str | UUID]
Cell: TypeAlias = str | int | float | bool | None

_SHARES = (50, 95, 99)


@attrs.frozen(kw_only=True)
class BatchOutcome:
    """How one item of a batch ended.

    Attributes:
        avatar_id: the avatar; the text of the item if it was not a UUID.
        export: the export, or None if it failed or an earlier run had finished it.
        download: the file; None if it failed or none was requested.
        error: why it failed, or None.
        attempts: number of times that the export was created, over all runs with one journal.
    """

    avatar_id: UUID | str
    export: Export | None = None
    download: Download | Saved | None = None
    error: Exception | None = None
    attempts: int = 1

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.error is None

    def row(self) -> dict[str, Cell]:
        """Return the outcome as a flat row for a table, with the same columns for every outcome.

        The columns are ``avatar_id``, ``ok``, ``attempts``, ``resolved_by``, ``waited`` (seconds), ``polls``, ``file``
        (the path, or the name in the sink), ``size`` (bytes), ``sha256``, ``error`` (its class) and ``message``. The
        temporary url is left out.
        """
        export, saved, error = self.export, self.download, self.error
        return {
            "avatar_id": str(self.avatar_id),
            "ok": self.ok,
            "attempts": self.attempts,
            "resolved_by": export.resolved_by if export else None,
            "waited": round(export.waited, 3) if export else None,
            "polls": export.polls if export else None,
            "file": str(getattr(saved, "path", None) or getattr(saved, "name", "")) if saved else None,
            "size": saved.size if saved else None,
            "sha256": saved.sha256 if saved else None,
            "error": type(error).__name__ if error else None,
            "message": without_queries(str(error)) if error else None,
        }


class IdSource:
    """Reads avatar ids from an iterable or async iterable, for one reader.

    A plain iterable is read on the event loop, so it must not block.
    """

    def __init__(self, avatar_ids: AvatarIds) -> None:
        if isinstance(avatar_ids, str | bytes):
            raise TypeError("avatar_ids must be an iterable of ids, not a single one")
        self._is_async = isinstance(avatar_ids, AsyncIterable)  # its iterator may have nothing but __anext__
        self._ids: Any = aiter(avatar_ids) if isinstance(avatar_ids, AsyncIterable) else iter(avatar_ids)
        self._length: int | None = None
        with contextlib.suppress(Exception):  # a Django QuerySet refuses to be counted on the loop, for example
            self._length = len(avatar_ids)  # type: ignore[arg-type]
        self._count = 0
        self._ended = False

    @property
    def total(self) -> int | None:
        """The number of items, if known; an input may grow after its length was taken."""
        if self._ended:
            return self._count
        return None if self._length is None else max(self._length, self._count)

    async def read(self) -> UUID | BatchOutcome | None:
        """Return the next id, the outcome of an item that is not an id, or None at the end.

        Exceptions of the input propagate.
        """
        try:
            given = await anext(self._ids) if self._is_async else next(self._ids)
        except (StopIteration, StopAsyncIteration):
            self._ended = True
            return None
        if is_cancelled():  # the input swallowed the cancellation
            raise asyncio.CancelledError
        self._count += 1
        try:
            return as_uuid(given, "avatar_id")
        except TypeError as error:
            return BatchOutcome(avatar_id=reprlib.repr(given), error=ValueError(str(error)), attempts=0)
        except ValueError as error:
            return BatchOutcome(avatar_id=str(given), error=error.with_traceback(None), attempts=0)

    async def aclose(self) -> None:
        """Close an async generator, so that its cleanup runs now rather than at its finalization."""
        if isinstance(self._ids, AsyncGenerator):
            await self._ids.aclose()


@attrs.frozen(kw_only=True)
class BatchReport:
    """How a batch ended.

    Attributes:
        outcomes: one for each item, in input order.
        elapsed: seconds that the run took.
        percentiles: seconds from the creation of an export to its end at the 50th, 95th and 99th percentile; empty if
            this run finished no export.
    """

    outcomes: list[BatchOutcome] = attrs.field(repr=lambda outcomes: f"<{len(outcomes)} outcomes>")
    elapsed: float
    percentiles: dict[int, float]

    @property
    def succeeded(self) -> list[BatchOutcome]:
        """The outcomes without an error."""
        return [outcome for outcome in self.outcomes if outcome.ok]

    @property
    def failed(self) -> list[BatchOutcome]:
        """The outcomes with an error."""
        return [outcome for outcome in self.outcomes if not outcome.ok]

    def rows(self) -> list[dict[str, Cell]]:
        """Return `BatchOutcome.row` of each outcome, in input order, for ``csv.DictWriter`` or a data frame."""
        return [outcome.row() for outcome in self.outcomes]


def percentiles(waited: Iterable[float]) -> dict[int, float]:
    """Return seconds by percentile (nearest rank), or an empty dict for no values."""
    ranked = sorted(waited)
    return {share: ranked[-(-share * len(ranked) // 100) - 1] for share in _SHARES} if ranked else {}


@attrs.frozen(kw_only=True)
class BatchProgress:
    """The progress of a batch.

    Attributes:
        total: items in the input, or None while an input without a length has not ended.
        done: items that succeeded, in this run or an earlier one.
        failed: items that failed.
        pending: exports under way, from their creation until their file is complete.
        bytes: downloaded so far.
        rate: exports finished per second, over the last ``2 * max_pending`` of them; None until one has finished.
        eta: estimated seconds until the end at that rate; None until twice the time that the first export took.
    """

    total: int | None
    done: int
    failed: int
    pending: int
    bytes: int
    rate: float | None
    eta: float | None


class ProgressMeter:
    """Measures the progress of a batch.

    The rate covers twice as many exports as run concurrently: they tend to finish in waves, so a shorter window would
    fluctuate. Items that an earlier run finished count as done, but not towards the rate.

    Args:
        max_pending: the largest number of concurrent exports.
    """

    def __init__(self, max_pending: int) -> None:
        self.done: int = 0
        self.failed: int = 0
        self.pending: int = 0
        self.bytes: int = 0
        self._marks: deque[float] = deque(maxlen=2 * min(max_pending, 100_000) + 1)
        self._started: float | None = None
        self._first_took: float | None = None

    def export_started(self) -> None:
        """Count an export as under way."""
        self.pending += 1
        if self._started is None:
            self._started = asyncio.get_running_loop().time()
            self._marks.append(self._started)

    def export_ended(self) -> None:
        """Count an export as finished, successfully or not."""
        self.pending -= 1
        now = asyncio.get_running_loop().time()
        self._marks.append(now)
        if self._first_took is None:
            self._first_took = now - self._marks[0]

    def item_ended(self, *, ok: bool) -> None:
        """Count an outcome."""
        self.done += ok
        self.failed += not ok

    def snapshot(self, total: int | None) -> BatchProgress:
        """Return the progress out of `total` items."""
        now = asyncio.get_running_loop().time()
        rate = eta = None
        if len(self._marks) > 1 and now > self._marks[0]:
            rate = (len(self._marks) - 1) / (now - self._marks[0])
        left = None if total is None else max(0, total - self.done - self.failed)
        if left == 0:
            eta = 0.0
        elif left is not None and rate is not None and self._started is not None and self._first_took is not None:
            eta = left / rate if now - self._started >= 2 * self._first_took else None
        return BatchProgress(
            total=total,
            done=self.done,
            failed=self.failed,
            pending=self.pending,
            bytes=self.bytes,
            rate=rate,
            eta=eta,
        )
