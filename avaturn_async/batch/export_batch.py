"""Export many avatars with bounded concurrency: one task for each item, from the input to its outcome."""

from __future__ import annotations

import asyncio
import math
import os
import stat
from collections.abc import Callable
from functools import partial
from hashlib import file_digest
from logging import INFO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias
from uuid import UUID

import attrs

from ..config import ClientDefault
from ..downloads.downloader import Download
from ..downloads.names import check_name, check_path
from ..downloads.sinks import Saved, Sink
from ..errors import (
    AuthenticationError,
    AvaturnError,
    ClientClosedError,
    DownloadError,
    PaymentRequiredError,
    PermissionDeniedError,
    WaitTimeoutError,
)
from ..http.tasks import check_not_async, raise_first, run_in_thread, run_to_completion
from ..observe.dispatch import UNOBSERVED, Observers, Scope, new_number
from ..observe.observer import BatchInfo
from ..pending.jobs import PendingExport
from ..pending.results import Export
from .items import AvatarIds, BatchOutcome, BatchProgress, BatchReport, IdSource, ProgressMeter, percentiles

if TYPE_CHECKING:
    from .journal import Entry, Journal, State
else:  # for typing.get_type_hints: Python may have been built without SQLite
    Journal = Any

__all__ = ["ExportBatch", "Exporter"]

#: Consecutive 403s after which the token lacks permission; fewer may concern avatars of another project.
_MAX_FORBIDDEN = 10
#: Seconds between two calls of on_progress.
_PROGRESS_INTERVAL = 0.1


class Exporter(Protocol):
    """The part of ``client.exports`` that a batch uses."""

    async def create(self, avatar_id: str | UUID) -> PendingExport:
        """Start an export."""

    def resume(self, token: str) -> PendingExport:
        """Return the pending export of a resume token."""


@attrs.define(eq=False)
class _Item:
    """One avatar under way, and the semaphore that it holds until its outcome is taken."""

    avatar_id: UUID
    slot: asyncio.Semaphore
    attempts: int = 0
    export: Export | None = None

    def outcome(self, **found: Any) -> BatchOutcome:
        return BatchOutcome(avatar_id=self.avatar_id, export=self.export, attempts=self.attempts, **found)


#: An outcome that was not taken yet: its position in the input, the slot that it holds, and the future that shares it.
_Finished: TypeAlias = tuple[int, BatchOutcome, asyncio.Semaphore, asyncio.Future[BatchOutcome] | None]


class ExportBatch:
    """A batch of exports, made by ``client.exports.batch``; it is used once.

    ``async with`` it, then iterate over its outcomes or await `run`. Work starts when the first outcome is requested.
    An item holds one of `max_pending` slots from before it is read until its export is finished, then one of
    `max_downloads` during its download, and releases its slot when its outcome is taken. So memory is bounded, and slow
    downloads and a slow consumer delay reads of the input. After a 401 or 402, or ten 403s without a success between
    them, nothing more is sent: the remaining items fail with that error, and their journal entries stay unchanged.
    """

    def __init__(
        self,
        exports: Exporter,
        avatar_ids: AvatarIds,
        *,
        download_to: str | os.PathLike[str] | None = None,
        sink: Sink | None = None,
        name: Callable[[UUID], str] | None = None,
        max_pending: int = 256,
        max_downloads: int = 8,
        checksum: bool = False,
        journal: str | os.PathLike[str] | Journal | None = None,
        base_url: str = "",
        timeout: float | ClientDefault | None = None,
        on_progress: Callable[[BatchProgress], object] | None = None,
        observers: Observers | None = None,
    ) -> None:
        for setting, value in (("max_pending", max_pending), ("max_downloads", max_downloads)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{setting} must be a whole number of at least 1, not {value!r}")
        if not (timeout is None or isinstance(timeout, ClientDefault)) and (
            isinstance(timeout, bool) or not isinstance(timeout, int | float) or math.isnan(timeout)
        ):
            raise ValueError(f"timeout must be a number of seconds or None, not {timeout!r}")
        check_not_async("name", name)
        check_not_async("on_progress", on_progress)
        if sink is not None and not callable(getattr(sink, "put", None)):
            raise TypeError(f"sink must have a method put(name, chunks), which {type(sink).__name__} has not")
        if download_to is not None and sink is not None:
            raise ValueError("download_to and sink exclude each other: files go into a folder or into a sink")
        if name is not None and download_to is None and sink is None:
            raise ValueError("name needs download_to or sink: without either there are no files to name")
        self._exports = exports
        self._ids = IdSource(avatar_ids)
        self._folder = None if download_to is None else Path(download_to)
        self._sink = sink
        self._name = name
        self._checksum = checksum
        self._pending = asyncio.Semaphore(max_pending)
        self._downloads = asyncio.Semaphore(max_downloads)
        self._journal: Journal | None = None
        if journal is not None:
            from .journal import Journal  # Python may have been built without SQLite

            self._journal = journal if isinstance(journal, Journal) else Journal(journal, base_url)
        self._timeout = timeout
        self._on_progress = on_progress
        self._observers = Observers() if observers is None else observers
        self._observed: Scope | None = None
        self._meter = ProgressMeter(max_pending)
        self._forbidden = 0  # consecutive 403s
        self._refusal: AvaturnError | None = None  # the error of every further request
        self._finished: asyncio.Queue[_Finished | None] = asyncio.Queue()
        self._under_way: dict[UUID | str, asyncio.Future[BatchOutcome]] = {}
        self._names: dict[str, UUID] = {}  # of files under way
        self._task: asyncio.Task[None] | None = None
        self._input_failed = False
        self._state: Literal["not entered", "entered", "left"] = "not entered"

    async def __aenter__(self) -> Self:
        if self._state != "not entered":
            raise RuntimeError("a batch is used once: create another one")
        self._state = "entered"
        try:
            if self._folder is not None:
                await _make_folder(self._folder)
            if self._journal is not None:
                await self._journal.open()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Cancel the items under way and wait for their end; the journal then has what a later run needs."""
        self._state = "left"
        await run_to_completion(self._close())

    async def _close(self) -> None:
        try:
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait([self._task])
                _ = self._task.cancelled() or self._task.exception()  # retrieved, or asyncio logs that it never was
            await self._ids.aclose()
        finally:
            if self._journal is not None:
                await self._journal.aclose()

    async def run(self) -> BatchReport:
        """Run the batch to its end and return all outcomes, in input order.

        Failures of items are in their outcomes; exceptions of the input and of ``on_progress`` propagate.
        """
        clock = asyncio.get_running_loop().time
        started = clock()
        numbered = []
        while (pair := await self._take()) is not None:
            numbered.append(pair)
        outcomes = [outcome for _, outcome in sorted(numbered, key=lambda pair: pair[0])]
        waited = (outcome.export.waited for outcome in outcomes if outcome.ok and outcome.export is not None)
        return BatchReport(outcomes=outcomes, elapsed=clock() - started, percentiles=percentiles(waited))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BatchOutcome:
        pair = await self._take()
        if pair is None:
            raise StopAsyncIteration
        return pair[1]

    async def _take(self) -> tuple[int, BatchOutcome] | None:
        """Return the next outcome and its position in the input, or None after the last."""
        self._check_entered()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        finished = await self._finished.get()
        if finished is None:
            self._finished.put_nowait(None)  # for the next call
            self._check_entered()
            await raise_first(self._task)
            return None
        number, outcome, slot, shared = finished
        slot.release()
        if shared is not None and self._under_way.get(outcome.avatar_id) is shared:
            del self._under_way[outcome.avatar_id]
        return number, outcome

    def _check_entered(self) -> None:
        if self._state != "entered":
            raise RuntimeError(f"a batch is used inside its `async with` block: this one is {self._state}")

    async def _run(self) -> None:
        """Read the input to its end and process it. Exceptions of the input and of `on_progress` propagate."""
        batch, number = new_number(), 0

        def info(**facts: Any) -> BatchInfo:
            return BatchInfo(batch=batch, done=self._meter.done, failed=self._meter.failed, **facts)

        observers = self._observers
        scope = observers.scope("batch_started", "batch_ended", info) if observers.wants(INFO) else UNOBSERVED
        with scope as self._observed:
            try:
                async with asyncio.TaskGroup() as group:
                    progress = group.create_task(self._report_progress())
                    async with asyncio.TaskGroup() as items:
                        await self._pending.acquire()
                        try:
                            while (given := await self._ids.read()) is not None:
                                items.create_task(self._work(number, given))
                                number += 1
                                await self._pending.acquire()
                        except BaseException:
                            self._input_failed = True
                            raise
                    progress.cancel()
                if self._on_progress is not None:
                    self._on_progress(self._meter.snapshot(self._ids.total))
            finally:
                self._finished.put_nowait(None)

    async def _report_progress(self) -> None:
        while self._on_progress is not None:
            self._on_progress(self._meter.snapshot(self._ids.total))
            await asyncio.sleep(_PROGRESS_INTERVAL)

    async def _work(self, number: int, given: UUID | BatchOutcome) -> None:
        """Process one item of the input, or share the outcome of an equal one that is under way."""
        slot, shared = self._pending, None
        if isinstance(given, BatchOutcome):
            outcome = given
        elif (shared := self._under_way.get(given)) is None:
            shared = self._under_way[given] = asyncio.get_running_loop().create_future()
            item = _Item(given, slot)
            outcome = await self._process(item)
            slot = item.slot
            shared.set_result(outcome)
        else:
            outcome = await asyncio.shield(shared)
            if outcome.error is not None:
                outcome = attrs.evolve(outcome, error=self._failure(outcome.error))
        self._meter.item_ended(ok=outcome.ok)
        if self._observed is not None:
            error = None if outcome.error is None else type(outcome.error).__name__
            facts = {"item": outcome.avatar_id, "attempts": outcome.attempts, "error": error}
            self._observed.tell("batch_item_ended", **facts)
        self._finished.put_nowait((number, outcome, slot, shared))

    async def _process(self, item: _Item) -> BatchOutcome:
        """Export an avatar, fetch its file and return the outcome."""
        name, known = None, None
        try:
            name = self._claim_name(item.avatar_id)
            if self._journal is not None and (known := await self._journal.read(item.avatar_id)) is not None:
                item.attempts = known.attempts
                if (outcome := await self._finished_earlier(item, known, name)) is not None:
                    return outcome
            if self._refusal is not None:
                raise self._refusal.copy()  # noqa: TRY301 - handled as any other failure of an item
            self._meter.export_started()
            try:
                return await self._export(item, known, name)
            finally:
                self._meter.export_ended()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - one failure never stops the others
            return item.outcome(error=self._failure(error))
        finally:
            if name is not None and self._names.get(name) == item.avatar_id:
                del self._names[name]

    def _failure(self, error: Exception | asyncio.CancelledError) -> Exception:
        """Return an exception for an outcome, or raise the cancellation of an item that ends with the batch."""
        if isinstance(error, asyncio.CancelledError):
            if self._input_failed or (self._task is not None and self._task.cancelling()):
                raise error
            return AvaturnError(
                "its task was cancelled, but not by the batch: a sink or a session may have cancelled itself"
            )
        # A report may hold thousands: expected errors are kept without their frames.
        return error.copy() if isinstance(error, AvaturnError) else error

    async def _export(self, item: _Item, known: Entry | None, name: str) -> BatchOutcome:
        """Create or resume the export, await it and fetch its file; record in the journal how that ended."""
        state: State
        try:
            pending = await self._start(item, known, name)
            item.export = await pending.wait(timeout=self._timeout)
            if self._folder is None and self._sink is None:
                await self._record(item, "done")
                return item.outcome()
            await self._downloads.acquire()
            item.slot = self._downloads
            self._pending.release()
            download = await self._fetch(item.export, name)
        except (Exception, asyncio.CancelledError) as caught:  # noqa: BLE001 - one failure never stops the others
            error = self._failure(caught)
            self._check_refusal(error)
            # These two errors leave the remote job running: the next run resumes it.
            token = error.resume_token if isinstance(error, WaitTimeoutError | ClientClosedError) else None
            text = f"{type(error).__name__}: {error}"
            state = "failed" if token is None else "pending"
            await self._record(item, state, resume_token=token, file=name, error=text)
            return item.outcome(error=error)
        state = "done" if self._sink is None else "saved"
        await self._record(item, state, file=name, size=download.size, sha256=download.sha256)
        return item.outcome(download=download)

    async def _start(self, item: _Item, known: Entry | None, name: str) -> PendingExport:
        if known is not None and known.state == "pending" and known.resume_token is not None:
            try:
                pending = self._exports.resume(known.resume_token)
            except (ValueError, AvaturnError):
                pass  # a damaged entry: creating an export is idempotent
            else:
                if pending.avatar_id == item.avatar_id:
                    return pending
        item.attempts += 1
        pending = await self._exports.create(item.avatar_id)
        self._forbidden = 0
        if self._journal is not None and not pending.done():
            await self._record(item, "pending", resume_token=pending.resume_token, file=name)
        return pending

    async def _fetch(self, export: Export, name: str) -> Download | Saved:
        counted = 0

        def count(received: int, _: int | None) -> None:
            nonlocal counted
            self._meter.bytes += received - counted
            counted = received

        if self._sink is not None:
            return await export.save(self._sink, name, checksum=self._checksum, progress=count)
        assert self._folder is not None  # noqa: S101 - files go into either
        path = self._folder / name
        if "/" in name:
            await _make_folder(path.parent)
        return await export.download(path, overwrite=True, checksum=self._checksum, progress=count)

    def _claim_name(self, avatar_id: UUID) -> str:
        """Return the checked name of the avatar's file, which no other avatar under way has."""
        if self._name is None:
            return f"{avatar_id}.glb"
        name = (check_name if self._folder is None else check_path)(self._name(avatar_id))
        owner = self._names.setdefault(name, avatar_id)
        if owner != avatar_id:
            raise ValueError(f"the name {name!r} of avatar {avatar_id} is also that of avatar {owner}")
        return name

    async def _finished_earlier(self, item: _Item, known: Entry, name: str) -> BatchOutcome | None:
        """Return the outcome of an item that an earlier run finished, or None."""
        if self._folder is None and self._sink is None:
            return item.outcome() if known.state in ("done", "saved") else None
        if known.file != name or known.size is None:
            return None
        if self._folder is None:
            found = Saved(name, known.size, known.sha256)
            return item.outcome(download=found) if known.state == "saved" else None
        path = self._folder / name
        if known.state != "done" or not await run_in_thread(_is_file, path, known.size, known.sha256):
            return None
        return item.outcome(download=Download(path, known.size, known.sha256))

    def _check_refusal(self, error: Exception) -> None:
        """Stop sending requests if the API would refuse all of them: after a 401 or 402, or many consecutive 403s."""
        self._forbidden += isinstance(error, PermissionDeniedError)
        refused = isinstance(error, AuthenticationError | PaymentRequiredError) or (
            isinstance(error, PermissionDeniedError) and self._forbidden >= _MAX_FORBIDDEN
        )
        if refused and self._refusal is None and isinstance(error, AvaturnError):
            self._refusal = error.copy()
            self._refusal.avatar_id = self._refusal.resume_token = None

    async def _record(self, item: _Item, state: State, **fields: Any) -> None:
        if self._journal is not None:
            await self._journal.write(item.avatar_id, state, item.attempts, **fields)


async def _make_folder(folder: Path) -> None:
    """Create a folder and its parents, unless it exists.

    Raises:
        DownloadError: it can't be created.
    """
    try:
        await run_in_thread(partial(folder.mkdir, parents=True, exist_ok=True))
        return
    except OSError as error:
        reason = error.strerror or type(error).__name__
    raise DownloadError(f"the folder {folder} can't be created: {reason}", path=str(folder))


def _is_file(path: Path, size: int, sha256: str | None) -> bool:
    """Return whether `path` is a regular file of this size, and of this SHA-256 if one is given."""
    try:
        # O_NONBLOCK: opening a FIFO would wait for a writer.
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(fd, "rb") as file:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_size != size:
                return False
            return sha256 is None or file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False
