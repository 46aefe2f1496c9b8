"""Resume tokens: what they contain, that those of earlier releases are read, and what is refused."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from avaturn_async import ConfigurationError, ExternalAvatarCustomization
from avaturn_async.pending.base import read_token, write_token
from avaturn_async.webhooks import MemoryMailbox

from .kit import AVATAR, NEVER, PENDING, READY, URL, World, export_event, run, saying

BASE = "https://api.example"

#: Tokens as each release wrote them. A release that writes other fields adds a file, and changes none.
RELEASES: dict[str, dict[str, str]] = {
    path.stem.removeprefix("tokens-"): json.loads(path.read_text())
    for path in sorted((Path(__file__).parent / "data").glob("tokens-*.json"))
}
NEWEST = max(RELEASES, key=lambda release: [int(part) for part in release.split(".")])
STORED = RELEASES[NEWEST]


def resumer(world: World, kind: str) -> Callable[[str], Any]:
    """Return what resumes jobs of a kind."""
    return {
        "export": world.exports.resume,
        "render": world.renders.resume,
        "avatar": world.avatars.resume,
        "session": world.sessions.resume,
    }[kind]


@pytest.mark.parametrize(("release", "name"), [(release, name) for release in RELEASES for name in RELEASES[release]])
def test_tokens_of_every_release_are_read(release: str, name: str) -> None:
    """The job, its age and the last delivery survive in the token that the resumed job writes."""
    stored = RELEASES[release][name]
    pending = resumer(World(saying(READY)), json.loads(stored)["kind"])(stored)
    expected, written = json.loads(stored), json.loads(pending.resume_token)
    assert expected | {"v": written["v"]} == {field: written[field] for field in expected}


@pytest.mark.parametrize("name", STORED)
def test_the_newest_tokens_are_those_that_this_release_writes(name: str) -> None:
    """Otherwise a file for this release is missing."""
    pending = resumer(World(saying(READY)), json.loads(STORED[name])["kind"])(STORED[name])
    assert json.loads(STORED[name]) == json.loads(pending.resume_token)


def test_resuming_continues_elsewhere() -> None:
    """The job is polled at once, and its age counts from the creation."""

    async def story() -> None:
        token = json.loads((await World(saying(PENDING)).exports.create(AVATAR)).resume_token)
        assert {"v", "kind", "base_url", "created", "avatar_id"} == set(token)
        assert abs(token["created"] - time.time()) < 60
        token["created"] -= 60
        other = World(saying(READY))
        model = await other.exports.resume(json.dumps(token))
        assert (URL, "poll", True) == (model.url, model.resolved_by, 59.9 <= model.waited <= 65)
        assert [0] == other.times

    run(story())


def test_a_token_is_stable() -> None:
    """It can be stored when the job is created and compared later."""

    async def story() -> None:
        export = await World(saying(PENDING)).exports.create(AVATAR)
        token = export.resume_token
        await asyncio.sleep(5)
        await export.refresh()
        assert token == export.resume_token

    run(story())


def test_a_token_keeps_the_place_in_the_mailbox() -> None:
    """Another process takes events from after the creation without a confirming poll, and none from before."""

    async def story() -> None:
        box = MemoryMailbox()
        await box.deliver(export_event(url="https://old.example"))
        token = (await World(saying(PENDING), mailbox=box).exports.create(AVATAR)).resume_token
        await box.deliver(export_event())
        world = World(saying(PENDING), mailbox=box, confirm=False, policy=NEVER)
        assert (URL, []) == ((await world.exports.resume(token)).url, world.times)

    run(story())


def test_a_token_has_no_more_than_is_needed() -> None:
    """In particular no url, and no customization once it was set."""

    async def story() -> None:
        listed = [{"id": str(AVATAR), "status": "ready"}]
        world = World(lambda call: {} if "customization" in call.path else listed)
        avatar = world.avatars.pending("u", AVATAR, customization=ExternalAvatarCustomization())
        assert {"assets": {}, "body": "body_0"} == json.loads(avatar.resume_token)["customization"]
        await avatar
        assert {"v", "kind", "base_url", "created", "avatar_id", "user_id"} == set(json.loads(avatar.resume_token))
        export = await World(saying(READY)).exports.create(AVATAR)
        assert "files.example" not in export.resume_token

    run(story())


@given(st.dictionaries(st.text().filter(lambda name: name not in ("v", "kind", "base_url", "created")), st.text()))
def test_fields_are_read_as_written(fields: dict[str, str]) -> None:
    """Whatever a kind of job writes."""
    read = read_token(write_token("avatar", BASE, 0, fields), kind="avatar", base_url=BASE)
    assert fields == {name: read[name] for name in fields}


NONSENSE: dict[str, Any] = {
    "empty": "",
    "text": "x",
    "null": "null",
    "array": "[]",
    "number": "1",
    "quoted": '"{}"',
    "cut": "{",
    "deep": "[" * 100_000,
    "None": None,
    "int": 1,
    "bytes": b"\xff",
    "list": ["a"],
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_refused(name: str) -> None:
    """The message says what a token is."""
    with pytest.raises(ValueError, match=r"a resume token is the JSON text that \.resume_token returned, unchanged"):
        read_token(NONSENSE[name], kind="export", base_url=BASE)


def token(**changes: Any) -> str:
    """Return a token of an export with changes."""
    return json.dumps({**json.loads(STORED["export"]), **changes})


@pytest.mark.parametrize(
    "created", [None, "1", True, math.nan, math.inf, [1], 10**400, -1], ids=lambda value: f"{value!r:.10}"
)
def test_a_token_says_when_its_job_was_created(created: Any) -> None:
    """Without a number the age of the job would not be known."""
    with pytest.raises(ValueError, match="does not say when its job was created"):
        read_token(token(created=created), kind="export", base_url=BASE)


@pytest.mark.parametrize("name", ["avatar_id", "id", "position", "session_id", "user_id"])
def test_texts_are_checked(name: str) -> None:
    """Before they are used for anything."""
    with pytest.raises(ValueError, match=f"the {name} in this resume token is not a string"):
        read_token(token(**{name: [1]}), kind="export", base_url=BASE)


@pytest.mark.parametrize("version", [None, 0, 2, "1", [1] * 1000], ids=lambda value: f"{value!r:.10}")
def test_a_token_of_a_later_version(version: Any) -> None:
    """It is refused, and not guessed at; the message is short."""
    with pytest.raises(ValueError, match="this release reads up to 1") as caught:
        read_token(token(v=version), kind="export", base_url=BASE)
    assert len(str(caught.value)) < 120


def test_a_token_of_another_kind() -> None:
    """An export is not resumed as a render."""
    world = World(saying(PENDING))
    for resume in (world.renders.resume, world.avatars.resume, world.sessions.resume):
        with pytest.raises(ValueError, match="this resume token is for the kind 'export', not '"):
            resume(STORED["export"])


@pytest.mark.parametrize("base_url", [None, "https://other.example", 1], ids=str)
def test_a_token_of_another_api(base_url: Any) -> None:
    """Its ids mean something else there."""
    with pytest.raises(ConfigurationError, match=r"but the client's base_url is 'https://api\.example'"):
        World(saying(PENDING)).exports.resume(token(base_url=base_url))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("export", {"avatar_id": "nonsense"}),
        ("render", {"id": "nonsense"}),
        ("avatar", {"avatar_id": ""}),
        ("avatar", {"customization": 5}),
        ("avatar", {"customization": {"body": 5}}),
    ],
    ids=["avatar_id", "id", "empty", "no customization", "wrong customization"],
)
def test_ids_and_customizations_are_checked_at_once(kind: str, changes: dict[str, Any]) -> None:
    """Before anything is awaited."""
    with pytest.raises(ValueError, match="token"):
        resumer(World(saying(PENDING)), kind)(json.dumps({**json.loads(STORED[kind]), **changes}))
