"""The bytes of one file, in order, over as many connections and urls as it takes."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

import attrs
from aiohttp import ClientResponse, hdrs

from ..config import RetryPolicy
from ..errors import DownloadError, IncompleteDownloadError
from ..http.dates import retry_after
from ..redact import without_query
from .ranges import Extent, extent, validator
from .session import TRANSIENT, GuardedSession, describe

__all__ = ["Feed"]

# An attempt that gets less further than any before it counts as one that brought nothing: else a peer could keep us
# reconnecting for ever.
_PROGRESS = 4096
_MAX_REFRESHES = 3
# Object stores say that a link has expired with any of these: S3 403, GCS 400, some CDNs 401 or 410.
_REFUSALS = frozenset({400, 401, 403, 404, 410})
_RETRIED = frozenset({408, 425, 429})


@attrs.frozen
class _Trouble:
    """Why an attempt did not end with the whole file."""

    reason: str
    refused: bool = False
    cut: bool = False
    wait: float | None = None


class Feed:
    """Reads a file from its url, and goes on where it was after a broken connection or a refused url.

    Attributes:
        done: bytes read so far.
        total: the length of the file in bytes, or None where nobody said.
        validator: what If-Range names when the file is resumed, or None where that can't be done safely.
        ends_with_connection: whether only the end of the connection tells the end of the file.
    """

    def __init__(
        self,
        session: GuardedSession,
        url: str,
        *,
        retry: RetryPolicy,
        fresh_url: Callable[[], Awaitable[str]] | None,
        restart: Callable[[], Awaitable[None]],
    ) -> None:
        self.done: int = 0
        self.total: int | None = None
        self.validator: str | None = None
        self.ends_with_connection: bool = False
        self._session = session
        self._url = url
        self._retry = retry
        self._fresh_url = fresh_url
        self._restart = restart
        self._first = b""
        self._furthest = 0
        self._barren = 0
        self._refused = 0

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `done` on. Before any that come from the beginning again, `restart` is awaited."""
        self._furthest = self.done
        trouble: _Trouble | None = _Trouble("")
        while trouble is not None:
            answer = await self._answer()
            try:
                chunk = self._first
                while chunk:
                    self.done += len(chunk)
                    yield chunk
                    chunk = await answer.content.readany()
                trouble = self._missing()
            except TRANSIENT as error:
                trouble = self._cut(describe(error))
            finally:
                answer.close()
            if trouble is not None:
                await self._overcome(trouble)

    async def _answer(self) -> ClientResponse:
        while True:
            answer = await self._ask()
            if isinstance(answer, ClientResponse):
                return answer
            await self._overcome(answer)

    async def _ask(self) -> ClientResponse | _Trouble:
        try:
            response = await self._session.get(self._url, self._headers())
        except TRANSIENT as error:
            return _Trouble(describe(error))
        accepted = False
        try:
            trouble = self._verdict(response) or await self._read_first(response) or await self._accept(response)
            accepted = trouble is None
        finally:
            if not accepted:
                response.close()
        return trouble or response

    async def _read_first(self, response: ClientResponse) -> _Trouble | None:
        # Before anything else is awaited: once the connection breaks, aiohttp keeps back what came on it.
        try:
            self._first = await response.content.readany()
        except TRANSIENT as error:
            return self._cut(describe(error))
        return None

    def _headers(self) -> Mapping[str, str]:
        if not self.done or self.validator is None:
            return {}
        return {hdrs.RANGE: f"bytes={self.done}-", hdrs.IF_RANGE: self.validator}

    def _verdict(self, response: ClientResponse) -> _Trouble | None:
        status = response.status
        if status in (200, 206):
            return None
        if status in _REFUSALS:
            return _Trouble(f"it answered {status}", refused=True)
        if status in _RETRIED or status >= 500:
            return _Trouble(f"it answered {status}", wait=retry_after(response.headers))
        if status == 416 and self.done:
            self.validator = None  # so that the next attempt begins again
            return _Trouble("it refused to continue where it was", cut=True)
        raise DownloadError(f"{self._shown} answered {status}")

    async def _accept(self, response: ClientResponse) -> _Trouble | None:
        encoding = response.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise DownloadError(f"{self._shown} came encoded as {encoding[:20]!r}, which was not asked for")
        found = extent(response.status, response.headers)
        if self.done and self._continues(response, found):
            return None
        if found is None or found.start:
            self.validator = None
            return _Trouble("it answered with another range than was asked for", cut=True)
        await self._begin_again()
        self.total = found.total
        self.validator = validator(response.headers)
        self.ends_with_connection = found.stop is None and not response.headers.get(hdrs.TRANSFER_ENCODING)
        return None

    def _continues(self, response: ClientResponse, found: Extent | None) -> bool:
        if response.status != 206 or found is None or found.start != self.done:
            return False
        if hdrs.ETAG in response.headers and validator(response.headers) != self.validator:
            return False
        if self.total is None:
            self.total = found.total
        return found.total in (None, self.total)

    def _missing(self) -> _Trouble | None:
        return self._cut("the answer ended") if self.total is not None and self.done < self.total else None

    def _cut(self, reason: str) -> _Trouble:
        total = "" if self.total is None else f" of {self.total}"
        return _Trouble(f"{reason} after {self.done}{total} bytes", cut=True)

    async def _overcome(self, trouble: _Trouble) -> None:
        self._session.check_open()
        if self.done and self.validator is None:
            await self._begin_again()
        elif self.done - self._furthest >= _PROGRESS:
            self._furthest = self.done
            self._barren = self._refused = 0
            return
        if trouble.refused:
            await self._renew(trouble)
        else:
            self._count(trouble)
            await asyncio.sleep(self._delay(trouble))

    async def _renew(self, trouble: _Trouble) -> None:
        if self._fresh_url is None:
            raise DownloadError(f"{self._shown} was refused, its link may have expired: {trouble.reason}")
        if self._refused >= _MAX_REFRESHES:
            raise DownloadError(
                f"{self._shown} was refused, and so were {self._refused} fresh links to it, though the API says that"
                f" the file is ready: {trouble.reason}"
            )
        self._refused += 1
        await asyncio.sleep(self._delay(trouble))  # first: a fresh link must not age meanwhile
        self._url = await self._fresh_url()

    def _count(self, trouble: _Trouble) -> None:
        self._barren += 1
        late = trouble.wait is not None and trouble.wait > self._retry.retry_after_cap
        if not late and self._barren < self._retry.attempts:
            return
        kind = IncompleteDownloadError if trouble.cut or self.done else DownloadError
        asked = f", and asked to wait for {trouble.wait:.0f} s" if late else ""
        raise kind(f"{self._shown} could not be fetched in {self._barren} attempts: {trouble.reason}{asked}")

    def _delay(self, trouble: _Trouble) -> float:
        if trouble.wait is not None:
            return trouble.wait
        failed = self._barren + max(0, self._refused - 1)
        if not failed:
            return 0.0
        return random.uniform(0, min(self._retry.cap, self._retry.base * 2.0 ** min(failed - 1, 60)))

    async def _begin_again(self) -> None:
        if self.done:
            await self._restart()
        self.done = 0
        self.total = self.validator = None

    @property
    def _shown(self) -> str:
        return without_query(self._url)
