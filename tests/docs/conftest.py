"""Fixtures of the examples: an emulator in the environment, an avatar in it, and a way to run an example."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from avaturn_async import AvaturnClient, ExternalAvatarCustomization, Photos, PollPolicy
from avaturn_async.emulator import EmulatorThread
from avaturn_async.emulator.images import photo

from .kit import EXAMPLES, PHOTO_FILES, SECRET

photo_of = cache(photo)


@pytest.fixture
def avaturn(avaturn_emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> EmulatorThread:
    """Run an emulator that examples find by the environment, in a folder of its own with the photos in it.

    Jobs take no time, so clients poll soon.
    """
    monkeypatch.setitem(AvaturnClient.__init__.__kwdefaults__, "polling", PollPolicy(first=0.05))
    monkeypatch.setenv("AVATURN_API_TOKEN", avaturn_emulator.token)
    monkeypatch.setenv("AVATURN_BASE_URL", avaturn_emulator.url)
    monkeypatch.setenv("AVATURN_WEBHOOK_SECRET", SECRET)
    monkeypatch.chdir(tmp_path)
    for name, view in PHOTO_FILES.items():
        (tmp_path / name).write_bytes(photo_of(seed=1, view=cast("Any", view)))
    return avaturn_emulator


@pytest.fixture
def new_avatar(avaturn: EmulatorThread) -> Callable[[], str]:
    """Return a function that makes an avatar that can be exported, and returns its id."""

    async def make() -> str:
        async with AvaturnClient() as client:
            user = await client.users.create()
            scan = await client.avatars.create_from_photos(
                user.id, Photos(*PHOTO_FILES, body_type="male"), customization=ExternalAvatarCustomization()
            )
            await asyncio.to_thread(avaturn.settled)
            return str((await scan).id)

    return lambda: asyncio.run(make())


@pytest.fixture
def avatar(new_avatar: Callable[[], str]) -> str:
    """Make an avatar that can be exported."""
    return new_avatar()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Return a function that runs an example as a module, with command line arguments."""
    module = ModuleType("documentation_example")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def run_it(name: str, *arguments: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        exec(compile(EXAMPLES[name], f"example {name}", "exec"), vars(module))
        return vars(module)

    return run_it
