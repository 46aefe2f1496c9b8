"""Work that finishes although its caller is cancelled, and errors without the groups around them."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from avaturn_async.http.tasks import check_not_async, is_async, raise_first, run_in_thread, run_to_completion


class Called:
    """An object with an async ``__call__``."""

    async def __call__(self) -> None:
        """Do nothing."""


async def _return_7() -> int:
    await asyncio.sleep(0)
    return 7


async def test_results_are_returned():
    """Without a cancellation the helpers are transparent."""
    assert 7 == await run_to_completion(_return_7())
    assert 7 == await raise_first(asyncio.create_task(_return_7()))
    assert 8 == await run_in_thread(max, 7, 8)


async def test_an_executor_can_be_given():
    """The function runs in a thread of that executor."""
    with ThreadPoolExecutor(1, thread_name_prefix="mine") as pool:
        thread = await run_in_thread(threading.current_thread, executor=pool)
    assert thread.name.startswith("mine")


async def test_work_completes_through_cancellations():
    """However often the caller is cancelled, CancelledError is raised only after the end of the work."""
    done = asyncio.Event()

    async def work() -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        done.set()

    task = asyncio.create_task(run_to_completion(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()


async def test_a_thread_completes_through_a_cancellation():
    """Its error is dropped in favour of the cancellation, without a warning that it was never retrieved."""
    started, go_on = threading.Event(), threading.Event()
    ended = []

    def work() -> None:
        started.set()
        assert go_on.wait(10)
        ended.append(1)
        raise OSError

    task = asyncio.create_task(run_in_thread(work))
    while not started.is_set():
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [1] == ended


async def test_errors_are_raised():
    """What the work raises is raised, also where the work cancels itself."""

    async def fail(error: BaseException) -> None:
        raise error

    for error in (KeyError(1), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            await run_to_completion(fail(error))
    with pytest.raises(ValueError, match="invalid literal"):
        await run_in_thread(int, "x")


async def test_the_first_error_of_nested_groups_is_raised_alone():
    """It has no group as its context."""

    async def work() -> None:
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [LookupError("first"), KeyError("second")])])

    with pytest.raises(LookupError, match="first") as caught:
        await raise_first(asyncio.create_task(work()))
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "function", [_return_7, partial(_return_7), Called(), partial(Called()), Called().__call__], ids=range(5)
)
def test_async_functions_are_known_in_every_form(function: Any) -> None:
    """A result that nobody awaits would be lost."""
    assert is_async(function)
    with pytest.raises(TypeError, match="progress must be a function that is not async, not "):
        check_not_async("progress", function)


@pytest.mark.parametrize("function", [None, print, len, Called, partial(print), lambda: None], ids=range(6))
def test_other_functions_are_taken(function: Any) -> None:
    """A class whose instances are async is a plain function that makes them."""
    check_not_async("progress", function)


def test_what_is_no_function_is_refused() -> None:
    """The message names the argument and the type."""
    with pytest.raises(TypeError, match=r"^on_progress must be a function that is not async, not int$"):
        check_not_async("on_progress", 1)
