"""The input of a batch, read lazily."""

from __future__ import annotations

import asyncio
import reprlib
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import TypeAlias
from uuid import UUID

import attrs

from ..models import as_uuid

__all__ = ["AvatarIds", "IdSource", "InvalidId"]

AvatarIds: TypeAlias = Iterable[str | UUID] | AsyncIterable[str | UUID]


@attrs.frozen
class InvalidId:
    """An item of the input that is not an avatar id."""

    text: str
    error: Exception


class IdSource:
    """Reads avatar ids from an iterable or async iterable, for one reader.

    A plain iterable is read on the event loop, so it must not block.
    """

    def __init__(self, avatar_ids: AvatarIds) -> None:
        if isinstance(avatar_ids, str | bytes):
            raise TypeError("avatar_ids must be an iterable of ids, not a single one")
        self._async_ids = aiter(avatar_ids) if isinstance(avatar_ids, AsyncIterable) else None
        self._ids = iter(()) if isinstance(avatar_ids, AsyncIterable) else iter(avatar_ids)
        self._length = _length_of(avatar_ids)
        self._count = 0
        self._ended = False

    @property
    def total(self) -> int | None:
        """The number of items, if known; an input may grow after its length was taken."""
        if self._ended:
            return self._count
        return None if self._length is None else max(self._length, self._count)

    async def read(self) -> UUID | InvalidId | None:
        """Return the next item, or None at the end. Exceptions of the input propagate."""
        try:
            if self._async_ids is not None:
                given = await anext(self._async_ids)
                task = asyncio.current_task()
                if task is not None and task.cancelling():  # the input swallowed the cancellation
                    raise asyncio.CancelledError
            else:
                given = next(self._ids)
        except (StopIteration, StopAsyncIteration):
            self._ended = True
            return None
        self._count += 1
        try:
            return as_uuid(given, "avatar_id")
        except TypeError as error:
            return InvalidId(reprlib.repr(given), ValueError(str(error)))
        except ValueError as error:
            return InvalidId(str(given), error.with_traceback(None))

    async def aclose(self) -> None:
        """Close an async generator, so that its cleanup runs now rather than at its finalization."""
        if isinstance(self._async_ids, AsyncGenerator):
            await self._async_ids.aclose()


def _length_of(avatar_ids: object) -> int | None:
    """Return the length of the input, or None. Only the progress needs it, so exceptions are ignored."""
    try:
        return len(avatar_ids)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - a Django QuerySet refuses to be counted on the loop, for example
        return None
