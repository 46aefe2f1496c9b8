"""Export many avatars at once: bounded, in whatever order they finish, to be resumed by a later run."""

from __future__ import annotations

import asyncio
import math
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias

from ..config import ClientDefault
from ..errors import DownloadError
from ..http.tasks import raise_first, run_in_thread, run_to_completion
from .ids import AvatarIds, Intake, Malformed
from .pipeline import Exporter, Item, Stages
from .progress import BatchProgress, Meter
from .report import BatchOutcome, BatchReport, percentiles

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from types import TracebackType

    from .journal import Journal

__all__ = ["AvatarIds", "BatchOutcome", "BatchProgress", "BatchReport", "ExportBatch"]

#: Seconds between two calls of on_progress.
_TICK = 0.1


class _End:
    """The end of a queue."""


_END: Final = _End()
_Numbered: TypeAlias = tuple[int, BatchOutcome]


class ExportBatch:
    """A batch of exports: ``async with`` it, then iterate over its outcomes or await `run`. It is used once.

    Work starts with the first outcome that is asked for. The input is read as far as there is room: for `max_pending`
    exports that are awaited, `max_downloads` that are downloaded, as many that wait for that, and as many outcomes that
    a slow consumer has not taken. After a 401 or 402, or after ten 403 without a success between, nothing more is sent:
    what is left ends with that error, and stays what it was in the journal.
    """

    def __init__(
        self,
        exports: Exporter,
        avatar_ids: AvatarIds,
        *,
        download_to: str | os.PathLike[str] | None,
        max_pending: int,
        max_downloads: int,
        journal: Journal | None,
        timeout: float | ClientDefault | None,
        on_progress: Callable[[BatchProgress], object] | None,
    ) -> None:
        _check_count("max_pending", max_pending)
        _check_count("max_downloads", max_downloads)
        _check_timeout(timeout)
        self._intake = Intake(avatar_ids)
        self._folder = None if download_to is None else Path(download_to)
        self._journal = journal
        self._meter = Meter(max_pending)
        self._stages = Stages(exports, folder=self._folder, journal=journal, timeout=timeout, meter=self._meter)
        self._on_progress = on_progress
        self._exporters = max_pending
        self._downloaders = 0 if self._folder is None else max_downloads
        self._exported: asyncio.Queue[tuple[int, Item] | _End] = asyncio.Queue(max_downloads)
        self._outcomes: asyncio.Queue[_Numbered | _End] = asyncio.Queue()
        self._room = asyncio.Semaphore(max_downloads)
        self._work: asyncio.Task[None] | None = None
        self._state: Literal["not entered", "entered", "left"] = "not entered"

    async def __aenter__(self) -> Self:
        if self._state != "not entered":
            raise RuntimeError("a batch is used once: make another one")
        self._state = "entered"
        try:
            await self._open()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Cancel what is under way and wait for its end; the journal then has what a later run needs."""
        await self._leave()

    async def run(self) -> BatchReport:
        """Run the batch to its end and return all outcomes, in the order of the input.

        What an avatar met is in its outcome; what the input or ``on_progress`` raised is raised here.
        """
        started = time.monotonic()
        numbered = []
        while (pair := await self._next()) is not None:
            numbered.append(pair)
        outcomes = [outcome for _, outcome in sorted(numbered, key=lambda pair: pair[0])]
        waited = (outcome.export.waited for outcome in outcomes if outcome.ok and outcome.export is not None)
        return BatchReport(outcomes=outcomes, elapsed=time.monotonic() - started, percentiles=percentiles(waited))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BatchOutcome:
        pair = await self._next()
        if pair is None:
            raise StopAsyncIteration
        return pair[1]

    async def _next(self) -> _Numbered | None:
        if self._state != "entered":
            raise RuntimeError(f"a batch is used inside its `async with` block: this one is {self._state}")
        if self._work is None:
            self._work = asyncio.get_running_loop().create_task(self._work_off())
        found = await self._outcomes.get()
        if isinstance(found, _End):
            self._outcomes.put_nowait(found)  # for whoever asks again
            await raise_first(self._work)
            return None
        self._room.release()
        return found

    async def _open(self) -> None:
        if self._folder is not None:
            await _make_folder(self._folder)
        if self._journal is not None:
            await self._journal.open()

    async def _leave(self) -> None:
        self._state = "left"
        await run_to_completion(self._close())

    async def _close(self) -> None:
        try:
            if self._work is not None:
                self._work.cancel()
                await asyncio.wait([self._work])
                _ = self._work.cancelled() or self._work.exception()  # else asyncio warns that nobody looked
            await self._intake.aclose()
        finally:
            if self._journal is not None:
                await self._journal.aclose()

    # In the task that works the batch off.

    async def _work_off(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                ticking = group.create_task(self._tick())
                await self._export_and_download()
                ticking.cancel()
            self._tell()
        finally:
            self._outcomes.put_nowait(_END)

    async def _export_and_download(self) -> None:
        async with asyncio.TaskGroup() as downloads:
            for _ in range(self._downloaders):
                downloads.create_task(self._download_all())
            async with asyncio.TaskGroup() as exports:
                for _ in range(self._useful_exporters()):
                    exports.create_task(self._export_all())
            for _ in range(self._downloaders):
                await self._exported.put(_END)

    def _useful_exporters(self) -> int:
        total = self._intake.total
        return self._exporters if total is None else min(self._exporters, total)

    async def _export_all(self) -> None:
        while (taken := await self._intake.take()) is not None:
            number, found = taken
            if isinstance(found, Malformed):
                await self._put(number, BatchOutcome(avatar_id=found.text, error=found.error, attempts=0))
                continue
            result = await self._stages.export(found)
            if isinstance(result, Item):
                await self._exported.put((number, result))
            else:
                await self._put(number, result)

    async def _download_all(self) -> None:
        while not isinstance(found := await self._exported.get(), _End):
            number, item = found
            await self._put(number, await self._stages.download(item))

    async def _put(self, number: int, outcome: BatchOutcome) -> None:
        self._meter.count(well=outcome.ok)
        await self._room.acquire()
        self._outcomes.put_nowait((number, outcome))

    async def _tick(self) -> None:
        while self._on_progress is not None:
            self._tell()
            await asyncio.sleep(_TICK)

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self._meter.snapshot(self._intake.total))


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")


def _check_timeout(timeout: float | ClientDefault | None) -> None:
    if timeout is None or isinstance(timeout, ClientDefault):
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or math.isnan(timeout):
        raise ValueError(f"timeout must be a number of seconds or None, not {timeout!r}")


async def _make_folder(folder: Path) -> None:
    problem: str | None = None
    try:
        await run_in_thread(partial(folder.mkdir, parents=True, exist_ok=True))
    except OSError as error:
        problem = error.strerror or type(error).__name__
    if problem is not None:
        raise DownloadError(f"the folder {folder} can't be made: {problem}", path=str(folder))
