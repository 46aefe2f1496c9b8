"""``avaturn wait``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from avaturn_async import AvaturnClient, ExternalAvatarCustomization, Photos
from avaturn_async.emulator import EmulatorThread, Timing

from .kit import SECRET, against, avaturn, free_port, records

Started = tuple[str, str]


def started(emulated: EmulatorThread, start: Callable[[AvaturnClient], Coroutine[Any, Any, Started]]) -> Started:
    """Start a job in another process, as it were; return its avatar and its token."""

    async def run() -> Started:
        async with AvaturnClient(emulated.token, base_url=emulated.url) as client:
            return await start(client)

    return asyncio.run(run())


async def scan(client: AvaturnClient) -> Started:
    """Start a scan."""
    photo = b"\xff\xd8\xff\xda a face \xff\xd9"
    photos = Photos(photo, photo, photo, body_type="male")
    user = await client.users.create()
    pending = await client.avatars.create_from_photos(user.id, photos, customization=ExternalAvatarCustomization())
    return str(pending.avatar_id), pending.resume_token


async def export(client: AvaturnClient) -> Started:
    """Start an export."""
    avatar, token = await scan(client)
    await client.avatars.resume(token)
    return avatar, (await client.exports.create(avatar)).resume_token


def test_an_export(emulated: EmulatorThread, tmp_path: Path) -> None:
    """It is awaited and downloaded."""
    avatar, token = started(emulated, export)
    file = tmp_path / "new" / "avatar.glb"
    done = avaturn("wait", token, "--out", file, "--json", env=against(emulated))
    (record,) = records(done.stdout)
    assert ("export", avatar, "ready", str(file)) == tuple(record[n] for n in ("kind", "avatar_id", "status", "file"))
    assert record["size"] == file.stat().st_size
    again = avaturn("wait", token, "--out", file, env=against(emulated))
    assert (2, True) == (again.exit_code, "--overwrite replaces it" in again.stderr)


def test_from_stdin(emulated: EmulatorThread) -> None:
    """A token need not be in quotes."""
    avatar, token = started(emulated, scan)
    done = avaturn("wait", "-", env=against(emulated), stdin=f"{token}\n".encode())
    assert f"avatar {avatar} is ready\n" == done.stdout


def test_a_render(emulated: EmulatorThread, tmp_path: Path) -> None:
    """Its webhook is received."""
    emulated.timing = Timing(scan=0, render=1.5)
    port = free_port()
    emulated.webhook_url = f"http://127.0.0.1:{port}/avaturn/{SECRET}"

    async def render(client: AvaturnClient) -> Started:
        avatar, token = await scan(client)
        await client.avatars.resume(token)
        return avatar, (await client.renders.create(avatar)).resume_token

    avatar, token = started(emulated, render)
    line = ["wait", token, "--out", tmp_path / "a.jpg", "--webhook-port", port, "--secret", SECRET]
    done = avaturn(*line, env=against(emulated))
    assert (0, True) == (done.exit_code, (tmp_path / "a.jpg").read_bytes().startswith(b"\xff\xd8")), done.output
    assert f"the render of avatar {avatar} is ready" in done.stdout


def test_a_deadline(emulated: EmulatorThread) -> None:
    """A job that has not ended is reported, with exit code 1."""
    emulated.timing = Timing(scan=3600)
    done = avaturn("wait", started(emulated, scan)[1], "--timeout", "0", env=against(emulated))
    assert (1, "", 1) == (done.exit_code, done.stdout, len(done.stderr.splitlines()))


@pytest.mark.parametrize(
    ("token", "options", "said"),
    [
        ("token.json", [], "to read it from a file: avaturn wait - < FILE"),
        ("{nonsense", [], "a resume token is the JSON text"),
        ('{"kind": ["export"]}', [], "this resume token does not say when its job was created"),
        ('{"kind": "avatar"}', ["--out", "a.glb"], "--out is for exports and renders"),
        ('{"kind": "session"}', ["--out", "a.glb"], "this token is of the kind session"),
        ('{"kind": "render"}', [], "give --webhook-port and set AVATURN_WEBHOOK_SECRET"),
    ],
)
def test_refusals(emulated: EmulatorThread, token: str, options: list[str], said: str) -> None:
    """A usage error is reported on one line, before any request."""
    done = avaturn("wait", token, *options, env=against(emulated))
    assert (2, "", 1) == (done.exit_code, done.stdout, len(done.stderr.splitlines())), done.output
    assert said in done.stderr
    assert () == emulated.requests
