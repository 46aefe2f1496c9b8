"""A newcomer's first hour: the commands and files of the first page, as processes, in the order of the page."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .kit import EXAMPLES, PAGES

Environment = dict[str, str]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def python(*arguments: str, cwd: Path, env: Environment) -> str:
    """Run Python in a folder, and return what it prints."""
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=100)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


@contextmanager
def running(*command: str, cwd: Path, env: Environment, until: str) -> Iterator[tuple[str, list[str]]]:
    """Run a process; give what it printed up to a line with `until`, and a list that gets the rest at the end."""
    rest: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-m", *command], cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        first = ""
        for line in process.stdout:
            first += line
            if until in line:
                break
        try:
            yield first, rest
        finally:
            process.terminate()
            rest += process.stdout.readlines()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_first_hour(tmp_path: Path) -> None:
    """Emulator, script, app with webhooks, and a test of the app; scripts and tests run twice."""
    api, app = str(free_port()), str(free_port())
    for name in ("first", "app", "test_app"):
        (tmp_path / f"{name}.py").write_text(EXAMPLES[name])
    settings = dict(re.findall(r"^export (\w+)=(.+)$", PAGES["index.md"], re.MULTILINE))
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    env["PYTEST_ADDOPTS"] = "-p no:schemathesis -p no:hypothesispytest -p no:xdist"  # which a newcomer has not
    command = shlex.split(EXAMPLES["emulator_command"].replace(":8000/", f":{app}/"))
    emulator = ("avaturn_async", *command[1:], "--port", api, "--small-models", "--export-seconds", "0.5")
    with running(*emulator, cwd=tmp_path, env=env, until="avaturn make") as (printed, _):
        exported = dict(re.findall(r"^export (\w+)=(.+)$", printed, re.MULTILINE))
        assert {"AVATURN_BASE_URL", "AVATURN_API_TOKEN"} == exported.keys()
        assert {*exported, "AVATURN_WEBHOOK_SECRET"} == settings.keys()
        assert settings["AVATURN_BASE_URL"] == exported["AVATURN_BASE_URL"].replace(api, "8480")
        env |= settings | exported
        assert command[-1].endswith(settings["AVATURN_WEBHOOK_SECRET"])
        avatar, resolved_by, _ = python("first.py", cwd=tmp_path, env=env).split()
        assert "poll" == resolved_by
        assert b"glTF" == (tmp_path / "avatar.glb").read_bytes()[:4]
        server = ("uvicorn", "app:app", "--port", app)
        with running(*server, cwd=tmp_path, env=env, until="Uvicorn running") as (_, log):
            python("first.py", cwd=tmp_path, env=env)
            url = f"http://127.0.0.1:{app}/models/{avatar}"
            with urllib.request.urlopen(urllib.request.Request(url, method="POST")) as response:
                assert b'"resolved_by":"create"' in response.read()
        assert 2 == sum('"POST /avaturn/*** HTTP/1.1" 200' in line for line in log), log
    for _ in range(2):
        assert "1 passed" in python("-m", "pytest", "-q", "test_app.py", cwd=tmp_path, env=env)
