"""Write a partial file off the loop, one batch while the next comes in."""

import asyncio
import weakref
from collections.abc import Callable
from functools import partial

from ..http.tasks import run_in_thread
from .partfile import Note, PartFile
from .worker import Worker

__all__ = ["Sink"]

# Each batch is a wake of the thread and some hand-overs of the GIL: not too many, and yet small for the caches.
_BATCH = 512 * 1024
_AHEAD = 2


class Sink:
    """Hands a part file what comes in, and takes no more while two batches of 512 KiB are not yet written.

    They are written in a thread of their own, which begins with the first of them.
    """

    def __init__(self, part: PartFile, note: Callable[[], Note | None]) -> None:
        self._part = part
        self._note = note
        self._batch: list[bytes] = []
        self._size = 0
        self._worker = Worker()
        self._end = weakref.finalize(self, self._worker.end)
        self._published = False

    async def put(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._batch.append(chunk)
        self._size += len(chunk)
        if self._size >= _BATCH:
            await self._worker.catch_up(_AHEAD - 1)
            self._worker.give(self._writing())

    async def rewind(self) -> None:
        """Forget all bytes so far."""
        await self._worker.catch_up()
        self._take()
        await run_in_thread(self._part.rewind)

    async def publish(self) -> None:
        """Write what is left, and give the file its name."""
        self._worker.give(self._writing())
        self._worker.give(self._part.publish)
        self._worker.give(self._part.close)
        await self._worker.catch_up()
        self._published = True

    async def close(self) -> None:
        """Close the part file, published or not. What came and was not yet written is not lost to a later run."""
        self._end()
        if self._published:
            return
        cancelled = await self._worker.left(0)
        self._part.note = self._note() or self._part.note
        await run_in_thread(self._part.close, self._take())
        if cancelled:
            raise asyncio.CancelledError

    def _writing(self) -> Callable[[], None]:
        return partial(_write, self._part, self._take(), self._note())

    def _take(self) -> list[bytes]:
        rest, self._batch, self._size = self._batch, [], 0
        return rest


def _write(part: PartFile, batch: list[bytes], note: Note | None) -> None:
    part.note = note or part.note
    try:
        for chunk in batch:
            part.write(chunk)
        part.save_note()
    except BaseException:
        part.keep = False  # what comes next would follow a gap
        raise
