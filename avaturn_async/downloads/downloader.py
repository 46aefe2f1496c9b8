"""Fetch the files behind temporary links, whole or not at all."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, aclosing
from logging import DEBUG
from pathlib import Path
from typing import Any

import attrs

from ..config import RetryPolicy, Timeouts
from ..errors import AvaturnError, DownloadError, IncompleteDownloadError
from ..http.session import ClientSessions
from ..http.tasks import check_not_async, completed, is_cancelled, run_in_thread
from ..observe.dispatch import UNOBSERVED, Observers, new_number
from ..observe.observer import DownloadInfo
from ..redact import without_queries, without_query
from .names import check_name, check_target
from .session import GuardedSession
from .sinks import Saved, Sink
from .stream import Link, Progress, ResumableStream

__all__ = ["Download", "Downloader"]

# Bytes. Once so many wait to be written, a thread writes until none do: each hand-over to a thread costs CPU.
_BATCH = 1024 * 1024
# Once so many wait although a thread is writing, no more are received.
_MAX_BACKLOG = 1536 * 1024


@attrs.frozen
class Download:
    """A file that was downloaded.

    Attributes:
        path: where it is.
        size: its length in bytes.
        sha256: its SHA-256, hexadecimal, if a checksum was asked for.
    """

    path: Path
    size: int
    sha256: str | None = None


class Downloader:
    """Downloads files without the API token, from public addresses, through one session of the client's.

    Args:
        sessions: the client's; `aclose` on them ends downloads in progress with `ClientClosedError`.
        timeouts: `connect` limits each connection attempt and `total` the time without a byte; nothing limits the
            whole download.
        allow_private_hosts: fetch from any address, also by plain http.
        allow_http: fetch by plain http, from public addresses.
        retry: `attempts` limits consecutive attempts without progress.
        observers: notified of each download.
    """

    def __init__(
        self,
        sessions: ClientSessions,
        *,
        timeouts: Timeouts,
        allow_private_hosts: bool,
        allow_http: bool,
        retry: RetryPolicy = RetryPolicy(attempts=5),
        observers: Observers | None = None,
    ) -> None:
        self._observers = Observers() if observers is None else observers
        self._retry = retry
        self._session = GuardedSession(
            sessions, timeouts=timeouts, allow_private_hosts=allow_private_hosts, allow_http=allow_http
        )

    async def fetch(
        self,
        link: Link,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        checksum: bool = False,
        progress: Progress | None = None,
    ) -> Download:
        """Download a file to `path`, resuming what an earlier call has left; only the whole file gets the name.

        Args:
            link: the file.
            path: the file to write; its folder must exist.
            overwrite: replace a file that exists.
            checksum: compute the SHA-256.
            progress: called with the bytes so far, and the total or None. What it raises ends the download.

        Raises:
            UnsafeAddressError: the url or a redirect leads to an address that is not public.
            NotAModelError: something else than a model arrived.
            IncompleteDownloadError: the file did not arrive whole; another call resumes it where that is possible.
            DownloadError: the link was refused, the file is too long, or it can't be written.
            ValueError: `path` has a NUL character or a lone surrogate in it, or is named like a partial file.
            TypeError: `progress` is not a function, or is async.
        """
        from .partfile import PartFile, ResumeInfo  # here, for importing a client to be fast

        target = Path(path)
        check_target(target)
        source = without_query(link.url)
        part = PartFile(target, overwrite=overwrite)

        async def put(chunks: AsyncIterator[bytes]) -> None:
            if part.size != stream.done:
                await run_in_thread(part.rewind)
            waiting: deque[bytes] = deque()
            writing: asyncio.Future[None] | None = None
            try:
                async for chunk in chunks:
                    waiting.append(chunk)
                    backlog = stream.done - part.size
                    if writing is not None and (writing.done() or backlog >= _MAX_BACKLOG):
                        await completed(writing)
                        writing = None
                    if writing is None and backlog >= _BATCH:
                        writing = write(waiting)
            finally:
                if writing is not None:
                    await completed(writing)
                await completed(write(waiting))

        def write(waiting: deque[bytes]) -> asyncio.Future[None]:
            info = None if stream.etag is None else ResumeInfo(source, stream.etag, stream.total)
            return asyncio.get_running_loop().run_in_executor(None, part.write, _drain(waiting), info)

        try:
            stream = self._stream(link, progress, checksum=checksum)
            await run_in_thread(part.open, source, stream.update_digest)
            if part.info is not None:
                stream.resume(part.head, part.size, part.info.etag, part.info.total)
            await self._transfer(stream, put)
            await run_in_thread(part.publish)
        except BaseException as error:
            if isinstance(error, DownloadError):
                error.path = str(target)
                part.keep = part.keep and isinstance(error, IncompleteDownloadError)
            await run_in_thread(part.close)
            raise
        return Download(target, part.size, stream.sha256)

    async def save(
        self, link: Link, sink: Sink, name: str, *, checksum: bool = False, progress: Progress | None = None
    ) -> Saved:
        """Save a file in `sink` under `name`; the arguments and errors are those of `fetch`.

        Raises:
            ValueError: `name` is not a plain relative path.
            DownloadError: what `fetch` raises, or the sink failed.
        """
        check_name(name)
        if not callable(getattr(sink, "put", None)):
            raise TypeError(f"a sink must have a method put(name, chunks), which {type(sink).__name__} lacks")

        async def put(chunks: AsyncIterator[bytes]) -> None:
            failure = f"{name} could not be saved by {type(sink).__name__}"
            try:
                await sink.put(name, chunks)
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                raise DownloadError(f"{failure}: it was cancelled by itself") from None
            except AvaturnError:
                raise
            except Exception as error:
                first, *_ = without_queries(str(error)).splitlines() or [""]
                wrapped = DownloadError(f"{failure}: {type(error).__name__}: {first[:300]}")
                wrapped.retryable = bool(getattr(error, "retryable", isinstance(error, ConnectionError | TimeoutError)))
                raise wrapped from error

        try:
            stream = self._stream(link, progress, checksum=checksum)
            await self._transfer(stream, put)
        except DownloadError as error:
            error.path = name
            raise
        return Saved(name, stream.done, stream.sha256)

    async def read(self, link: Link) -> bytes:
        """Return the bytes of a file; the errors are those of `fetch`."""
        body: list[bytes] = []

        async def put(chunks: AsyncIterator[bytes]) -> None:
            body[:] = [chunk async for chunk in chunks]

        await self._transfer(self._stream(link), put)
        return b"".join(body)

    def stream(self, link: Link) -> AsyncGenerator[bytes, None]:
        """Return an iterator over the bytes of a file; the errors are those of `fetch`.

        A file that can't be resumed after a broken connection is an `IncompleteDownloadError`.
        """
        return self._observed_chunks(self._stream(link))

    def _stream(self, link: Link, progress: Progress | None = None, *, checksum: bool = False) -> ResumableStream:
        check_not_async("progress", progress)
        self._session.sessions.check_open()
        self._session.check_url(link.url)
        return ResumableStream(self._session, link, retry=self._retry, progress=progress, checksum=checksum)

    async def _transfer(self, stream: ResumableStream, put: Callable[[AsyncIterator[bytes]], Awaitable[None]]) -> None:
        """Pass the chunks of a file to `put`, again from the beginning as often as the stream has to restart."""
        with self._observe(stream):
            while True:
                failure: Exception | None = None
                try:
                    async with aclosing(stream.chunks()) as chunks:
                        await put(chunks)
                except Exception as error:  # noqa: BLE001 - raised below, unless it is a consequence of another one
                    failure = error
                if stream.restart():
                    continue
                failure = stream.error or failure
                if failure is None and stream.complete:
                    return
                try:
                    raise failure or DownloadError("the sink returned before it had read the whole file")
                finally:
                    del failure  # its traceback refers to this frame: a cycle

    async def _observed_chunks(self, stream: ResumableStream) -> AsyncGenerator[bytes, None]:
        with self._observe(stream):
            async with aclosing(stream.chunks()) as chunks:
                async for chunk in chunks:
                    yield chunk

    def _observe(self, stream: ResumableStream) -> AbstractContextManager[object]:
        if not self._observers.wants(DEBUG):
            return UNOBSERVED
        number, link = new_number(), stream.link

        def make(**facts: Any) -> DownloadInfo:
            facts |= {"size": stream.done, "received": stream.received}
            return DownloadInfo(download=number, url=without_query(link.url), avatar_id=link.avatar_id, **facts)

        stream.observed = self._observers.scope("download_started", "download_ended", make)
        return stream.observed


def _drain(queue: deque[bytes]) -> Iterator[bytes]:
    while queue:
        yield queue.popleft()
