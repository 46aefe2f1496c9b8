"""Fixtures for all tests, and what every test must hold to: no blocking call on the loop, no task left behind."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from unittest.mock import patch

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

from avaturn_async import AvaturnClient, PollPolicy
from avaturn_async.emulator import Emulator, Timing

pytest_plugins = ["pytester"]

# No wall-clock assertions: what is slow here may be a busy machine.
settings.register_profile("avaturn", deadline=None)
settings.load_profile("avaturn")

AT_ONCE = Timing(scan=0, export=0, render=0)
QUICK = PollPolicy(first=0.02, factor=1.5, cap=0.25, first_with_webhooks=0.25)


def pytest_configure() -> None:
    """Restore Ctrl-C, which a shell takes from what it starts in the background, and so from all tested processes."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure coverage in a slow test only if it alone runs some lines, as the measurement slows it most."""
    slow = item.get_closest_marker("slow")
    if slow is None or slow.kwargs.get("measured"):
        return (yield)
    tracer, of_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]
    try:
        with patch.dict(os.environ):
            os.environ.pop("COVERAGE_PROCESS_CONFIG", None)  # makes coverage measure the processes of a test
            return (yield)
    finally:
        threading.settrace(of_threads)  # type: ignore[arg-type]
        sys.settrace(tracer)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have every async test checked, around all of its other fixtures."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
            item.fixturenames.insert(0, "nothing_left_running")


@pytest.fixture
async def nothing_left_running() -> AsyncIterator[None]:
    """Fail a test that leaves a task on its loop, once what it and its fixtures closed has had its last turns."""
    before = asyncio.all_tasks()
    yield
    for _ in range(5):
        await asyncio.sleep(0)
    assert set() == asyncio.all_tasks() - before - {asyncio.current_task()}


@pytest.fixture(autouse=True, scope="session")
def nothing_blocks() -> Iterator[None]:
    """Fail on a call of the package's that blocks a running loop."""
    with blockbuster_ctx("avaturn_async") as blocks:
        if "coverage" in sys.modules:
            # Coverage's tracer takes a lock of its own within any call, and threads then wait for each other.
            blocks.functions["threading.Lock.acquire"].deactivate()
        # A mailbox that several threads use has them wait for each other, for microseconds.
        locked = {"position", "wait", "aclose", "deliver", "_forget"}
        blocks.functions["threading.Lock.acquire"].can_block_in("avaturn_async/webhooks/mailbox.py", locked)
        for each in blocks.functions.values():  # asyncpg looks for certificates in the home folder
            each.can_block_in("asyncpg/connect_utils.py", {"_parse_connect_dsn_and_args"})
        yield


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Run other suites without the plugins that this one does without; loading them anew takes a second each time."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:faker -p no:schemathesis")
    return pytester


@pytest.fixture(autouse=True)
def root_level_stays() -> Iterator[None]:
    """Undo what frameworks that an example uses set for the whole process."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """Run an emulator whose jobs take no time."""
    async with Emulator(timing=AT_ONCE, models="small") as running:
        yield running


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[AvaturnClient]:
    """Open a client of the emulator that polls quickly."""
    async with AvaturnClient(emulator.token, base_url=emulator.url, polling=QUICK) as opened:
        yield opened
