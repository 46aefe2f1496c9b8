"""Tasks, threads and users' functions: errors of task groups, cancellation, work that finishes although cancelled."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Executor

__all__ = [
    "check_not_async",
    "completed",
    "is_async",
    "is_cancelled",
    "raise_first",
    "run_in_thread",
    "run_to_completion",
    "settled",
]

T = TypeVar("T")


def is_async(function: object) -> bool:
    """Return whether a call of `function` returns a coroutine: it, or its ``__call__``, is an async function."""
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def check_not_async(name: str, function: object) -> None:
    """Raise TypeError unless the argument `name` is None or a function that is not async."""
    if function is not None and (not callable(function) or is_async(function)):
        raise TypeError(f"{name} must be a function that is not async, not {type(function).__name__}")


def is_cancelled() -> bool:
    """Return whether the current task is being cancelled, and not something that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def raise_first(task: asyncio.Task[T]) -> T:
    """Await `task` and raise the first error of its exception groups, without the groups."""
    try:
        return await task
    except BaseExceptionGroup as group:
        error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    try:
        raise error
    finally:
        del error  # its traceback refers to this frame: a cycle


async def run_to_completion(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end even if the caller is cancelled meanwhile; the cancellation is raised afterwards."""
    return await completed(asyncio.get_running_loop().create_task(work))


async def run_in_thread(function: Callable[..., T], *args: Any, executor: Executor | None = None) -> T:
    """Run `function` in a thread and wait for its end even if the caller is cancelled meanwhile.

    Use it where cancellation must not leave the thread at work, on a file that is then closed, for example.
    """
    return await completed(asyncio.get_running_loop().run_in_executor(executor, function, *args))


async def settled(future: asyncio.Future[Any]) -> None:
    """Wait for the end of `future` even if the caller is cancelled meanwhile; the cancellation is raised afterwards.

    An exception in the future counts as retrieved.
    """
    cancelled = False
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            cancelled = True
    _ = future.cancelled() or future.exception()
    if cancelled:
        raise asyncio.CancelledError


async def completed(future: asyncio.Future[T]) -> T:
    """Wait for the end of `future` as `settled` does, and return its result."""
    await settled(future)
    return future.result()
