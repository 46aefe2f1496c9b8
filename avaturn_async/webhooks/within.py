"""A timeout for what is, as a rule, there at once."""

from __future__ import annotations

import asyncio
import types
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

__all__ = ["within"]

T = TypeVar("T")


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Await `work` for so many seconds at most, then raise TimeoutError.

    The timeout is set only where `work` has to wait for something: that costs some 10 us, and most bodies have come
    with their headers.
    """
    try:
        awaited = work.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    async with asyncio.timeout(seconds):
        return await _rest_of(work, awaited)


@types.coroutine
def _rest_of(work: Coroutine[Any, Any, T], awaited: Any) -> Generator[Any, Any, T]:
    """Go on with a coroutine that has begun and waits for `awaited`."""
    try:
        while True:
            try:
                sent = yield awaited
            except GeneratorExit:
                work.close()
                raise
            except BaseException as error:  # noqa: BLE001 - a cancellation, as a rule: it is for the coroutine
                awaited = work.throw(error)
            else:
                awaited = work.send(sent)
    except StopIteration as done:
        value: T = done.value
        return value
