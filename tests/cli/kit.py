"""Commands as processes of their own, and in this one."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from typer.testing import CliRunner, Result

from avaturn_async.cli import app
from avaturn_async.emulator import EmulatorThread
from avaturn_async.emulator.glb.model import build_glb

AVATAR = "0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00"
SECRET = "a-secret-that-is-long-enough"
ALONE = {"AVATURN_API_TOKEN": "", "AVATURN_BASE_URL": "", "AVATURN_WEBHOOK_SECRET": ""}
#: Seconds after which a process counts as hanging.
HANGING = 60


def avaturn(*args: object, env: dict[str, str] | None = None, stdin: bytes | None = None) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(
        app, [str(arg) for arg in args], env=ALONE | (env or {}), input=stdin, prog_name="avaturn"
    )


def against(emulator: EmulatorThread) -> dict[str, str]:
    """Return the environment in which commands find an emulator."""
    return {"AVATURN_BASE_URL": emulator.url, "AVATURN_API_TOKEN": emulator.token}


def records(text: str) -> list[dict[str, Any]]:
    """Read lines of JSON."""
    return [json.loads(line) for line in text.splitlines()]


def model(folder: Path, body: Any = "T2") -> Path:
    """Write a model of the emulator's."""
    file = folder / f"{body}.glb"
    file.write_bytes(build_glb(seed=1, body=body, models="small"))
    return file


@contextmanager
def process(*args: object, cwd: Path, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a command as a process in which every warning is an error."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", "avaturn_async", *map(str, args)]
    # Checks of memory would take a quarter of the time; they find faults of C code alone.
    environment = os.environ | {"PYTHONMALLOC": "pymalloc"} | ALONE | (env or {})
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=cwd, env=environment, text=True, **pipes) as running:
        try:
            yield running
        finally:
            running.kill()


def read_until(stream: IO[str] | None, wanted: str) -> str:
    """Read lines until one has a text in it, and return that one."""
    assert stream is not None
    seen = []
    for line in stream:
        if wanted in line:
            return line
        seen.append(line)
    raise AssertionError(f"{wanted!r} did not come, but {''.join(seen)!r}")


def interrupt(running: subprocess.Popen[str]) -> tuple[int, str, list[str]]:
    """Press Ctrl-C; return the exit code, what came on stdout, and the lines that came on stderr from then on."""
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=HANGING)
    return running.returncode, out, without_slowness(err)


def without_slowness(err: str) -> list[str]:
    """Return the lines of stderr but for those in which asyncio's debug mode finds the machine slow."""
    return [line for line in err.splitlines() if not line.startswith("Executing <")]


def command_line(*args: Sequence[str] | str) -> str:
    """Return Python code that runs the entry point with arguments."""
    return f"import sys; sys.argv = {['avaturn', *args]!r}; from avaturn_async.__main__ import main; main()"


def free_port() -> int:
    """Return a free port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def terminal(monkeypatch: pytest.MonkeyPatch, columns: int = 80) -> Terminal:
    """Make stdout and stderr one terminal that knows colours."""
    made = Terminal()
    monkeypatch.setattr(sys, "stdout", made)
    monkeypatch.setattr(sys, "stderr", made)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    return made
