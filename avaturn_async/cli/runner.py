"""Run a command's coroutine: Ctrl-C, errors on one line, and the exit code."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from importlib import import_module
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn, cast

import typer

from .output import note

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine, Iterator
    from types import FrameType

__all__ = ["DONE", "FAILED", "INTERRUPTED", "USAGE", "UsageError", "failure", "run", "tell", "tell_of", "usage"]

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

#: What commands import lazily; on a running loop an import would block it.
_BEFORE_THE_LOOP = ("..client", "..webhooks.server", ".terminal")

# Typer keeps it in different modules from version to version; BadParameter stays.
UsageError: type[Exception] = cast("type[Exception]", typer.BadParameter.__mro__[1])


def run(work: Coroutine[Any, Any, int]) -> NoReturn:
    """Run a command to its end, and exit with the code that it returns or that its error stands for."""
    for name in _BEFORE_THE_LOOP:
        import_module(name, __package__)
    raise typer.Exit(_outcome(work))


def tell(error: BaseException) -> int | None:
    """Print an error on one line and return the exit code; None, and nothing printed, for an unexpected exception."""
    from ..errors import AvaturnError, ConfigurationError, WebhooksRequiredError

    if isinstance(error, ConfigurationError | WebhooksRequiredError):
        code = USAGE
    elif isinstance(error, AvaturnError):
        code = FAILED
    elif isinstance(error, ValueError | OSError | ImportError):
        code = USAGE
    else:
        return None
    note(f"avaturn: {failure(error)}")
    return code


def usage(error: Exception) -> int:
    """Print a usage error on one line, or the help that a command without arguments shows; return the exit code."""
    message = str(getattr(error, "format_message", error.__str__)())
    path = getattr(getattr(error, "ctx", None), "command_path", "avaturn")
    if "\n" in message.strip():
        typer.echo(message, err=True)
    else:
        stop = "" if message.endswith((".", "?")) else "."
        note(f"{path}: {message}{stop} See: {path} --help")
    return USAGE


def failure(error: BaseException) -> str:
    """Return the message of an error."""
    from ..errors import AvaturnError

    if isinstance(error, OSError) and error.strerror and not isinstance(error, AvaturnError):
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def tell_of(avatar: object, error: Exception) -> None:
    """Print the error of one avatar of several, on one line."""
    message = failure(error)
    note(f"avaturn: {message}" if str(avatar) in message else f"avaturn: {avatar}: {message}")


def _outcome(work: Coroutine[Any, Any, int]) -> int:
    import asyncio

    async def interruptible() -> int:
        with _cancelled_by_ctrl_c(cast("asyncio.Task[int]", asyncio.current_task())):
            return await work

    try:
        with asyncio.Runner() as runner:
            return runner.run(interruptible())
    except asyncio.CancelledError:
        note("avaturn: interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        first: BaseException = error
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        code = tell(first)
        if code is None:
            raise
        return code


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
