"""What users see of pending objects."""

from __future__ import annotations

import gc
import importlib
import pkgutil
import typing
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

import avaturn_async
from avaturn_async import AvaturnError, Pending, PendingAvatar, PendingExport, PendingRender, PendingSession
from avaturn_async.resources import Avatars, Exports, Renders, Sessions
from avaturn_async.webhooks import MemoryMailbox

from .kit import AVATAR, PENDING, RENDER, VirtualLoop, World, run, saying

COMMON = {"avatar_id", "done", "refresh", "result", "resume_token", "status", "wait"}


IDS: dict[type[typing.Any], set[str]] = {
    Pending: set(),
    PendingExport: set(),
    PendingRender: {"id"},
    PendingAvatar: {"user_id"},
    PendingSession: {"session_id", "user_id"},
}


@pytest.mark.parametrize("kind", IDS)
def test_dir_shows_the_public_names_alone(kind: type[typing.Any]) -> None:
    """Those that the documentation names, and the ids."""
    assert COMMON | IDS[kind] == {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize("kind", [*IDS, Exports, Renders, Avatars, Sessions])
def test_annotations_can_be_resolved(kind: type[typing.Any]) -> None:
    """As dependency injection and documentation tools do."""
    typing.get_type_hints(kind)
    for name in dir(kind):
        member = getattr(kind, name)
        target = member.fget if isinstance(member, property) else member
        if not name.startswith("_") and callable(target):
            typing.get_type_hints(target)


def test_every_error_is_exported() -> None:
    """A class that can leave a public call can be caught by its name."""
    for module in pkgutil.walk_packages(avaturn_async.__path__, "avaturn_async."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    kinds, found = [AvaturnError], set()
    while kinds:
        found.add(kinds[0].__name__)
        kinds = [*kinds[1:], *kinds[0].__subclasses__()]
    assert set() == found - set(avaturn_async.__all__)


def test_text_names_the_job() -> None:
    """In messages and on a prompt."""

    async def story() -> None:
        world = World(saying(PENDING))
        export = await world.exports.create(AVATAR)
        assert f"the export of avatar {AVATAR}" == str(export)
        assert f"<PendingExport avatar_id={AVATAR} status=pending>" == repr(export)
        assert f"the scan of avatar {AVATAR}" == str(world.avatars.pending("u", AVATAR))
        assert f"the render of avatar {AVATAR}" == str(world.renders.pending(AVATAR, RENDER))

    run(story())


def test_a_dropped_pending_is_collected() -> None:
    """Nothing keeps it: no registry, task or timer."""

    async def story() -> None:
        world = World(saying(PENDING))
        export = await world.exports.create(AVATAR)
        alive = weakref.ref(export)
        del export
        gc.collect()
        assert alive() is None
        assert not world.context.active

    run(story())


def test_a_wait_may_outlive_its_loop() -> None:
    """A program that closes the loop without cancelling its tasks gets no second error when they are collected."""

    async def story() -> Coroutine[Any, Any, Any]:
        export = await World(saying(PENDING), mailbox=MemoryMailbox()).exports.create(AVATAR)
        waiting = export.wait()
        waiting.send(None)
        return waiting

    loop = VirtualLoop()
    waiting = loop.run_until_complete(story())
    loop.close()
    waiting.close()
