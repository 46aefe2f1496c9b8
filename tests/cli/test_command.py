"""Exit codes, errors in one line, and Ctrl-C."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import threading
from collections.abc import Coroutine
from typing import Any

import pytest
import typer

from avaturn_async.cli import command
from avaturn_async.cli.command import run, tell
from avaturn_async.errors import ConfigurationError, DownloadError, RequestTimeoutError, WebhooksRequiredError


def outcome(work: Coroutine[Any, Any, int]) -> int:
    """Run a command and return its exit code."""
    with pytest.raises(typer.Exit) as caught:
        run(work)
    return caught.value.exit_code


async def raising(error: BaseException) -> int:
    """Fail as a command would."""
    raise error


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigurationError("no token"), 2, "no token"),
        (WebhooksRequiredError("no receiver"), 2, "no receiver"),
        (ValueError("no UUID"), 2, "no UUID"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.jpg"), 2, "a.jpg: No such file"),
        (OSError(errno.EADDRINUSE, "in use"), 2, "in use"),
        (OSError("odd"), 2, "odd"),
        (ImportError("install pillow"), 2, "install pillow"),
        (RequestTimeoutError("too late"), 1, "too late"),
        (DownloadError("lines\nand \x1b[31mcolours"), 1, "lines and [31mcolours"),
        (ExceptionGroup("both", [ExceptionGroup("one", [ValueError("first")]), ValueError("second")]), 2, "first"),
    ],
)
def test_errors(error: Exception, code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An error is one line on stderr, and says by its kind whether it was a matter of usage."""
    assert code == outcome(raising(error))
    assert ("", f"avaturn: {line}\n") == capsys.readouterr()


def test_defects_are_not_hidden() -> None:
    """What no command expects keeps its traceback."""
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()))


def test_closed_pipe_is_nobodys_error() -> None:
    """A reader that went away is left to typer, which ends quietly."""
    with pytest.raises(BrokenPipeError):
        run(raising(BrokenPipeError()))


def test_nameless_error(capsys: pytest.CaptureFixture[str]) -> None:
    """An error without a message is reported by its type."""
    assert 2 == tell(ValueError())
    assert "avaturn: ValueError\n" == capsys.readouterr().err


def test_ctrl_c_cancels_and_cleans_up(capsys: pytest.CaptureFixture[str]) -> None:
    """The command is cancelled, its cleanup runs, and the signal's handler is what it was."""
    cleaned, before = [], signal.getsignal(signal.SIGINT)

    async def work() -> int:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            return await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    assert 130 == outcome(work())
    assert [True] == cleaned
    assert before is signal.getsignal(signal.SIGINT)
    assert "avaturn: interrupted\n" == capsys.readouterr().err


def test_second_ctrl_c_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C ends the process without waiting for the cleanup."""
    ended = []
    monkeypatch.setattr(command.os, "_exit", ended.append)

    async def work() -> int:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            return await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    assert 130 == outcome(work())
    assert [130] == ended


def test_in_another_thread() -> None:
    """Where signals can't be handled a command runs all the same."""
    codes = []
    thread = threading.Thread(target=lambda: codes.append(outcome(asyncio.sleep(0, result=0))))
    thread.start()
    thread.join()
    assert [0] == codes
