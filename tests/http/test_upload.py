"""Photo uploads: what is sent, when it is sent again, and how it ends."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from email import message_from_bytes
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from avaturn_async.config import RetryPolicy, Timeouts
from avaturn_async.errors import (
    APIStatusError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    OutcomeUnknownError,
    RequestTimeoutError,
    ResponseFormatError,
    TransportError,
)
from avaturn_async.http.transport import Transport
from avaturn_async.http.upload import FormField, MultipartForm, UploadBody
from avaturn_async.redact import Secret, SecretUrl, SignedUrl

from ..servers import listening
from .kit import BASE, TOKEN, Talk, form, heard, opened, reset, serving, talking

ONCE = RetryPolicy(attempts=1)
QUICK = RetryPolicy(attempts=3, base=0, retry_after_cap=0.1)
LARGE = os.urandom(2**20) * 6  # more than sockets buffer on both sides together
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def upload(transport: Transport, url: str, content: bytes = b"photo", **options: Any) -> int:
    """Upload a form with one photo; return the status."""
    return (await transport.upload(SecretUrl(url), form(content), **options)).status


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Read a request with its body."""
    head = await heard(reader)
    return head + await reader.readexactly(length_in(head))


def length_in(head: bytes) -> int:
    """Return the Content-Length of a request."""
    return next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))


class Store:
    """A store that treats one connection after the other as a list of conversations says; the last one repeats."""

    def __init__(self, *talks: Talk) -> None:
        self.talks = list(talks)
        self.connections = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hold the next conversation."""
        self.connections += 1
        await self.talks[min(self.connections, len(self.talks)) - 1](reader, writer)


def answering(answer: bytes, *, read_body: bool = True) -> Talk:
    """Return a conversation that answers after the body, or after the head alone."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (read_request(reader) if read_body else heard(reader))
        writer.write(answer)
        await writer.drain()
        await reader.read(1) if read_body else None

    return talk


async def break_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reset after the first bytes of the body."""
    await heard(reader)
    await reader.readexactly(100_000)
    reset(writer)


async def break_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reset after the whole body, without a response."""
    await read_request(reader)
    reset(writer)


async def stand_still(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read the head, and then nothing."""
    await heard(reader)
    await asyncio.Event().wait()


def status(line: str, *headers: str) -> bytes:
    """Return an empty response."""
    return "\r\n".join([f"HTTP/1.1 {line}", *headers, "Content-Length: 0", "", ""]).encode()


# What is sent.


async def test_the_form_follows_rfc_7578_and_carries_no_token() -> None:
    """The url is used to the letter, and the length is known in advance."""
    seen: list[tuple[str, dict[str, str], bytes]] = []

    async def note(request: web.Request) -> web.Response:
        seen.append((request.raw_path, dict(request.headers), await request.read()))
        return web.Response()

    fields = [FormField("image", BytesIO(b"\xff\xd8"), 2, "a.jpg", "image/jpeg"), FormField("word", BytesIO(b"x"), 1)]
    async with serving(note) as url, opened(url, headers={"X-Gate": Secret("1")}) as transport:
        await transport.upload(SecretUrl(f"{url}photos%2f1?sig=a%2Fb%20c+d/%41"), MultipartForm(fields))
    [(path, headers, body)] = seen
    assert "/photos%2f1?sig=a%2Fb%20c+d/%41" == path
    assert (str(len(body)), None) == (headers["Content-Length"], headers.get("Authorization"))
    assert headers["User-Agent"].startswith("avaturn-async/")
    assert not {"X-Gate", "Cookie", "Transfer-Encoding"} & headers.keys()
    parsed = message_from_bytes(f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body)
    image, word = parsed.get_payload()
    assert [("image", "a.jpg"), ("word", None)] == [
        (part.get_param("name", header="content-disposition"), part.get_filename()) for part in (image, word)
    ]
    assert (b"\xff\xd8", "image/jpeg", b"x") == (
        image.get_payload(decode=True),
        image.get_content_type(),
        word.get_payload(decode=True),
    )


async def test_a_borrowed_sessions_settings_do_not_reach_the_store() -> None:
    """Default headers, cookies and credentials are meant for other hosts."""
    seen: list[dict[str, str]] = []

    async def note(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        return web.json_response({})

    own = {"Authorization": "Basic secret", "Content-Type": "application/json", "X-Own": "1"}
    async with serving(note) as url, aiohttp.ClientSession(headers=own, cookies={"a": "b"}) as session:
        session.cookie_jar.update_cookies({"c": "d"}, response_url=aiohttp.client.URL(url))
        async with opened(url, session=session) as transport:
            await upload(transport, f"{url}photos")
    assert not {"Authorization", "Cookie", "X-Own"} & seen[0].keys()
    assert seen[0]["Content-Type"].startswith("multipart/form-data")


async def test_progress_counts_bytes() -> None:
    """It ends with all of them, and begins anew with each attempt."""
    told: list[tuple[int, int]] = []
    store = Store(answering(status("503 Busy")), answering(OK))
    async with talking(store.talk) as url, opened(url, retry=QUICK) as transport:
        await upload(transport, url, b"x" * 300_000, on_progress=lambda sent, size: told.append((sent, size)))
    sizes = {size for _, size in told}
    assert 1 == len(sizes)
    sent = [count for count, _ in told]
    assert 2 == sent.count(0)
    assert 2 == sent.count(*sizes)
    half = sent.index(0, 1)
    assert sorted(sent[:half]) == sent[:half]


async def test_what_progress_raises_ends_the_upload() -> None:
    """It is raised as it is, the connection ends, and no frame of ours shows what was read ahead."""
    store = Store(stand_still)

    def cancel(sent: int, size: int) -> None:
        if sent:
            raise LookupError("no more")

    async with talking(store.talk) as url, opened(url) as transport:
        with pytest.raises(LookupError, match="no more") as caught:
            await upload(transport, url, b"FACE" * 2**20, on_progress=cancel)
        assert "cancel" == caught.traceback[-1].name
    ours = [entry.frame for entry in caught.traceback if "avaturn_async" in str(entry.path)]
    assert not [frame.code.name for frame in ours if "FACE" in repr(frame.f_locals)]


async def test_what_progress_raises_is_raised_although_a_response_arrives() -> None:
    """Here, one that began before and ended later."""
    calls: list[int] = []
    answered, raised = asyncio.Event(), asyncio.Event()

    async def answer_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(OK[:-2])
        answered.set()
        reading = asyncio.create_task(reader.readexactly(len(LARGE) * 5))
        await raised.wait()
        reading.cancel()
        writer.write(OK[-2:])

    def note(sent: int, size: int) -> None:
        calls.extend([sent] * answered.is_set())
        if len(calls) > 20:
            raised.set()
            raise LookupError("no more")

    async with talking(answer_slowly) as url, opened(url) as transport:
        with pytest.raises(LookupError, match="no more"):
            await upload(transport, url, LARGE * 4, on_progress=note)


async def test_a_file_that_becomes_shorter_is_an_os_error(tmp_path: Path) -> None:
    """The length was promised in the head; the rest can't be made up."""
    path = tmp_path / "a.jpg"
    path.write_bytes(LARGE)
    with path.open("rb") as file:
        field = FormField("image-frontal", file, len(LARGE) + 1, label="Photos.frontal")
        async with talking(Store(stand_still, answering(OK)).talk) as url, opened(url) as transport:
            path.write_bytes(b"")
            with pytest.raises(OSError, match=r"Photos\.frontal became shorter"):
                await transport.upload(SecretUrl(url), MultipartForm([field]))


async def test_a_file_that_fails_while_it_is_sent_is_an_os_error() -> None:
    """It names the photo, and shows and keeps none."""

    class Failing(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    field = FormField("image-frontal", Failing(LARGE), len(LARGE), label="Photos.frontal")
    async with talking(stand_still) as url, opened(url) as transport:
        with pytest.raises(OSError, match=r"Photos\.frontal can't be read: Input/output error") as caught:
            await transport.upload(SecretUrl(url), MultipartForm([field]))
    assert errno.EIO == caught.value.errno
    assert caught.value.__context__ is None


def test_a_retry_reads_correctly_while_a_thread_still_reads_for_the_attempt_before() -> None:
    """A read that stands on a slow disk can't be cancelled."""

    class Slow(BytesIO):
        def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
            result = super().seek(offset, whence)
            time.sleep(0.001)  # lets the other threads run
            return result

    content = os.urandom(1000)
    field = FormField("image", Slow(content), len(content))
    with ThreadPoolExecutor(8) as threads:
        assert [content[n : n + 9] for n in range(40)] == list(threads.map(field.read, range(40), [9] * 40))


# Outcomes.


@pytest.mark.parametrize("answer", [status("200 OK"), status("201 Created"), b"HTTP/1.1 103 Hints\r\n\r\n" + OK])
async def test_a_2xx_is_success(answer: bytes) -> None:
    """Also after informational responses."""
    async with talking(Store(answering(answer)).talk) as url, opened(url) as transport:
        assert await upload(transport, url, LARGE) in (200, 201)


async def test_a_2xx_before_the_whole_form_is_no_success() -> None:
    """It can't be about photos that were not sent; sending them again would get the same answer."""
    store = Store(answering(OK, read_body=False))
    async with talking(store.talk) as url, opened(url, retry=QUICK) as transport:
        with pytest.raises(ResponseFormatError, match=r"^POST upload_url answered 200 before the photos were sent"):
            await upload(transport, url, LARGE)
    assert 1 == store.connections


@pytest.mark.parametrize("line", ["413 Too Large", "400 Bad Request", "403 Forbidden", "307 Moved"])
@pytest.mark.parametrize("read_body", [True, False], ids=["late", "early"])
async def test_an_error_status_is_raised_once(line: str, read_body: bool) -> None:
    """Even if it comes before the body was read; redirects are not followed."""
    store = Store(answering(status(line, "Location: /elsewhere"), read_body=read_body))
    async with talking(store.talk) as url, opened(url, retry=QUICK) as transport:
        with pytest.raises(APIStatusError, match=f"POST upload_url answered {line[:3]}") as caught:
            await upload(transport, f"{url}/secret?sig=secret", LARGE)
    assert (int(line[:3]), 1) == (caught.value.status_code, store.connections)
    assert "secret" not in str(caught.value)


async def test_a_body_that_keeps_breaking_off_is_not_an_unknown_outcome() -> None:
    """The error says that it is safe to try again."""
    async with talking(Store(break_early).talk) as url, opened(url, retry=QUICK) as transport:
        with pytest.raises(TransportError, match=r"POST upload_url failed: the connection broke") as caught:
            await upload(transport, url, LARGE)
    assert (TransportError, True) == (type(caught.value), caught.value.retryable)


async def test_a_lost_response_to_a_whole_body_is_an_unknown_outcome() -> None:
    """The photos may have been processed, so they are not sent again."""
    store = Store(break_late)
    async with talking(store.talk) as url, opened(url, retry=QUICK) as transport:
        with pytest.raises(OutcomeUnknownError, match=r"^POST upload_url was sent, but the connection broke"):
            await upload(transport, url, LARGE)
    assert 1 == store.connections


@pytest.mark.parametrize("sent_before", [0, 1, 2, 3])
async def test_a_body_whose_last_bytes_may_have_been_sent_counts_as_whole(sent_before: int) -> None:
    """A server may have read them, and answered, before the writing of them returns."""

    class Writer:
        transport = None
        pieces = 0

        async def write(self, piece: bytes) -> None:
            if self.pieces == sent_before:
                raise ConnectionResetError
            self.pieces += 1

    body = UploadBody(form(bytes(600_000)), lambda sent: None)  # sent in three pieces
    with suppress(ConnectionResetError):
        await body.write(Writer())  # type: ignore[arg-type]
    assert (sent_before >= 2) == body.complete


async def test_a_refused_connection_was_never_sent() -> None:
    """Nothing listens there."""
    async with talking(stand_still) as url:
        pass
    async with opened(url, retry=ONCE) as transport:
        with pytest.raises(ConnectError, match="was not sent"):
            await upload(transport, url)


@pytest.mark.parametrize("size", [len(LARGE), 10], ids=["in the body", "after it"])
async def test_standstill_is_limited(size: int) -> None:
    """In the body it is safe to try again, after it the outcome is unknown."""
    store = Store(stand_still)
    async with talking(store.talk) as url, opened(url, timeouts=Timeouts(upload=0.2), retry=ONCE) as transport:
        with pytest.raises((RequestTimeoutError, OutcomeUnknownError), match=r"within 0\.2 s") as caught:
            await upload(transport, url, LARGE[:size])
    assert (RequestTimeoutError if size > 10 else OutcomeUnknownError) is type(caught.value)


async def test_a_disk_that_hangs_is_a_standstill() -> None:
    """The upload does not wait for the thread that reads."""
    go_on, ended = threading.Event(), threading.Event()

    class Hanging(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            go_on.wait(20)
            ended.set()
            return super().read(size)

    field = FormField("image", Hanging(LARGE), len(LARGE))
    async with talking(Store(stand_still).talk) as url:
        async with opened(url, timeouts=Timeouts(upload=0.2), retry=ONCE) as transport:
            with pytest.raises(RequestTimeoutError, match=r"within 0\.2 s"):
                await transport.upload(SecretUrl(url), MultipartForm([field]))
    assert not ended.is_set()
    go_on.set()


async def test_a_proxy_that_does_not_answer_is_a_standstill() -> None:
    """The limit on connecting ends with the connection to the proxy."""
    async with talking(Store(stand_still).talk) as url:
        options = {"proxy": SignedUrl(url), "timeouts": Timeouts(upload=0.2), "retry": ONCE}
        async with opened(**options) as transport, asyncio.timeout(20):
            with pytest.raises(RequestTimeoutError, match=r"within 0\.2 s"):
                await upload(transport, "https://store.example/")


# Ends.


class Standing:
    """A store that reads the head and then nothing until it is told to; then it counts what still comes."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.scheme = "https" if context else "http"
        self.arrived, self.go_on, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.received = 0
        self._context = context

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the one connection."""
        await heard(reader)
        self.arrived.set()
        await self.go_on.wait()
        with suppress(OSError):
            while piece := await reader.read(2**20):
                self.received += len(piece)
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()
        self.ended.set()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[str]:
        """Listen; yield the url."""
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)  # the rest waits on the client's side
        async with listening(await asyncio.start_server(self.talk, sock=listener, ssl=self._context)) as url:
            yield url.replace("http", self.scheme)


Ending = Callable[[asyncio.Task[Any], Transport], Awaitable[None]]


async def cancel(task: asyncio.Task[Any], transport: Transport) -> None:
    """End an upload by cancelling it."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def close(task: asyncio.Task[Any], transport: Transport) -> None:
    """End an upload by closing its client."""
    async with asyncio.timeout(20):
        await transport.aclose()
        with pytest.raises(ClientClosedError):
            await task


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("end", [cancel, close])
async def test_an_upload_that_ends_sends_nothing_more(
    end: Ending, secure: bool, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    """Its connection is reset although the store does not read: what the kernel holds by then is not sent either."""
    told: list[int] = []
    store = Standing(tls[0] if secure else None)
    async with store.run() as url, opened(url, ssl=tls[1]) as transport:
        task = asyncio.create_task(upload(transport, url, LARGE * 4, on_progress=lambda sent, _: told.append(sent)))
        await store.arrived.wait()
        while len(told) < 9:
            await asyncio.sleep(0.002)
        await end(task, transport)
        last = told[-1]
        store.go_on.set()
        await store.ended.wait()
    assert last == told[-1]
    assert store.received < 2**20 < told[-1] < len(LARGE * 4)


@pytest.mark.parametrize("end", [cancel, close])
async def test_an_upload_that_is_connecting_ends_at_once(end: Ending, tls: tuple[ssl.SSLContext, Any]) -> None:
    """Not only when the limit on connecting has passed: here, a server that never answers the TLS handshake."""
    arrived = asyncio.Event()

    async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()

    async with talking(be_silent) as url, opened(timeouts=Timeouts(connect=600), ssl=tls[1]) as transport:
        task = asyncio.create_task(upload(transport, url.replace("http:", "https:"), LARGE))
        await arrived.wait()
        await end(task, transport)


async def test_a_kept_error_keeps_no_photo() -> None:
    """Frames on its traceback have let go of the form."""

    class Photo(BytesIO):
        alive = 0

        def __init__(self, content: bytes) -> None:
            super().__init__(content)
            Photo.alive += 1

        def __del__(self) -> None:
            Photo.alive -= 1

    async def fail(transport: Transport, url: str) -> Exception:
        field = FormField("image", Photo(LARGE), len(LARGE))
        try:
            await transport.upload(SecretUrl(url), MultipartForm([field]))
        except TransportError as error:
            return error
        finally:
            del field
        raise AssertionError

    async with talking(Store(break_early).talk) as url, opened(url, retry=ONCE) as transport:
        kept = await fail(transport, url)
        async with asyncio.timeout(20):
            while Photo.alive:  # a worker thread lets go of what it read last when it runs again
                await asyncio.sleep(0.01)
    assert kept.__traceback__ is not None


@pytest.mark.parametrize(
    ("base_url", "upload_url", "problem"),
    [
        (BASE, "http://store.example/x?sig=secret", "in the clear"),
        (BASE, "HTTP://127.0.0.1/x?sig=secret", "in the clear"),
        (BASE, "/photos?sig=secret", "with a host"),
        (BASE, "ftp://store.example/?sig=secret", "with a host"),
        (BASE, "https://u:secret@store.example/", "no user"),
        (BASE, "https://store.example/?a=b c", "with a host"),
        ("http://localhost", "https://store.example:99999/", "with a host"),
    ],
)
async def test_an_invalid_upload_url_is_refused(base_url: str, upload_url: str, problem: str) -> None:
    """Photos are personal: they are not sent in the clear unless base_url is plain http as well."""
    async with opened(base_url) as transport:
        with pytest.raises(ConfigurationError, match=problem) as caught:
            await upload(transport, upload_url)
    assert "secret" not in str(caught.value)
    assert TOKEN not in str(caught.value)
