"""Endings of tasks: what ended one as itself, and work that a cancellation does not cut short."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["as_itself", "to_its_end"]


async def as_itself(task: asyncio.Task[None]) -> None:
    """Wait for a task that runs task groups, and raise the first error in it without the groups around."""
    try:
        await task
    except BaseExceptionGroup as group:
        error: BaseException = group
    else:
        return
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    try:
        raise error
    finally:
        del error  # its traceback has this frame: a cycle


async def to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end, however often this is cancelled meanwhile; the cancellation is raised after it."""
    task = asyncio.get_running_loop().create_task(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        task.exception()  # else asyncio warns that nobody looked
        raise asyncio.CancelledError
    task.result()
