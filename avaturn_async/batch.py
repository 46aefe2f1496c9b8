"""Export many avatars at once: bounded, in whatever order they finish, resumable."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, Self
from uuid import UUID

import attrs

from .errors import AuthenticationError, AvaturnError, DownloadError, PaymentRequiredError, PermissionDeniedError
from .glb_check import whole_model
from .models import as_uuid
from .progress import BatchProgress, Meter
from .results import Download, Export

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from .jobs import PendingExport
    from .journal import Entry, Journal
    from .pending import Default

__all__ = ["BatchOutcome", "BatchProgress", "BatchReport", "ExportBatch"]

logger = logging.getLogger(__name__)

AvatarIds = Iterable[str | UUID] | AsyncIterable[str | UUID]

#: Errors that every further export would meet as well.
_HOPELESS = (AuthenticationError, PaymentRequiredError, PermissionDeniedError)
_PERCENTILES = (50, 95, 99)


class _Exports(Protocol):
    async def create(self, avatar_id: str | UUID) -> PendingExport: ...
    def resume(self, token: str) -> PendingExport: ...


@attrs.frozen(kw_only=True)
class BatchOutcome:
    """How the export of one avatar ended.

    Attributes:
        avatar_id: the avatar; what was given, where that is no UUID.
        export: the export, or None where it failed or an earlier run had done it.
        download: the file, or None.
        error: what went wrong, or None.
        attempts: how often it was tried, over all runs with one journal.
    """

    avatar_id: UUID | str
    export: Export | None = None
    download: Download | None = None
    error: Exception | None = None
    attempts: int = 1

    @property
    def ok(self) -> bool:
        """Say whether it ended well."""
        return self.error is None


@attrs.frozen(kw_only=True)
class BatchReport:
    """How a batch ended.

    Attributes:
        outcomes: one for each avatar, in the order of the input.
        elapsed: seconds that the run took.
        percentiles: seconds from the creation of an export to its end, at the 50th, 95th and 99th percentile; empty
            where none ended well in this run.
    """

    outcomes: list[BatchOutcome] = attrs.field(repr=lambda outcomes: f"<{len(outcomes)}>")
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


@attrs.define
class _Item:
    number: int
    avatar_id: UUID | str
    known: Entry | None = None
    export: Export | None = None

    @property
    def attempts(self) -> int:
        if self.known is None:
            return 1
        return self.known.attempts + (self.known.state != "pending")


class _Seen:
    """The ids that came, in some 20 bytes each: a set takes 100 to 200."""

    __slots__ = ("_buckets",)

    BUCKETS = 1024

    def __init__(self) -> None:
        self._buckets: list[bytearray | None] = [None] * self.BUCKETS

    def add(self, avatar_id: UUID) -> bool:
        """Take in an id; say whether it is new."""
        number, key = avatar_id.int % self.BUCKETS, avatar_id.bytes
        bucket = self._buckets[number]
        if bucket is None:
            bucket = self._buckets[number] = bytearray()
        found = bucket.find(key)
        while found >= 0 and found % len(key):
            found = bucket.find(key, found + 1)
        if found < 0:
            bucket += key
        return found < 0


class _End:
    """The end of the outcomes."""


_END: Final = _End()


class ExportBatch:
    """A batch of exports; `async with` it, then iterate over it or `run` it.

    The input is read as far as there is room. An export that is being downloaded holds no pending slot; what waits for
    a download slot is bounded, and so is what waits for a slow consumer. After a 401, 402 or 403 nothing more is sent:
    what is left ends with that error.
    """

    def __init__(
        self,
        exports: _Exports,
        avatar_ids: AvatarIds,
        *,
        download_to: str | os.PathLike[str] | None,
        max_pending: int,
        max_downloads: int,
        journal: Journal | None,
        timeout: float | Default | None,
        on_progress: Callable[[BatchProgress], object] | None,
    ) -> None:
        for name, value in (("max_pending", max_pending), ("max_downloads", max_downloads)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
        if isinstance(avatar_ids, str | bytes):
            raise TypeError("avatar_ids must be an iterable of ids, not one string")
        self._exports = exports
        self._folder = None if download_to is None else Path(download_to)
        self._max_pending = max_pending
        self._max_downloads = max_downloads
        self._journal = journal
        self._timeout = timeout
        self._meter = Meter(on_progress)
        self._meter.total = len(avatar_ids) if isinstance(avatar_ids, Sized) else None
        self._source = _numbered(avatar_ids)
        self._source_turn = asyncio.Lock()
        self._seen = _Seen()
        self._exhausted = False
        self._hopeless: AvaturnError | None = None
        self._exported: asyncio.Queue[_Item | _End] = asyncio.Queue(max_downloads)
        self._outcomes: asyncio.Queue[tuple[int, BatchOutcome] | _End] = asyncio.Queue()
        self._room = asyncio.Semaphore(max_downloads)
        self._work: asyncio.Task[None] | None = None
        self._entered = False

    async def __aenter__(self) -> Self:
        if self._folder is not None:
            await _make_folder(self._folder)
        if self._journal is not None:
            await self._journal.open()
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Cancel what is under way; a journal keeps what resumes it."""
        self._entered = False
        try:
            if self._work is not None:
                self._work.cancel()
                await asyncio.wait([self._work])
                if not self._work.cancelled() and (left := self._work.exception()) is not None:
                    logger.debug("a batch that was left ended with %s", type(left).__name__)
            await self._source.aclose()
        finally:
            if self._journal is not None:
                await self._journal.aclose()

    async def run(self) -> BatchReport:
        """Run the batch to its end and report in the order of the input."""
        started = time.monotonic()
        numbered = [pair async for pair in self._results()]
        outcomes = [outcome for _, outcome in sorted(numbered, key=lambda pair: pair[0])]
        waited = sorted(outcome.export.waited for outcome in outcomes if outcome.export is not None)
        return BatchReport(outcomes=outcomes, elapsed=time.monotonic() - started, percentiles=_percentiles(waited))

    async def __aiter__(self) -> AsyncIterator[BatchOutcome]:
        async for _, outcome in self._results():
            yield outcome

    async def _results(self) -> AsyncIterator[tuple[int, BatchOutcome]]:
        if not self._entered:
            raise RuntimeError("a batch is used inside its `async with` block")
        if self._work is None:
            self._work = asyncio.get_running_loop().create_task(self._supervise())
        while not isinstance(item := await self._outcomes.get(), _End):
            self._room.release()
            yield item
        self._outcomes.put_nowait(_END)  # whoever iterates again finds the end
        if self._work is not None:
            await _first_error(self._work)

    # The two stages, and what feeds them.

    async def _supervise(self) -> None:
        try:
            async with asyncio.TaskGroup() as downloads:
                for _ in range(self._max_downloads if self._folder is not None else 0):
                    downloads.create_task(self._download_all())
                async with asyncio.TaskGroup() as exports:
                    for _ in range(min(self._max_pending, self._meter.total or self._max_pending)):
                        exports.create_task(self._export_all())
                for _ in range(self._max_downloads if self._folder is not None else 0):
                    await self._exported.put(_END)
            self._meter.tell(last=True)
        finally:
            self._outcomes.put_nowait(_END)

    async def _export_all(self) -> None:
        while (item := await self._next()) is not None:
            await self._export(item)

    async def _next(self) -> _Item | None:
        async with self._source_turn:
            while not self._exhausted:
                try:
                    number, given = await anext(self._source)
                except StopAsyncIteration:
                    self._exhausted = True
                    return None
                except BaseException:
                    self._exhausted = True
                    raise
                item = self._fresh(number, given)
                if item is not None:
                    return item
        return None

    def _fresh(self, number: int, given: str | UUID) -> _Item | None:
        """Return the item of an id, or None for one that came before."""
        try:
            avatar_id = as_uuid(given, "avatar_id")
        except (ValueError, TypeError):
            return _Item(number, given if isinstance(given, str) else repr(given)[:80])
        if not self._seen.add(avatar_id):
            self._meter.repeated += 1
            return None
        return _Item(number, avatar_id)

    async def _export(self, item: _Item) -> None:
        self._meter.began()
        try:
            finished = await self._try_export(item)
        except (AvaturnError, OSError, ValueError, TypeError) as error:
            await self._fail(item, error)
            return
        if finished:
            return
        if self._folder is None:
            await self._succeed(item, None)
        else:
            await self._exported.put(item)

    async def _try_export(self, item: _Item) -> bool:
        """Export one avatar; say True where an earlier run had done it, and its outcome is out."""
        avatar_id = as_uuid(item.avatar_id, "avatar_id")
        if self._journal is not None:
            item.known = await self._journal.read(avatar_id)
            if await self._adopt(item, avatar_id):
                return True
        if self._hopeless is not None:
            raise self._hopeless.copy()
        try:
            pending = await self._start(item, avatar_id)
            item.export = await pending.wait(timeout=self._timeout)
        except _HOPELESS as error:
            self._hopeless = error.copy()
            self._hopeless.resume_token = None  # that is one avatar's, the error is everyone's
            raise
        return False

    async def _start(self, item: _Item, avatar_id: UUID) -> PendingExport:
        known = item.known
        if known is not None and known.state == "pending" and known.resume_token:
            pending = self._exports.resume(known.resume_token)
        else:
            pending = await self._exports.create(avatar_id)
        await self._note(avatar_id, "pending", item.attempts, resume_token=pending.resume_token)
        return pending

    async def _adopt(self, item: _Item, avatar_id: UUID) -> bool:
        """Take over what an earlier run did: a whole file under its final name, or a done export without files."""
        known = item.known
        if self._folder is None:
            done = known is not None and known.state == "done"
            download = None
        else:
            download = await asyncio.to_thread(_whole_file, self._file_of(avatar_id), known)
            done = download is not None
        if done:
            attempts = known.attempts if known is not None else 0
            size, digest = (download.size, download.sha256) if download else (None, None)
            await self._note(avatar_id, "done", attempts, size=size, sha256=digest)
            await self._put(item, BatchOutcome(avatar_id=avatar_id, download=download, attempts=attempts), skipped=True)
        return done

    async def _download_all(self) -> None:
        while isinstance(item := await self._exported.get(), _Item):
            await self._download(item)

    async def _download(self, item: _Item) -> None:
        assert item.export is not None  # noqa: S101
        before = 0

        def count(now: int, _: int | None) -> None:
            nonlocal before
            self._meter.bytes += now - before
            before = now

        try:
            path = self._file_of(item.export.avatar_id)
            download = await item.export.download(path, overwrite=True, progress=count)
        except (AvaturnError, OSError) as error:
            await self._fail(item, error)
        else:
            await self._succeed(item, download)

    # Outcomes.

    async def _succeed(self, item: _Item, download: Download | None) -> None:
        avatar_id = as_uuid(item.avatar_id, "avatar_id")
        size, digest = (download.size, download.sha256) if download else (None, None)
        with _logged_journal_trouble():
            await self._note(avatar_id, "done", item.attempts, size=size, sha256=digest)
        outcome = BatchOutcome(avatar_id=avatar_id, export=item.export, download=download, attempts=item.attempts)
        await self._put(item, outcome)

    async def _fail(self, item: _Item, error: Exception) -> None:
        if isinstance(item.avatar_id, UUID):
            with _logged_journal_trouble():
                await self._note(item.avatar_id, "failed", item.attempts, error=f"{type(error).__name__}: {error}")
        outcome = BatchOutcome(
            avatar_id=item.avatar_id, export=item.export, error=error.with_traceback(None), attempts=item.attempts
        )
        await self._put(item, outcome)

    async def _put(self, item: _Item, outcome: BatchOutcome, *, skipped: bool = False) -> None:
        await self._room.acquire()
        self._meter.ended(well=outcome.ok, skipped=skipped)
        self._outcomes.put_nowait((item.number, outcome))

    async def _note(self, avatar_id: UUID, state: str, attempts: int, **more: str | int | None) -> None:
        if self._journal is not None:
            from .journal import Entry

            await self._journal.write(avatar_id, Entry(state, attempts, **more))  # type: ignore[arg-type]

    def _file_of(self, avatar_id: UUID) -> Path:
        assert self._folder is not None  # noqa: S101
        return self._folder / f"{avatar_id}.glb"


@contextmanager
def _logged_journal_trouble() -> Iterator[None]:
    """Let an outcome out although the journal fails: a later run asks for it again, which does no harm."""
    try:
        yield
    except AvaturnError as error:
        logger.warning("%s", error)


async def _numbered(avatar_ids: AvatarIds) -> AsyncGenerator[tuple[int, str | UUID], None]:
    number = 0
    if isinstance(avatar_ids, AsyncIterable):
        try:
            async for given in avatar_ids:
                yield number, given
                number += 1
        finally:
            if isinstance(avatar_ids, AsyncGenerator):
                await avatar_ids.aclose()
    else:
        for given in avatar_ids:
            yield number, given
            number += 1


async def _first_error(work: Awaitable[None]) -> None:
    """Raise what ended the work, as itself rather than in groups of its tasks."""
    try:
        await work
    except BaseExceptionGroup as group:
        error: BaseException = group
    else:
        return
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    raise error


async def _make_folder(folder: Path) -> None:
    problem: str | None = None
    try:
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    except OSError as error:
        problem = error.strerror or type(error).__name__
    if problem is not None:
        raise DownloadError(f"the folder {folder} can't be made: {problem}", path=str(folder))


def _whole_file(path: Path, known: Entry | None) -> Download | None:
    """Return the model that is under its final name already, if it is whole and the one that is known."""
    found = whole_model(path)
    if found is None or (known is not None and known.sha256 not in (None, found[1])):
        return None
    return Download(path, *found)


def _percentiles(waited: list[float]) -> dict[int, float]:
    if not waited:
        return {}
    return {share: waited[max(0, -(-share * len(waited) // 100) - 1)] for share in _PERCENTILES}
