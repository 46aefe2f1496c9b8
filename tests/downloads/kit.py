"""A file server on a raw socket, which does what a test says, also what no honest server would."""

import asyncio
import hashlib
import random
import struct
import threading
import urllib.request
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Self

import attrs

from avaturn_async.config import RetryPolicy, Timeouts
from avaturn_async.downloads.downloader import Downloader
from avaturn_async.downloads.stream import Link
from avaturn_async.http.session import ClientSessions

from ..servers import listening

ETAG = '"3f2a"'


def model(
    size: int, *, seed: int = 1, declared: int | None = None, version: int = 2, scene: bytes = b'{"asset":{}} '
) -> bytes:
    """Return a GLB model of `size` bytes: the headers, a chunk of JSON, and random bytes."""
    header = struct.pack("<4sII", b"glTF", version, size if declared is None else declared)
    header += struct.pack("<I4s", len(scene), b"JSON") + scene
    return header + random.Random(seed).randbytes(size - len(header))


def sha256(body: bytes) -> str:
    """Return the hexadecimal SHA-256 of `body`."""
    return hashlib.sha256(body).hexdigest()


class Downloads(Downloader):
    """A downloader whose methods take a url and what else a `Link` holds, and that always computes a checksum."""

    def __init__(self, sessions: ClientSessions, **options: Any) -> None:
        super().__init__(sessions, **options)
        self.aclose = sessions.aclose

    async def fetch(self, url, path, *, checksum=True, overwrite=False, progress=None, **link):
        return await super().fetch(Link(url, **link), path, overwrite=overwrite, checksum=checksum, progress=progress)

    async def save(self, url, sink, name, *, checksum=True, progress=None, **link):
        return await super().save(Link(url, **link), sink, name, checksum=checksum, progress=progress)

    async def read(self, url, **link):
        return await super().read(Link(url, **link))

    def stream(self, url, **link):
        return super().stream(Link(url, **link))


def downloader(*, retry: RetryPolicy | None = None, total: float = 20.0, **options: Any) -> Downloads:
    """Return a downloader that may connect to the loopback, and does not wait between attempts."""
    shared: dict[str, Any] = {"max_connections": 100, "proxy": None}
    shared = {name: options.pop(name, value) for name, value in shared.items()}
    settings: dict[str, Any] = {"allow_private_hosts": True, "allow_http": True, **options}
    retry = retry or RetryPolicy(attempts=5, base=0)
    return Downloads(ClientSessions(**shared), timeouts=Timeouts(connect=5, total=total), retry=retry, **settings)


@attrs.frozen
class Request:
    """A request as it came."""

    target: str
    headers: Mapping[str, str]

    @property
    def start(self) -> int:
        """The first byte that it asks for."""
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))


@attrs.define
class Answer:
    """What is sent back.

    Attributes:
        status: the HTTP status.
        headers: beside Content-Length; None leaves one out that would be there.
        body: what follows, and what Content-Length says.
        cut: close the connection after so many bytes of the body.
        stall: say nothing more after so many bytes of the body, until the server is told to go on.
        chunked: use the chunked coding instead of a length.
    """

    status: int = 200
    headers: dict[str, str | None] = attrs.field(factory=dict)
    body: bytes = b""
    cut: int | None = None
    stall: int | None = None
    chunked: bool = False

    def head(self) -> bytes:
        """Return the status line and the headers."""
        framing = {"Transfer-Encoding": "chunked"} if self.chunked else {"Content-Length": str(len(self.body))}
        lines = [f"{name}: {value}" for name, value in {**framing, **self.headers}.items() if value is not None]
        return "\r\n".join([f"HTTP/1.1 {self.status} Whatever", *lines, "", ""]).encode()


class FileServer:
    """Serves `body` with ranges, unless `answers` has something else for the next request.

    Attributes:
        body: the file.
        etag: its ETag, or None.
        cut_every: close each connection after so many bytes of a body.
        answers: what the next requests get: an answer, or what makes one of a request and the honest answer.
        requests: what was asked for.
        sent: the ranges of the file that were sent.
        stalled: set once an answer stalls.
        go_on: to be set to have the rest of it.
        tasks: one for each connection.
    """

    def __init__(self, body: bytes = b"") -> None:
        self.body = body
        self.etag: str | None = ETAG
        self.cut_every: int | None = None
        self.answers: deque[Answer | Callable[[Request, Answer], Answer]] = deque()
        self.requests: list[Request] = []
        self.sent: list[range] = []
        self.stalled = asyncio.Event()
        self.go_on = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base = await self._stack.enter_async_context(listening(server))
        """Where it is."""
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        """Its port."""
        return int(self.base.rpartition(":")[2])

    @property
    def url(self) -> str:
        """A url of the file, with a secret in its query."""
        return f"{self.base}/m.glb?signature=SECRET"

    def honest(self, request: Request) -> Answer:
        """Return what a good server would answer."""
        headers: dict[str, str | None] = {"ETag": self.etag, "Content-Type": "model/gltf-binary"}
        same = request.headers.get("if-range") in (None, self.etag)
        if "range" not in request.headers or not same:
            return Answer(headers=headers, body=self.body)
        start, size = request.start, len(self.body)
        if start >= size:
            return Answer(416, headers | {"Content-Range": f"bytes */{size}"})
        return Answer(206, headers | {"Content-Range": f"bytes {start}-{size - 1}/{size}"}, self.body[start:])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = _read(await reader.readuntil(b"\r\n\r\n"))
        self.requests.append(request)
        answer = self.honest(request)
        if self.answers:
            given = self.answers.popleft()
            answer = given if isinstance(given, Answer) else given(request, answer)
        end = next((stop for stop in (answer.cut, answer.stall, self.cut_every) if stop is not None), None)
        part = answer.body[:end]
        if answer.status in (200, 206):
            start = request.start if answer.status == 206 else 0
            self.sent.append(range(start, start + len(part)))
        writer.write(answer.head())
        await _write(writer, _chunks(part, whole=end is None) if answer.chunked else part)
        if answer.stall is not None:
            self.stalled.set()
            await self.go_on.wait()
            await _write(writer, answer.body[answer.stall :])
        return end is None and "Content-Length" not in {name for name, value in answer.headers.items() if value is None}


async def _write(writer: asyncio.StreamWriter, body: bytes) -> None:
    view = memoryview(body)
    for start in range(0, len(view), 65_536):
        writer.write(view[start : start + 65_536])
        await writer.drain()


def _read(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    headers = dict(line.split(": ", 1) for line in lines)
    return Request(first.split(" ")[1], {name.lower(): value for name, value in headers.items()})


def _chunks(body: bytes, *, whole: bool) -> bytes:
    coded = f"{len(body):x}\r\n".encode() + body + b"\r\n" if body else b""
    return coded + (b"0\r\n\r\n" if whole else b"")


class Shelf:
    """A sink in memory.

    Attributes:
        files: what was put, by name.
        puts: the name of each call.
        received: bytes of the last call.
    """

    def __init__(self, *, error: BaseException | None = None, swallow: bool = False, wrap: bool = False) -> None:
        self.files: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.received = 0
        self._error = error
        self._swallow = swallow
        self._wrap = wrap

    async def put(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Keep the bytes once they have all arrived, or fail as the constructor was told."""
        self.puts.append(name)
        self.received = 0
        body = []
        try:
            async for chunk in chunks:
                self.received += len(chunk)
                body.append(chunk)
        except Exception as error:
            if self._swallow:
                return
            if self._wrap:
                raise LookupError("wrapped") from error
            raise
        if self._error is not None:
            raise self._error
        self.files[name] = b"".join(body)


class S3:
    """moto's S3 in a thread, over HTTP, with one bucket.

    Attributes:
        fail: returns the status with which a request fails, given its method, key and query, or None.
        requests: what was requested.
    """

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app

        self.fail: Callable[[str, str, str], int | None] = lambda method, key, query: None
        self.requests: list[tuple[str, str, str]] = []
        self._moto = DomainDispatcherApplication(create_backend_app)

    def __enter__(self) -> Self:
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, *_: object) -> None:
                pass

        self._server = make_server("127.0.0.1", 0, self._respond, threaded=True, request_handler=Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url: str = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def store(self, **retry: Any) -> Any:
        """Return the store of a bucket that is empty, and stop failing."""
        self.fail = lambda method, key, query: None
        self._call("POST", "/moto-api/reset")
        self._call("PUT", "/bucket")
        self.requests.clear()
        return s3_store(self.url, **retry)

    def uploads(self) -> int:
        """Return how many uploads of several parts were begun and neither ended nor aborted."""
        return self._call("GET", "/bucket?uploads").count(b"<UploadId>")

    def _call(self, method: str, target: str) -> bytes:
        with urllib.request.urlopen(urllib.request.Request(self.url + target, method=method), timeout=10) as response:
            return response.read()

    def _respond(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        request = environ["REQUEST_METHOD"], environ["PATH_INFO"].removeprefix("/bucket/"), environ["QUERY_STRING"]
        self.requests.append(request)
        status = self.fail(*request)
        if status is None:
            return self._moto(environ, start_response)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(f"{status} Failed", [("Content-Length", "0")])
        return [b""]


def s3_store(url: str, *, max_retries: int = 2) -> Any:
    """Return the store of the bucket of an `S3` at `url`, with few and quick retries."""
    from obstore.store import S3Store

    backoff = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=2), "base": 2}
    return S3Store(
        "bucket",
        endpoint=url,
        access_key_id="key",
        secret_access_key="STORE-SECRET",
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
        retry_config={"max_retries": max_retries, "backoff": backoff, "retry_timeout": timedelta(seconds=10)},
    )
