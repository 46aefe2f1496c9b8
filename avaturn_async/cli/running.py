"""Run a command's coroutine: Ctrl-C, errors in one line, and the exit code."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from importlib import import_module
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import typer

from .output import note

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterator
    from types import FrameType

__all__ = [
    "DONE",
    "FAILED",
    "INTERRUPTED",
    "USAGE",
    "UsageError",
    "failure",
    "off_loop",
    "refuse",
    "run",
    "tell",
    "tell_of",
    "tell_usage_error",
]

T = TypeVar("T")

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

# What commands import when they need it; on a running loop an import would block.
_ON_THE_LOOP = ("..client", "..webhooks.server", ".progress", ".tables")

# Where Typer has it differs from version to version; BadParameter stays.
UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])


def run(work: Coroutine[Any, Any, int]) -> NoReturn:
    """Run a command to its end and exit with the code that it returns, or with that of its error."""
    for name in _ON_THE_LOOP:
        import_module(name, __package__)
    raise typer.Exit(_outcome(work))


def refuse(error: Exception) -> NoReturn:
    """Exit because of an error that came before there was anything to run."""
    raise typer.Exit(tell(error) or FAILED)


def tell(error: BaseException) -> int | None:
    """Tell what went wrong in one line, and return the exit code; None, and nothing told, for a defect of ours."""
    code = _code_of(error)
    if code is not None:
        note(f"avaturn: {failure(error)}")
    return code


def tell_usage_error(error: Exception) -> None:
    """Tell a command line that can't be understood: one line, or the help that was asked for by saying nothing."""
    message = str(getattr(error, "format_message", error.__str__)())
    path = getattr(getattr(error, "ctx", None), "command_path", "avaturn")
    if "\n" in message.strip():
        typer.echo(message, err=True)
    else:
        stop = "" if message.endswith((".", "?")) else "."
        note(f"{path}: {message}{stop} See: {path} --help")


def failure(error: BaseException) -> str:
    """Return an error's message."""
    if isinstance(error, OSError) and error.strerror and not _is_ours(error):
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def tell_of(avatar: object, error: Exception) -> None:
    """Tell in one line what went wrong with one avatar of several."""
    message = failure(error)
    note(f"avaturn: {message}" if str(avatar) in message else f"avaturn: {avatar}: {message}")


async def off_loop(work: Callable[..., T], *args: Any) -> T:
    """Do blocking work in a thread."""
    import asyncio

    return await asyncio.to_thread(work, *args)


def _outcome(work: Coroutine[Any, Any, int]) -> int:
    import asyncio

    try:
        with asyncio.Runner() as runner:
            return runner.run(_interruptible(work))
    except asyncio.CancelledError:
        note("avaturn: interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        code = tell(_first(error))
        if code is None:
            raise
        return code


async def _interruptible(work: Coroutine[Any, Any, int]) -> int:
    import asyncio

    task = asyncio.current_task()
    with _cancelled_by_ctrl_c(cast("asyncio.Task[int]", task)):
        return await work


@contextmanager
def _cancelled_by_ctrl_c(task: asyncio.Task[int]) -> Iterator[None]:
    """Cancel the task at the first Ctrl-C, and end the process at the second."""
    presses = count()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if next(presses):
            os._exit(INTERRUPTED)
        task.get_loop().call_soon_threadsafe(task.cancel)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _code_of(error: BaseException) -> int | None:
    from ..errors import AvaturnError, ConfigurationError, WebhooksRequiredError

    if isinstance(error, ConfigurationError | WebhooksRequiredError):
        return USAGE
    if isinstance(error, AvaturnError):
        return FAILED
    return USAGE if isinstance(error, ValueError | OSError | ImportError) else None


def _is_ours(error: BaseException) -> bool:
    from ..errors import AvaturnError

    return isinstance(error, AvaturnError)
