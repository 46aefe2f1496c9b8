"""Write a partial file off the loop, one batch while the next comes in."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from .partfile import Note, PartFile

__all__ = ["Sink", "off_loop"]

P = ParamSpec("P")
T = TypeVar("T")

# Waking a thread takes some 50 us, so it is woken for no less than this; it goes on while there is more.
_ENOUGH = 256 * 1024
_TOO_MUCH = 2 * 1024 * 1024


async def off_loop(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` in a thread and wait for its end even when cancelled: no file is closed under a write."""
    return await _finished(_started(function, *args, **kwargs))


class Sink:
    """Hands a part file what comes in, and takes no more while 2 MiB of it are not yet written."""

    def __init__(self, part: PartFile, note: Callable[[], Note | None]) -> None:
        self._part = part
        self._note = note
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._job: asyncio.Future[None] | None = None

    async def put(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._queue.append(chunk)
        self._queued += len(chunk)
        if self._queued < _ENOUGH:
            return
        if self._job is None or self._job.done():
            await self._settle()
            self._start()
        elif self._queued > _TOO_MUCH:
            await self._settle()

    async def rewind(self) -> None:
        """Forget all bytes so far."""
        await self._settle()
        self._take()
        await off_loop(self._part.rewind)

    async def publish(self) -> None:
        """Write what is left, and give the file its name."""
        await self._settle()
        self._start()
        await self._settle()
        await off_loop(self._part.publish)

    async def close(self) -> None:
        """Close the part file, published or not. What came and was not yet written is not lost to a later run."""
        job, self._job = self._job, None
        cancelled = job is not None and await _ended(job)
        self._update_note()
        await off_loop(self._part.close, self._take())
        if cancelled:
            raise asyncio.CancelledError

    def _start(self) -> None:
        self._update_note()
        self._queued = 0
        self._job = _started(self._write)

    def _write(self) -> None:
        try:
            while self._queue:
                self._part.write(self._queue.popleft())
            self._part.save_note()
        except BaseException:
            self._part.keep = False  # what comes next would follow a gap
            raise

    async def _settle(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            await _finished(job)

    def _update_note(self) -> None:
        self._part.note = self._note() or self._part.note

    def _take(self) -> list[bytes]:
        rest = list(self._queue)
        self._queue.clear()
        self._queued = 0
        return rest


def _started(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
    return asyncio.get_running_loop().run_in_executor(None, partial(function, *args, **kwargs))


async def _finished(job: asyncio.Future[T]) -> T:
    if await _ended(job):
        raise asyncio.CancelledError
    return job.result()


async def _ended(job: asyncio.Future[T]) -> bool:
    """Wait until `job` is done, and say whether a cancellation came meanwhile."""
    cancelled = False
    while not job.done():
        try:
            await asyncio.wait([job])
        except asyncio.CancelledError:
            cancelled = True
    job.exception()  # else asyncio would warn that nobody looked
    return cancelled
