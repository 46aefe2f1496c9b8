"""Export many avatars with bounded concurrency."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from uuid import UUID

from ..config import ClientDefault
from ..downloads.sinks import Sink
from ..http.tasks import raise_first, run_to_completion
from ..observe.dispatch import Observers
from .ids import AvatarIds, IdSource
from .pipeline import Exporter, Pipeline, make_folder
from .report import BatchOutcome, BatchProgress, BatchReport, percentiles

if TYPE_CHECKING:
    from .journal import Journal
else:  # for typing.get_type_hints: Python may have been built without SQLite
    Journal = Any

__all__ = ["ExportBatch"]


class ExportBatch:
    """A batch of exports, made by ``client.exports.batch``; it is used once.

    ``async with`` it, then iterate over its outcomes or await `run`. Work starts when the first outcome is requested.
    The input is read no further than there is room: for `max_pending` exports and `max_downloads` downloads, which keep
    their places until their outcomes are taken. After a 401 or 402, or after ten 403s without a success between them,
    nothing more is sent: the remaining items fail with that error, and their journal entries stay as they were.
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
        if name is not None and (not callable(name) or inspect.iscoroutinefunction(name)):
            raise TypeError(f"name must be a plain function of an avatar id, not {name!r:.80}")
        if sink is not None and not callable(getattr(sink, "put", None)):
            raise TypeError(f"sink must have a method put(name, chunks), which {type(sink).__name__} has not")
        if download_to is not None and sink is not None:
            raise ValueError("download_to and sink exclude each other: files go into a folder or into a sink")
        if name is not None and download_to is None and sink is None:
            raise ValueError("name needs download_to or sink: without either there are no files to name")
        self._ids = IdSource(avatar_ids)
        self._folder = None if download_to is None else Path(download_to)
        self._journal: Journal | None = None
        if journal is not None:
            from .journal import Journal  # Python may have been built without SQLite

            self._journal = journal if isinstance(journal, Journal) else Journal(journal, base_url)
        self._pipeline = Pipeline(
            exports,
            self._ids,
            folder=self._folder,
            sink=sink,
            checksum=checksum,
            name=name,
            max_pending=max_pending,
            max_downloads=max_downloads,
            journal=self._journal,
            timeout=timeout,
            on_progress=on_progress,
            observers=observers,
        )
        self._work: asyncio.Task[None] | None = None
        self._state: Literal["not entered", "entered", "left"] = "not entered"

    async def __aenter__(self) -> Self:
        if self._state != "not entered":
            raise RuntimeError("a batch is used once: create another one")
        self._state = "entered"
        try:
            if self._folder is not None:
                await make_folder(self._folder)
            if self._journal is not None:
                await self._journal.open()
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
        """Run the batch to its end and return all outcomes, in input order.

        The failures of items are in their outcomes; what the input or ``on_progress`` raises is raised.
        """
        clock = asyncio.get_running_loop().time
        started = clock()
        numbered = []
        while (pair := await self._next()) is not None:
            numbered.append(pair)
        outcomes = [outcome for _, outcome in sorted(numbered, key=lambda pair: pair[0])]
        waited = (outcome.export.waited for outcome in outcomes if outcome.ok and outcome.export is not None)
        return BatchReport(outcomes=outcomes, elapsed=clock() - started, percentiles=percentiles(waited))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BatchOutcome:
        pair = await self._next()
        if pair is None:
            raise StopAsyncIteration
        return pair[1]

    async def _next(self) -> tuple[int, BatchOutcome] | None:
        self._check_entered()
        if self._work is None:
            self._work = asyncio.get_running_loop().create_task(self._pipeline.run())
        taken = await self._pipeline.take()
        if taken is None:
            self._check_entered()
            await raise_first(self._work)
        return taken

    def _check_entered(self) -> None:
        if self._state != "entered":
            raise RuntimeError(f"a batch is used inside its `async with` block: this one is {self._state}")

    async def _leave(self) -> None:
        self._state = "left"
        await run_to_completion(self._close())

    async def _close(self) -> None:
        try:
            if self._work is not None:
                self._work.cancel()
                await asyncio.wait([self._work])
                _ = self._work.cancelled() or self._work.exception()  # retrieved, or asyncio logs that it never was
            await self._ids.aclose()
        finally:
            if self._journal is not None:
                await self._journal.aclose()
