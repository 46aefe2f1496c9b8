"""Fetch the files behind temporary links, whole or not at all."""

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Literal, TypeAlias

import attrs
from yarl import URL

from ..config import RetryPolicy, Timeouts
from ..errors import DownloadError, IncompleteDownloadError, NotAModelError
from ..http.tasks import run_in_thread
from ..redact import without_query
from .glb import GlbCheck
from .partfile import Note, PartFile
from .session import GuardedSession, Ssl
from .stream import Feed
from .writer import Sink

__all__ = ["Download", "Downloader"]

FreshUrl: TypeAlias = Callable[[], Awaitable[str]]
Progress: TypeAlias = Callable[[int, int | None], object]
Kind: TypeAlias = Literal["glb", "file"]


@attrs.frozen
class Download:
    """A file that was downloaded.

    Attributes:
        path: where it is.
        size: its length in bytes.
        sha256: its SHA-256, hexadecimal.
    """

    path: Path
    size: int
    sha256: str


class Downloader:
    """Downloads files without the token, from public addresses, through one session for one event loop.

    Args:
        timeouts: `connect` bounds a connection, `total` the silence of a peer; a big file may take as long as it takes.
        allow_private_hosts: fetch from any address, also by plain http.
        allow_http: fetch by plain http, from public addresses.
        max_connections: open at once.
        proxy: the url of an HTTP proxy; the environment's is not used.
        ssl: as aiohttp has it.
        retry: `attempts` counts those in a row that bring nothing.
    """

    def __init__(
        self,
        *,
        timeouts: Timeouts,
        allow_private_hosts: bool,
        allow_http: bool,
        max_connections: int = 100,
        proxy: str | URL | None = None,
        ssl: Ssl = True,
        retry: RetryPolicy = RetryPolicy(attempts=5),
    ) -> None:
        self._retry = retry
        self._session = GuardedSession(
            timeouts=timeouts,
            allow_private_hosts=allow_private_hosts,
            allow_http=allow_http,
            max_connections=max_connections,
            proxy=proxy,
            ssl=ssl,
        )

    async def fetch(
        self,
        url: str,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        progress: Progress | None = None,
        fresh_url: FreshUrl | None = None,
        kind: Kind = "file",
    ) -> Download:
        """Download `url` to `path`, resuming what an earlier call has left; nothing but the whole file gets the name.

        Args:
            url: a temporary link.
            path: the file to write; its folder must exist.
            overwrite: replace a file that is there.
            progress: called with the bytes so far, and the bytes in all or None. What it raises ends the download.
            fresh_url: asked for another link when this one is refused.
            kind: ``"glb"`` checks that the file is a GLB 2.0 model of the length that it declares.

        Raises:
            UnsafeAddressError: the url or a redirect leads to an address that is not public.
            NotAModelError: something else than a model came.
            IncompleteDownloadError: the file did not come whole; another call goes on with what is there, if it can.
            DownloadError: the url was refused, or the file can't be written.
        """
        target = Path(path)
        try:
            self._session.check_open()
            self._session.parse(url)
            transfer = _Transfer(target, url, overwrite=overwrite, progress=progress, kind=kind)
            return await transfer.run(
                Feed(self._session, url, retry=self._retry, fresh_url=fresh_url, restart=transfer.restart)
            )
        except DownloadError as error:
            error.path = str(target)
            raise

    async def stream(
        self, url: str, *, fresh_url: FreshUrl | None = None, kind: Kind = "file"
    ) -> AsyncGenerator[bytes, None]:
        """Yield the file's bytes as they come. Use `contextlib.aclosing` where the loop may be left early.

        A broken connection is resumed. Where it can't be, `IncompleteDownloadError` is raised, and `NotAModelError` may
        come after bytes that looked like a model's.
        """
        check = _check(url, kind)
        feed = Feed(self._session, url, retry=self._retry, fresh_url=fresh_url, restart=_unable(url))
        self._session.check_open()
        async with aclosing(feed.chunks()) as chunks:
            async for chunk in chunks:
                _look(check, chunk, feed)
                yield chunk
        if check is not None:
            check.finish(feed.done)

    async def aclose(self) -> None:
        """Close the connections; what is under way ends with `ClientClosedError`."""
        await self._session.aclose()


class _Transfer:
    """One call of `fetch`: what comes from the feed goes through the check into the sink."""

    def __init__(self, target: Path, url: str, *, overwrite: bool, progress: Progress | None, kind: Kind) -> None:
        self._source = without_query(url)
        self._target = target
        self._progress = progress
        self._check = _check(url, kind)
        self._part = PartFile(target, overwrite=overwrite)
        self._sink = Sink(self._part, self._note)
        self._feed: Feed | None = None

    async def run(self, feed: Feed) -> Download:
        """Download the file, and leave behind it, a partial file that can be resumed, or nothing."""
        try:
            await run_in_thread(self._part.open, self._source)
            self._take_up(feed)
            await self._fill(feed)
            if self._check is not None:
                self._check.finish(feed.done)
            await self._sink.publish()
        except NotAModelError:
            self._part.keep = False
            raise
        finally:
            await self._sink.close()
        return Download(self._target, self._part.size, self._part.sha256)

    async def restart(self) -> None:
        """Forget what came: the feed begins again."""
        await self._sink.rewind()
        if self._check is not None:
            self._check.restart()

    def _take_up(self, feed: Feed) -> None:
        self._feed = feed
        note = self._part.note
        if note is not None:
            feed.done, feed.total, feed.validator = self._part.size, note.total, note.validator
            _look(self._check, self._part.head, feed)

    async def _fill(self, feed: Feed) -> None:
        async with aclosing(feed.chunks()) as chunks:
            async for chunk in chunks:
                _look(self._check, chunk, feed)
                await self._sink.put(chunk)
                if self._progress is not None:
                    self._progress(feed.done, feed.total)

    def _note(self) -> Note | None:
        feed = self._feed
        if feed is None or feed.validator is None:
            return None
        return Note(self._source, feed.validator, feed.total)


def _check(url: str, kind: Kind) -> GlbCheck | None:
    if kind not in ("glb", "file"):
        raise ValueError(f'kind must be "glb" or "file", not {kind!r}')
    return GlbCheck(without_query(url)) if kind == "glb" else None


def _look(check: GlbCheck | None, chunk: bytes, feed: Feed) -> None:
    """Check the bytes of a model that has just come, as early as it can be told from something else."""
    if check is None or not check.feed(chunk):
        return
    if feed.total is None and feed.ends_with_connection:
        feed.total = check.declared
    if feed.total is not None:
        check.finish(feed.total)


def _unable(url: str) -> Callable[[], Awaitable[None]]:
    async def restart() -> None:
        raise IncompleteDownloadError(f"{without_query(url)} broke off and can't be resumed where it was")

    return restart
