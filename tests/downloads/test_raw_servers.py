"""File servers that speak hardly HTTP, or lie byte by byte: a file under its final name is one version, whole."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from uuid import UUID

import pytest

from avaturn_async import Download, DownloadError, Export, RetryPolicy, Saved, Timeouts
from avaturn_async.downloads.downloader import Downloader
from avaturn_async.http.session import ClientSessions
from avaturn_async.redact import SignedUrl

from ..http.kit import heard, reset, talking
from ..leaks import leaks
from .kit import Shelf, model

A, B = model(60_000, seed=1), model(60_000, seed=2)
OK, PART = "200 OK", "206 Partial Content"
#: What a server sends over one connection; None breaks it with a RST.
Talk = Callable[[int, int], Iterator[bytes | None]]


def head(status: str, *lines: str) -> bytes:
    """Return the beginning of a response."""
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")


def whole(body: bytes = A, *lines: str, length: int | str | None = None) -> bytes:
    """Return a response with all of `body`."""
    return head(OK, f"Content-Length: {len(body) if length is None else length}", *lines) + body


def rest(start: int, body: bytes = A, *lines: str, said: str | None = None) -> bytes:
    """Return a response with `body` from `start` on."""
    extent = said or f"bytes {start}-{len(body) - 1}/{len(body)}"
    return head(PART, f"Content-Length: {len(body) - start}", f"Content-Range: {extent}", *lines) + body[start:]


def chunks(*parts: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """Return `parts` in the chunked coding."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + end


def cut(answer: bytes, size: int = 30_000) -> bytes:
    """Return a response without what follows the first `size` bytes or so of its body."""
    return answer[: answer.index(b"\r\n\r\n") + 4 + size]


def then(first: bytes, second: Callable[[int], bytes]) -> Talk:
    """Say one thing at first, and another, made of where the client is, from then on."""
    return lambda number, start: iter([first if number == 0 else second(start)])


def always(*parts: bytes | None) -> Talk:
    """Say the same over each connection."""
    return lambda number, start: iter(parts)


TAG = 'ETag: "a"'
CODED = "Transfer-Encoding: chunked"
SERVERS: dict[str, Talk] = {
    "silent": always(b""),
    "resets": always(None),
    "resets-in-the-head": always(b"HTTP/1.1 200 O", None),
    "resets-in-the-body": always(cut(whole()), None),
    "resets-after-the-last-byte": always(whole(), None),
    "no-http": always(A),
    "http-0.9-page": always(b"<html>" + A),
    "other-protocol": always(b"SSH-2.0-OpenSSH_9.6\r\n" + A),
    "two-answers-in-one": always(whole() + whole(B)),
    "next-answer-before-the-request": then(cut(whole(A, TAG)) + whole(B, TAG), lambda _: whole(B, TAG)),
    "two-equal-lengths": always(whole(A, f"Content-Length: {len(A)}")),
    "two-lengths": always(whole(A, "Content-Length: 12")),
    "length-with-sign": always(whole(length=f"+{len(A)}")),
    "length-in-hex": always(whole(length=hex(len(A)))),
    "length-in-arabic-digits": always(whole(length="\xb26\xb2")),
    "length-and-chunks": always(head(OK, CODED, "Content-Length: 100") + chunks(A)),
    "huge-length": always(whole(length=10**40)),
    "chunk-size-wraps": always(head(OK, CODED) + b"1000000000000EA60\r\n" + A + b"\r\n0\r\n\r\n"),
    "chunk-size-negative": always(head(OK, CODED) + b"-1\r\n" + A + b"\r\n0\r\n\r\n"),
    "chunk-too-long": always(head(OK, CODED) + b"100\r\n" + A + b"\r\n0\r\n\r\n"),
    "no-last-chunk": always(head(OK, CODED) + chunks(A, end=b"")),
    "cut-at-a-chunk": always(head(OK, CODED) + chunks(A[:30_000], end=b"")),
    "ends-at-a-chunk": always(head(OK, CODED) + chunks(A[:30_000])),
    "trailer-with-an-etag": always(head(OK, CODED) + chunks(A, end=b"0\r\n" + TAG.encode() + b"\r\n\r\n")),
    "chunked-twice": always(head(OK, "Transfer-Encoding: chunked, chunked") + chunks(chunks(A))),
    "gzip-as-transfer": always(head(OK, "Transfer-Encoding: gzip, chunked") + chunks(A)),
    "chunk-extensions": always(head(OK, CODED) + b"ea60;" + b"x" * 9000 + b"\r\n" + A + b"\r\n0\r\n\r\n"),
    "early-hints": always(head("103 Early Hints", "Link: </m.glb>") * 50 + whole()),
    "switches-protocols": always(head("101 Switching", "Upgrade: websocket", "Connection: upgrade") + A),
    "no-content-with-a-model": always(head("204 No Content", f"Content-Length: {len(A)}") + A),
    "rest-that-nobody-asked-for": always(rest(0, A, TAG)),
    "rest-of-the-middle-at-first": always(rest(1000, A, TAG)),
    "many-ranges": always(head(PART, "Content-Type: multipart/byteranges; boundary=x") + b"--x\r\n" + A),
    "other-version-other-etag": then(cut(whole(A, TAG)), lambda start: rest(start, B, 'ETag: "b"')),
    "other-version-no-etag": then(cut(whole(A, TAG)), lambda start: rest(start, B)),
    "other-version-weak-etag": then(cut(whole(A, 'ETag: W/"a"')), lambda start: rest(start, B, 'ETag: W/"a"')),
    "other-version-of-no-etag": then(cut(whole(A)), lambda start: rest(start, B)),
    "other-version-dated": then(
        cut(whole(A, "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT")),
        lambda start: rest(start, B, "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT"),
    ),
    "other-version-whole": then(cut(whole(A, TAG)), lambda _: whole(B, TAG)),
    "etag-twice": then(cut(whole(A, TAG, 'ETag: "b"')), lambda start: rest(start, B, 'ETag: "b"', TAG)),
    "range-that-overlaps": then(
        cut(whole(A, TAG)), lambda start: rest(start, A, TAG, said=f"bytes {start - 9}-59999/60000")
    ),
    "range-of-a-shorter-file": then(cut(whole(A, TAG)), lambda start: rest(start, A[:50_000], TAG)),
    "range-of-an-unknown-total": then(
        cut(whole(A, TAG)), lambda start: rest(start, A, TAG, said=f"bytes {start}-59999/*")
    ),
    "range-in-another-unit": then(
        cut(whole(A, TAG)), lambda start: rest(start, A, TAG, said=f"lines {start}-59999/60000")
    ),
    "range-longer-than-the-body": then(cut(whole(A, TAG)), lambda start: cut(rest(start, A, TAG), 10)),
    "range-that-was-read-already": then(cut(whole(A, TAG)), lambda _: rest(0, A, TAG)),
    "a-byte-a-connection": lambda number, start: iter([cut(rest(start, A, TAG) if start else whole(A, TAG), 1)]),
    "resume-ends-in-416": then(cut(whole(A, TAG)), lambda _: head("416 No", "Content-Range: bytes */60000")),
    "gzip-of-a-part": then(cut(whole(A, TAG)), lambda start: rest(start, A, TAG, "Content-Encoding: gzip")),
    "redirects-to-itself": always(head("302 Found", "Location: ?signature=SESAME", "Content-Length: 0")),
    "redirects-to-a-file": always(head("302 Found", "Location: file:///etc/passwd", "Content-Length: 0")),
    "redirects-nowhere": always(head("302 Found", "Content-Length: 60000") + A),
    "header-without-end": always(head(OK)[:-2] + b"X: " + b"x" * 300_000),
    "ten-thousand-headers": always(whole(A, *(f"X-{number}: x" for number in range(10_000)))),
    "nul-in-the-etag": then(cut(whole(A, 'ETag: "a\0"')), lambda start: rest(start, B, 'ETag: "a\0"')),
    "retry-for-ever": always(head("503 Busy", "Retry-After: 0", "Content-Length: 0")),
    "retry-next-year": always(head("503 Busy", "Retry-After: 31536000", "Content-Length: 0")),
    "refuses-each-link": always(head("403 No", "Content-Length: 0")),
    "image": always(whole(b"\x89PNG\r\n\x1a\n" + A)),
    "model-and-more": always(whole(A + B)),
    "half-a-model": always(whole(A[:30_000])),
    "model-in-a-page": always(whole(b"<pre>" + A)),
}


class Links:
    """The API as the source of further links."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def fresh_url(self, avatar_id: UUID) -> str:
        """Return the same link again."""
        return self.url


@pytest.mark.parametrize("name", SERVERS)
async def test_a_file_is_whole_or_absent(name: str, tmp_path: Path) -> None:
    """By each way to the bytes; else there is an error of ours that shows nothing of the link."""
    numbers = itertools.count()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await heard(reader)).decode("latin-1").lower().partition("range: bytes=")[2]
        for part in SERVERS[name](next(numbers), int(asked.partition("-")[0] or 0)):
            if part is None:
                await asyncio.sleep(0)
                reset(writer)
            else:
                writer.write(part)
        await writer.drain()

    target, shelf = tmp_path / "m.glb", Shelf()
    sessions = ClientSessions(max_connections=10, proxy=None)
    downloads = Downloader(
        sessions,
        timeouts=Timeouts(total=5),
        allow_private_hosts=True,
        allow_http=True,
        retry=RetryPolicy(attempts=3, base=0),
    )
    async with talking(talk) as base, aclosing(sessions):
        url = SignedUrl(f"{base}/m.glb?signature=SESAME")
        export = Export(
            avatar_id=UUID(int=1),
            url=url,
            resolved_by="poll",
            waited=0,
            polls=1,
            downloader=downloads,
            source=Links(url),
        )
        for start in (
            lambda: export.download(target),
            lambda: export.save(shelf),
            export.read,
            lambda: export.download(target, overwrite=True),
        ):
            numbers = itertools.count()
            outcome = (await asyncio.gather(start(), return_exceptions=True))[0]
            if isinstance(outcome, DownloadError):
                assert [] == leaks(outcome, "SESAME")
            else:
                assert isinstance(outcome, Download | Saved) or outcome in (A, B)
    assert not target.exists() or target.read_bytes() in (A, B)
    assert {*shelf.files.values()} <= {A, B}
