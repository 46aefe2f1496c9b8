"""Every public call that can fail, failing in several ways: no frame shows a token, path secret, photo or link."""

from __future__ import annotations

import asyncio
import json
import struct
import traceback
from collections.abc import Awaitable, Callable
from enum import Enum
from inspect import isclass, signature
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import avaturn_async.emulator
import avaturn_async.glb
import avaturn_async.models
import avaturn_async.webhooks
from avaturn_async import (
    AvaturnClient,
    AvaturnError,
    ExternalAvatarCustomization,
    MemoryMailbox,
    NewSessionResponse,
    Photos,
    PollPolicy,
    PostgresMailbox,
    RedisMailbox,
    RetryPolicy,
    Timeouts,
    WebhookReceiver,
)
from avaturn_async.glb import inspect, shrink
from avaturn_async.pending.base import Pending
from avaturn_async.webhooks import parse_event

from .http.kit import TOKEN, heard, reset, talking
from .leaks import leaks
from .webhooks.samples import SECRET, export_body, export_event

AVATAR = "00000000-0000-4000-8000-000000000001"
FACE = b"a face that is nobody else's"
PHOTO = b"\xff\xd8\xff\xda" + FACE + b"\xff\xd9"
QUERY = "signature=SESAME"
LINK = f"https://files.example/m.glb?{QUERY}"
PASSWORD = "hunter2"
SECRETS = (TOKEN, SECRET, FACE.decode(), "SESAME", PASSWORD)
HASTY = PollPolicy(first=0.01, factor=1, cap=0.01)


def token_of(client: AvaturnClient, kind: str, **fields: str) -> str:
    """Return a resume token."""
    return json.dumps(
        {"v": 1, "kind": kind, "avatar_id": AVATAR, "base_url": client.base_url, "created": 0, "user_id": "u", **fields}
    )


def session() -> NewSessionResponse:
    """Return a session as the API describes one."""
    return NewSessionResponse(id=UUID(AVATAR), url=LINK)


async def batch(client: AvaturnClient, folder: Path) -> None:
    """Run a batch of one, and raise its failure."""
    async with client.exports.batch([AVATAR], download_to=folder, journal=folder / "j.db", timeout=0.1) as running:
        (outcome,) = (await running.run()).failed
        raise outcome.error


def photos() -> Photos:
    """Return photos with a face."""
    return Photos(*[PHOTO] * 3, body_type="male")


CALLS: dict[str, Callable[[AvaturnClient, Path], Awaitable[object]]] = {
    "users.create": lambda client, _: client.users.create(),
    "users.delete": lambda client, _: client.users.delete("u"),
    "sessions.create": lambda client, _: client.sessions.create("u"),
    "sessions.pending": lambda client, _: client.sessions.pending(session(), user_id="u").wait(timeout=0.1),
    "avatars.list": lambda client, _: client.avatars.list("u"),
    "avatars.create": lambda client, _: client.avatars.create("u"),
    "avatars.upload": lambda client, _: client.avatars.upload(f"{client.base_url}/up?{QUERY}", photos()),
    "avatars.create_from_photos": lambda client, _: client.avatars.create_from_photos("u", photos()),
    "avatars.pending": lambda client, _: client.avatars.pending("u", AVATAR).wait(timeout=0.1),
    "avatars.get_customization": lambda client, _: client.avatars.get_customization(AVATAR),
    "avatars.set_customization": lambda client, _: client.avatars.set_customization(
        AVATAR, ExternalAvatarCustomization(extra={"link": LINK})
    ),
    "avatars.delete": lambda client, _: client.avatars.delete("u", AVATAR),
    "renders.create": lambda client, _: client.renders.create(AVATAR),
    "renders.wait": lambda client, _: client.renders.pending(AVATAR, AVATAR).wait(timeout=0.1),
    "exports.create": lambda client, _: client.exports.create(AVATAR),
    "exports.create_and_wait": lambda client, _: client.exports.create_and_wait(AVATAR, timeout=0.1),
    "exports.resume": lambda client, _: client.exports.resume(token_of(client, "export")).wait(timeout=0.1),
    "exports.refresh": lambda client, _: client.exports.resume(token_of(client, "export")).refresh(),
    "exports.batch": batch,
}


def answer(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    """Return a response."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


QUOTED = json.dumps({"detail": f"see {LINK} of {TOKEN}", "url": LINK, "id": AVATAR}).encode()
FAILURES: dict[str, bytes | None] = {
    "reset": None,
    "silent": b"",
    "cut": answer(QUOTED, length=10_000),
    "no-json": answer(QUOTED[:-9]),
    "other-shape": answer(json.dumps([[LINK, {"url": LINK, LINK: LINK}]]).encode()),
    "wrong-types": answer(json.dumps({"id": [LINK], "status": {"x": LINK}, "url": [LINK], "upload_url": 5}).encode()),
    "unknown-status": answer(json.dumps({"status": "odd", "url": None, "avatar_id": AVATAR, "id": AVATAR}).encode()),
    "bad-request": answer(QUOTED, "400 Bad"),
    "unauthorized": answer(QUOTED, "401 No"),
    "conflict": answer(QUOTED, "409 Conflict"),
    "gone": answer(json.dumps({"detail": {"asset_ids": [LINK], "text": LINK}}).encode(), "410 Gone"),
    "findings": answer(json.dumps({"detail": [{"loc": [LINK], "msg": LINK, "type": LINK}]}).encode(), "422 No"),
    "slow-down": answer(QUOTED, "429 Slow"),
    "broken": answer(QUOTED, "500 Oops"),
    "page": answer(b"<a href='" + LINK.encode() + b"'>", "502 Bad"),
    "redirect": f"HTTP/1.1 302 Found\r\nLocation: {LINK}\r\nContent-Length: 0\r\n\r\n".encode(),
}


def shown(error: BaseException) -> list[str]:
    """Return the places at which a printer shows a secret, but for the frames of tests."""
    found = leaks(error, *SECRETS, everywhere=True)
    full = traceback.TracebackException.from_exception(error, capture_locals=True)
    for each in full.stack:
        if "/tests/" in each.filename:
            each.locals = None
    text = "".join(full.format())
    return [place for place in found if "test_tracebacks.py" not in place and "kit.py" not in place] + [
        each for each in SECRETS if each in text
    ]


@pytest.mark.parametrize("failure", [*FAILURES, "cancelled"])
@pytest.mark.parametrize("name", CALLS)
async def test_calls(name: str, failure: str, tmp_path: Path) -> None:
    """Of the client, against a server that fails, and cancelled while it is silent."""
    asked = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        asked.set()
        if failure == "cancelled":
            await asyncio.sleep(60)
        answer = FAILURES[failure]
        if answer is None:
            reset(writer)
        else:
            writer.write(answer)
            await writer.drain()

    options: dict[str, Any] = {"timeouts": Timeouts(total=5), "retry": RetryPolicy(attempts=1), "polling": HASTY}
    async with (
        talking(talk) as url,
        WebhookReceiver(SECRET) as receiver,
        AvaturnClient(TOKEN, base_url=url, webhooks=receiver, **options) as client,
    ):
        task = asyncio.ensure_future(CALLS[name](client, tmp_path))
        if failure == "cancelled":
            waiting = asyncio.ensure_future(asked.wait())
            await asyncio.wait([waiting, task], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(outcome, BaseException):
        assert [] == shown(outcome)
    else:
        assert "SESAME" not in repr(outcome)


def event() -> Any:
    """Return an event with a link."""
    return export_event(export_url=LINK)


def glb(folder: Path, text: bytes) -> Path:
    """Write a file that begins as a model."""
    text += b" " * (-len(text) % 4)
    path = folder / "a.glb"
    path.write_bytes(struct.pack("<4sIIII", b"glTF", 2, 20 + len(text), len(text), 0x4E4F534A) + text)
    return path


async def wait(mailbox: Any) -> None:
    """Wait for a delivery, in a closed mailbox."""
    await mailbox.aclose()
    await mailbox.wait(f"export:{AVATAR}", "")


REDIS, POSTGRES = f"redis://:{PASSWORD}@127.0.0.1:1", f"postgresql://u:{PASSWORD}@127.0.0.1:1/db"
DEEP = b"[" * 100 + QUERY.encode()
OTHERS: dict[str, Callable[[Path], Any]] = {
    "client-token": lambda _: AvaturnClient(f"{TOKEN}\n"),
    "client-base-url": lambda _: AvaturnClient(TOKEN, base_url=f"https://u:{PASSWORD}@api.example/?{QUERY}"),
    "client-proxy": lambda _: AvaturnClient(TOKEN, proxy=f"socks5://u:{PASSWORD}@proxy.example"),
    "client-headers": lambda _: AvaturnClient(TOKEN, headers={"X-Key": f"{PASSWORD}\n"}),
    "receiver-secret": lambda _: WebhookReceiver(f"{PASSWORD} {SECRET}"),
    "memory-closed": lambda _: wait(MemoryMailbox()),
    "redis-deliver": lambda _: RedisMailbox(REDIS).deliver(event()),
    "redis-position": lambda _: RedisMailbox(REDIS).position(f"export:{AVATAR}"),
    "redis-closed": lambda _: wait(RedisMailbox(REDIS)),
    "redis-url": lambda _: RedisMailbox(f"gopher://:{PASSWORD}@127.0.0.1:1"),
    "postgres-deliver": lambda _: PostgresMailbox(POSTGRES).deliver(event()),
    "postgres-position": lambda _: PostgresMailbox(POSTGRES).position(f"export:{AVATAR}"),
    "postgres-closed": lambda _: wait(PostgresMailbox(POSTGRES)),
    "postgres-url": lambda _: PostgresMailbox(f"gopher://:{PASSWORD}@127.0.0.1:1"),
    "event-no-json": lambda _: parse_event(export_body(export_url=LINK)[:-9]),
    "event-shape": lambda _: parse_event(json.dumps({"event": "export.ready", "export_url": [LINK]})),
    "event-deep": lambda _: parse_event(DEEP),
    "inspect-no-json": lambda folder: asyncio.to_thread(inspect, glb(folder, b'{"a": "' + LINK.encode())),
    "inspect-shape": lambda folder: asyncio.to_thread(inspect, glb(folder, b'{"images": "%b"}' % LINK.encode())),
    "shrink": lambda folder: shrink(glb(folder, b'{"a": "' + LINK.encode()), folder / "b.glb"),
}


@pytest.mark.parametrize("name", OTHERS)
async def test_others(name: str, tmp_path: Path) -> None:
    """Constructors, mounted receivers, mailboxes, events and models."""

    async def call() -> None:
        outcome = OTHERS[name](tmp_path)
        if isinstance(outcome, Awaitable):
            await outcome

    with pytest.raises((AvaturnError, ValueError, TypeError)) as caught:
        await call()
    if caught.value.__suppress_context__:  # as printers do
        caught.value.__context__ = None
    assert [] == shown(caught.value)


BAD = (object(), -1, "", None)
GOOD = ("x", 1, AVATAR)


def test_what_was_refused_can_be_shown() -> None:
    """Each class has a repr while its constructor fails; printers of some Pythons fail with it."""
    modules = [avaturn_async, avaturn_async.models, avaturn_async.emulator, avaturn_async.glb, avaturn_async.webhooks]
    kinds = {each for module in modules for name in module.__all__ if isclass(each := getattr(module, name))}
    for kind in sorted(kinds, key=lambda kind: kind.__name__):
        if not issubclass(kind, Pending | Enum | BaseException):  # which users do not construct
            parameters = signature(kind).parameters.values()
            named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
            needed = [each.name for each in named if each.default is each.empty]
            for each, bad, good in product(named, BAD, GOOD):
                try:
                    kind(**dict.fromkeys(needed, good) | {each.name: bad})
                except Exception as error:
                    traceback.TracebackException.from_exception(error, capture_locals=True)
