"""Raw answers that no honest API gives: each call succeeds or raises an AvaturnError, and shows no secret."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from avaturn_async import AvaturnClient, AvaturnError, RetryPolicy, Timeouts

from .http.kit import TOKEN, heard, talking

AVATAR = "00000000-0000-4000-8000-000000000001"
LINK = "https://files.example/m.glb?signature=SESAME"
Call = Callable[[AvaturnClient], Awaitable[object]]

CALLS: dict[str, Call] = {
    "users": lambda client: client.users.create(),
    "sessions": lambda client: client.sessions.create("ann"),
    "avatars": lambda client: client.avatars.create("ann"),
    "list": lambda client: client.avatars.list("ann"),
    "customization": lambda client: client.avatars.get_customization(AVATAR),
    "export": lambda client: client.exports.create(AVATAR),
    "render": lambda client: client.renders.create(AVATAR),
    "wait": lambda client: client.exports.resume(resume_token(client)).wait(timeout=0.05),
    "delete": lambda client: client.users.delete("ann"),
}
#: One for each way in which a response is read.
FRAMED = ("users", "list", "customization", "export", "wait", "delete")
BODIES: dict[str, Any] = {
    "users": {"id": "ann"},
    "sessions": {"id": AVATAR, "url": LINK},
    "avatars": {"id": AVATAR, "upload_url": LINK},
    "list": [{"id": AVATAR, "user_id": "ann", "created_at": "2024-01-01T00:00:00Z", "status": "ready"}],
    "export": {"avatar_id": AVATAR, "status": "ready", "url": LINK},
    "render": {"id": AVATAR, "avatar_id": AVATAR, "status": "ready", "url": LINK},
}
BODIES["wait"] = BODIES["export"]
READY = json.dumps(BODIES["export"]).encode()


def resume_token(client: AvaturnClient) -> str:
    """Return the token of an export of this client's API."""
    return json.dumps({"v": 1, "kind": "export", "avatar_id": AVATAR, "base_url": client.base_url, "created": 0})


def answer(body: bytes, *lines: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """Return a response with a length and more header lines."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *lines, "", ""]
    return "\r\n".join(head).encode("utf-8", "surrogateescape") + body


FRAMES: dict[str, bytes] = {
    "empty": b"",
    "no-http": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "half-a-status": b"HTTP/1.1 20",
    "no-status": b"HTTP/1.1\r\n\r\n",
    "status-0": answer(READY, status="0 Nothing"),
    "status-99": answer(READY, status="99 Nothing"),
    "status-999": answer(READY, status="999 Everything"),
    "status-2000": answer(READY, status="2000 OK"),
    "status-text": answer(READY, status="OK OK"),
    "negative-status": answer(READY, status="-200 OK"),
    "http-0.9": READY,
    "http-2": READY.join([b"HTTP/2.0 200 OK\r\n\r\n", b""]),
    "nul-in-header": answer(READY, "X-A: a\0b"),
    "header-without-colon": answer(READY, "nonsense"),
    "space-before-colon": answer(READY, "X-A : b"),
    "folded-header": answer(READY, "X-A: b\r\n c"),
    "latin-1-header": answer(READY, "X-Request-Id: \udcff\udcfe"),
    "gigantic-header": answer(READY, "X-A: " + "a" * 1_000_000),
    "gigantic-status": answer(READY, status="200 " + "a" * 1_000_000),
    "many-headers": answer(READY, *(f"X-{number}: a" for number in range(20_000))),
    "endless-header": b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 1_000_000,
    "long-length": answer(READY, length=10**6),
    "short-length": answer(READY, length=20),
    "huge-length": answer(READY, length=10**30),
    "negative-length": answer(READY, length=-1),
    "length-is-text": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n" + READY,
    "two-lengths": answer(READY, "Content-Length: 3"),
    "length-and-chunks": answer(READY, "Transfer-Encoding: chunked"),
    "bad-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + READY,
    "huge-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n" + READY,
    "cut-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n80\r\n" + READY,
    "unknown-transfer-encoding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: cow\r\n\r\n" + READY,
    "not-gzip": answer(READY, "Content-Encoding: gzip"),
    "not-deflate": answer(READY, "Content-Encoding: deflate"),
    "unknown-encoding": answer(READY, "Content-Encoding: cow"),
    "no-content-with-body": answer(READY, status="204 No Content"),
    "reset-content": answer(READY, status="205 Reset Content"),
    "not-modified": answer(b"", status="304 Not Modified"),
    "redirect": answer(b"", f"Location: {LINK}", status="302 Found"),
    "redirect-to-itself": answer(b"", "Location: ?signature=SESAME", status="307 Temporary Redirect"),
    "redirect-nowhere": answer(b"", "Location: http://[", status="301 Moved"),
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "many-1xx": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2000 + answer(READY),
    "only-1xx": b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
    "two-answers": answer(READY) + answer(b"{}"),
    "page": answer(b"<a href='" + LINK.encode() + b"'>", "Content-Type: text/html"),
    "cookies": answer(READY, *(f"Set-Cookie: a{number}=SESAME" for number in range(50))),
    "retry-after-text": answer(READY, "Retry-After: soon", status="503 Busy"),
    "retry-after-huge": answer(READY, "Retry-After: " + "9" * 400, status="429 Slow"),
    "retry-after-nan": answer(READY, "Retry-After: nan", status="429 Slow"),
    "findings-of-nonsense": answer(b'{"detail": [1, null, {"loc": 5, "msg": []}]}', status="422 No"),
    "assets-of-nonsense": answer(b'{"detail": {"asset_ids": [[], {}, 1e400]}}', status="410 Gone"),
    "link-in-error": answer(json.dumps({"detail": f"see {LINK}"}).encode(), status="400 Bad"),
    "token-in-error": answer(json.dumps({"detail": TOKEN}).encode(), status="401 No"),
}
TEXTS: dict[str, bytes] = {
    "nothing": b"",
    "null": b"null",
    "text": b'"ready"',
    "number": b"1",
    "list": b"[]",
    "object": b"{}",
    "nan": READY.replace(b'"ready"', b"NaN"),
    "infinity": READY.replace(b'"ready"', b"-Infinity"),
    "beyond-a-float": READY.replace(b'"ready"', b"1e999"),
    "long-number": READY.replace(b'"ready"', b"9" * 10_000),
    "deep-lists": b"[" * 100_000,
    "deep-objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "deep-field": READY[:-1] + b', "x": ' + b"[" * 500 + b"]" * 500 + b"}",
    "duplicate-keys": READY[:-1] + b', "url": 5, "url": "' + LINK.encode() + b'"}',
    "lone-surrogate": READY.replace(b"ready", rb"\ud800"),
    "surrogate-bytes": READY.replace(b"ready", b"\xed\xa0\x80"),
    "nul": READY.replace(b"ready", b"a\\u0000b"),
    "controls": READY.replace(b"ready", b"a\x00b"),
    "bom": b"\xef\xbb\xbf" + READY,
    "utf-16": READY.decode().encode("utf-16"),
    "utf-32": READY.decode().encode("utf-32"),
    "latin-1": READY.replace(b"ready", b"caf\xe9"),
    "trailing": READY + b"}",
    "two": READY + READY,
    "single-quotes": READY.replace(b'"', b"'"),
    "comment": b"/* */" + READY,
    "many-keys": json.dumps({f"k{number}": LINK for number in range(20_000)}).encode(),
    **{f"cut-at-{end}": READY[:end] for end in range(1, len(READY), 40)},
}
WRONG: dict[str, Any] = {
    "null": None,
    "true": True,
    "zero": 0,
    "float": -1.5,
    "big": 10**40,
    "empty": "",
    "text": "not what you want",
    "link": LINK,
    "control": "\x00\x1b[2J\u202e",
    "astral": "\U0001f600" * 100,
    "long": "a" * 100_000,
    "list": [],
    "nested": [[{"a": LINK}]],
    "object": {"id": AVATAR, "url": LINK},
}

FIELDS = sorted({field for body in BODIES.values() for field in (body[0] if isinstance(body, list) else body)})


def with_wrong(field: str, value: Any) -> dict[str, bytes]:
    """Return the honest bodies with another value in one field of each that has it."""
    changed: dict[str, bytes] = {}
    for name, body in BODIES.items():
        rows = body if isinstance(body, list) else [body]
        if field in rows[0]:
            rows = [{**row, field: value} for row in rows]
            changed[name] = json.dumps(rows if isinstance(body, list) else rows[0]).encode()
    return changed


async def outcomes(answers: dict[str, bytes]) -> None:
    """Make the calls, each with a path in its base_url that tells the server what to answer."""

    # Every client speaks to a server path of its own, which says what the answer is.
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = (await heard(reader)).split(b"/", 2)[1].decode()
        writer.write(answers[name])
        await writer.drain()

    async with talking(talk) as url:
        async with asyncio.TaskGroup() as group:
            for name in answers:
                group.create_task(outcome(CALLS[name], f"{url}/{name}"))


async def outcome(call: Call, url: str) -> None:
    """Make one call; a failure is an AvaturnError that shows no secret."""
    limits = {"timeouts": Timeouts(connect=5, total=10), "retry": RetryPolicy(attempts=1)}
    async with AvaturnClient(TOKEN, base_url=url, **limits) as client:  # type: ignore[arg-type]
        try:
            async with asyncio.timeout(60):
                shown = repr(await call(client))
        except AvaturnError as error:
            full = traceback.TracebackException.from_exception(error, capture_locals=True)
            # Our own frames: those of the test hold what was sent.
            for each in full.stack:
                if "/tests/" in each.filename:
                    each.locals = None
            shown = f"{error!r} {error} {''.join(full.format())}"
    assert "SESAME" not in shown
    assert TOKEN not in shown


@pytest.mark.parametrize("name", FRAMES)
async def test_frames(name: str) -> None:
    """Responses that are hardly HTTP, or lie about their length, coding or status."""
    await outcomes(dict.fromkeys(FRAMED, FRAMES[name]))


@pytest.mark.parametrize("name", TEXTS)
async def test_texts(name: str) -> None:
    """Bodies that are no JSON, or hardly."""
    await outcomes(dict.fromkeys(FRAMED, answer(TEXTS[name])))


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("field", FIELDS)
async def test_values(field: str, value: str) -> None:
    """A field of a wrong type or with an odd value."""
    await outcomes({name: answer(body) for name, body in with_wrong(field, WRONG[value]).items()})


async def test_a_slow_drip() -> None:
    """The time for the whole response is limited, not that between two bytes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(answer(b"", length=10**6))
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with talking(talk) as url:
        limits = {"timeouts": Timeouts(connect=5, total=0.1), "retry": RetryPolicy(attempts=1)}
        async with AvaturnClient(TOKEN, base_url=url, **limits) as client:  # type: ignore[arg-type]
            for name in ("users", "list", "export"):
                with pytest.raises(AvaturnError):
                    await CALLS[name](client)
