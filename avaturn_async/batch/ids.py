"""The input of a batch: read as there is room, each avatar once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sized
from typing import TypeAlias
from uuid import UUID

import attrs

from ..models import as_uuid

__all__ = ["AvatarIds", "Intake", "Malformed"]

AvatarIds: TypeAlias = Iterable[str | UUID] | AsyncIterable[str | UUID]


@attrs.frozen
class Malformed:
    """Something in the input that is no avatar id."""

    text: str
    error: Exception


class Intake:
    """The ids of a batch, for any number of readers.

    An async generator is closed by `aclose`. A plain iterable is read on the loop, so it should not block.
    """

    def __init__(self, avatar_ids: AvatarIds) -> None:
        if isinstance(avatar_ids, str | bytes):
            raise TypeError("avatar_ids must be an iterable of ids, not a single one")
        self._ids = aiter(avatar_ids) if isinstance(avatar_ids, AsyncIterable) else _each(iter(avatar_ids))
        self._length = len(avatar_ids) if isinstance(avatar_ids, Sized) else None
        self._repeated = 0
        self._taken = 0
        self._seen = _Seen()
        self._turn = asyncio.Lock()
        self._ended = False

    @property
    def total(self) -> int | None:
        """How many avatars there are, without the duplicates met so far, or None where the input has no length."""
        return None if self._length is None else self._length - self._repeated

    async def take(self) -> tuple[int, UUID | Malformed] | None:
        """Return the next avatar that did not come before, with its number, or None at the end."""
        async with self._turn:
            while not self._ended:
                found = await self._read()
                if found is None:
                    break
                if isinstance(found, UUID) and not self._seen.add(found):
                    self._repeated += 1
                    await asyncio.sleep(0)  # a million duplicates must not hold the loop
                    continue
                self._taken += 1
                return self._taken, found
            return None

    async def aclose(self) -> None:
        """Close the input, so that a generator's own cleanup runs now."""
        if isinstance(self._ids, AsyncGenerator):
            await self._ids.aclose()

    async def _read(self) -> UUID | Malformed | None:
        try:
            given = await anext(self._ids)
        except StopAsyncIteration:
            self._ended = True
            return None
        except BaseException:
            self._ended = True
            raise
        return _id_of(given)


class _Seen:
    """The ids that came, in some 20 bytes each; a set takes up to 150."""

    __slots__ = ("_buckets",)

    BUCKETS = 1024

    def __init__(self) -> None:
        self._buckets: list[bytearray | None] = [None] * self.BUCKETS

    def add(self, avatar_id: UUID) -> bool:
        """Take in an id, and say whether it is new."""
        number, key = hash(avatar_id.int) % self.BUCKETS, avatar_id.bytes
        bucket = self._buckets[number]
        if bucket is None:
            bucket = self._buckets[number] = bytearray()
        found = bucket.find(key)
        while found % len(key) and found >= 0:  # across the border of two
            found = bucket.find(key, found + 1)
        if found < 0:
            bucket += key
        return found < 0


def _id_of(given: object) -> UUID | Malformed:
    try:
        return as_uuid(given, "avatar_id")  # type: ignore[arg-type]
    except TypeError as error:
        return Malformed(f"{given!r:.80}", ValueError(str(error)))
    except ValueError as error:
        return Malformed(str(given), error.with_traceback(None))


async def _each(ids: Iterable[str | UUID]) -> AsyncGenerator[str | UUID, None]:
    for given in ids:
        yield given
