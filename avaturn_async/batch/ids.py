"""The input of a batch, read lazily."""

from __future__ import annotations

import asyncio
import contextlib
import reprlib
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import Any, TypeAlias
from uuid import UUID

from ..http.tasks import is_cancelled
from ..models import as_uuid
from .report import BatchOutcome

__all__ = ["AvatarIds", "IdSource"]

AvatarIds: TypeAlias = Iterable[str | UUID] | AsyncIterable[str | UUID]


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
