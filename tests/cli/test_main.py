"""The entry point: what it loads, and what it says without the extra."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import avaturn_async
from avaturn_async.cli import app
from avaturn_async.emulator import EmulatorThread

from .kit import AVATAR, against, avaturn, command_line, records

HEAVY = {"asyncio", "aiohttp", "attrs", "attr", "cattrs", "tenacity", "PIL", "avaturn_async.emulator"}


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python of its own in which warnings are errors."""
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra(missing: str) -> None:
    """One line says what to install."""
    done = python(f"import sys; sys.modules[{missing!r}] = None; " + command_line("inspect", "x.glb"))
    assert 2 == done.returncode
    assert 'avaturn: the command line needs packages that are not installed: pip install "avaturn-async[cli]"\n' == (
        done.stderr
    )


def test_other_missing_modules_are_not_hidden() -> None:
    """A module of ours that is missing is a defect, and shown as one."""
    done = python("import sys; sys.modules['avaturn_async.cli'] = None; " + command_line("--help"))
    assert 1 == done.returncode
    assert "ModuleNotFoundError" in done.stderr


def test_help_loads_little() -> None:
    """Help and completion are quick because nothing slow is loaded for them."""
    code = (
        f"import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); {command_line('--help')}"
    )
    done = python(code)
    assert 0 == done.returncode
    assert done.stdout.startswith("Usage: avaturn ")
    assert set() == HEAVY & set(done.stderr.split())


def test_ctrl_c_amid_imports() -> None:
    """Before a command has begun, Ctrl-C ends the process without a word."""
    fake = "import os, signal, types, sys; app = types.ModuleType('avaturn_async.cli'); "
    fake += "app.__getattr__ = lambda name: os.kill(os.getpid(), signal.SIGINT); sys.modules[app.__name__] = app; "
    done = python(fake + command_line("demo"))
    assert (130, "", "") == (done.returncode, done.stdout, done.stderr)


def test_module_is_the_command() -> None:
    """``python -m avaturn_async`` calls itself avaturn."""
    command = [sys.executable, "-m", "avaturn_async", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"avaturn {avaturn_async.__version__}\n" == done.stdout


def test_version() -> None:
    """The version is the package's."""
    assert f"avaturn {avaturn_async.__version__}\n" == avaturn("--version").stdout


def paths(group: object, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """List all commands."""
    found = []
    for name, command in sorted(getattr(group, "commands", {}).items()):
        found += [(*prefix, name), *paths(command, (*prefix, name))]
    return found


def every_command() -> list[tuple[str, ...]]:
    """List all commands of the application."""
    from typer.main import get_command

    return paths(get_command(app))


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_help_of_each_command(path: tuple[str, ...]) -> None:
    """Each says what it does in a sentence, and each that does something shows an example."""
    shown = avaturn(*path, "--help").stdout
    assert re.search(r"^  [A-Z][^.]+\.", shown, re.MULTILINE)
    assert "Commands:" in shown or "Examples:\n    avaturn " in shown


@pytest.mark.parametrize("group", [(), ("users",), ("avatars",), ("avatars", "customization"), ("sessions",)])
def test_groups_alone_show_their_help(group: tuple[str, ...]) -> None:
    """A group without a command shows which there are, and counts as a usage error."""
    result = avaturn(*group)
    assert 2 == result.exit_code
    assert "Commands:" in result.stderr


def test_completion() -> None:
    """Shell completion knows the commands."""
    code = (
        "import os; os.environ.update(_AVATURN_COMPLETE='complete_bash', COMP_WORDS='avaturn insp', COMP_CWORD='1'); "
    )
    assert "inspect" == python(code + command_line()).stdout.strip()


@pytest.mark.parametrize("redirection", ["2>&-", "<&-", "<&- 2>&-"])
def test_closed_streams(emulated: EmulatorThread, tmp_path: Path, redirection: str) -> None:
    """A service without stdin or stderr gets its records and its exit code."""
    line = f"{sys.executable} -m avaturn_async export {AVATAR} --json --out {tmp_path} {redirection}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=os.environ | against(emulated))
    assert 1 == done.returncode
    assert ["NotFoundError"] == [record["error"] for record in records(done.stdout)]


def test_help_without_docstrings() -> None:
    """Under ``python -OO`` each command still says what it does."""
    done = subprocess.run([sys.executable, "-OO", "-m", "avaturn_async", "--help"], capture_output=True, text=True)
    assert "Make, export and render Avaturn avatars." in done.stdout
    assert "Export avatars as GLB models" in done.stdout
