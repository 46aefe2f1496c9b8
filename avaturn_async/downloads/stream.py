"""The bytes of one file, in order, over as many connections and links as it takes."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Literal, TypeAlias
from uuid import UUID

import attrs
from aiohttp import hdrs

from ..config import RetryPolicy
from ..errors import DownloadError, IncompleteDownloadError
from ..http.delays import backoff, retry_after
from ..observe.dispatch import Scope
from ..redact import MaskedBytes, SignedUrl, without_query
from .glb import GlbCheck
from .session import TRANSIENT, FileResponse, GuardedSession, describe, extent, strong_etag

__all__ = ["FreshUrl", "Kind", "Link", "Progress", "ResumableStream"]

FreshUrl: TypeAlias = Callable[[], Awaitable[str]]
Kind: TypeAlias = Literal["glb", "file"]
Progress: TypeAlias = Callable[[int, int | None], object]

# Bytes. An attempt that gains less counts as failed: a server that sends a few bytes at a time must not cause endless
# reconnects.
_MIN_PROGRESS = 4096
_MAX_FRESH_URLS = 3
# How hosts say that a link has expired: S3 by 403, GCS by 400, some CDNs by 401 or 410.
_REFUSED = frozenset({400, 401, 403, 404, 410})
_RETRIED = frozenset({408, 425, 429})


@attrs.frozen
class Link:
    """A file behind a temporary link.

    Attributes:
        url: the link.
        kind: ``"glb"`` checks that the file is a GLB 2.0 model of the length that it declares.
        fresh_url: returns another link when this one is refused.
        max_bytes: a longer file is refused.
        avatar_id: the avatar that the file is of, for observers.
    """

    url: SignedUrl = attrs.field(converter=SignedUrl)
    kind: Kind = "file"
    fresh_url: FreshUrl | None = None
    max_bytes: int | None = attrs.field(default=None)
    avatar_id: UUID | None = None

    @max_bytes.validator
    def _check_max_bytes(self, _: object, value: object) -> None:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"max_bytes must be a whole number of at least 1 or None, not {value!r}")


@attrs.frozen
class _Failure:
    """Why an attempt did not bring the rest of the file."""

    reason: str
    refused: bool = False
    cut: bool = False
    retry_after: float | None = None


class ResumableStream:
    """Reads a file from its link, and resumes it after a broken connection or an expired link.

    A file is resumed only if its first response had a strong ETag, and only by a 206 that has the same one. Otherwise
    `chunks` raises; after `restart` it can be called again and yields the file from its beginning.

    Attributes:
        done: bytes received, including those that another run received (see `resume`).
        received: bytes received by this run, including those from before a `restart`.
        total: the length of the file in bytes, or None if unknown.
        etag: its strong ETag, or None.
        complete: whether the whole file was received and checked.
        error: what `chunks` raised.
        link: the file.
        observed: notifies observers of this download, or None.
    """

    def __init__(
        self,
        session: GuardedSession,
        link: Link,
        *,
        retry: RetryPolicy,
        progress: Progress | None = None,
        checksum: bool = False,
    ) -> None:
        self._session = session
        self.link = link
        self.observed: Scope | None = None
        self.received: int = 0
        self._url = link.url
        self._retry = retry
        self._progress = progress
        self._checksum = checksum
        self._response: FileResponse | None = None
        self._furthest = 0
        self._failed = 0
        self._refused = 0
        self._reset()

    def _reset(self) -> None:
        self.done: int = 0
        self.total: int | None = None
        self.etag: str | None = None
        self.complete: bool = False
        self.error: Exception | None = None
        self._digest = hashlib.sha256() if self._checksum else None
        self._stop: int | None = None
        self._chunked = False
        self._must_restart = False
        self._check = GlbCheck(self._name) if self.link.kind == "glb" else None

    @property
    def _name(self) -> str:
        return without_query(self._url)

    @property
    def sha256(self) -> str | None:
        """The hexadecimal SHA-256 of the first `done` bytes, or None if no checksum is wanted."""
        return self._digest.hexdigest() if self._digest else None

    @property
    def update_digest(self) -> Callable[[bytes], object] | None:
        """A function to be called with the bytes that `resume` passes over, or None if no checksum is wanted."""
        return self._digest.update if self._digest else None

    def resume(self, head: bytes, done: int, etag: str, total: int | None) -> None:
        """Go on after the first `done` bytes of a version, if `head`, the first of these, can belong to the file."""
        self.done, self.etag, self.total = done, etag, total
        self._furthest = done
        try:
            self._check_length(total)
            self._inspect(head)
        except DownloadError:
            self._reset()

    def restart(self) -> bool:
        """Go back to the beginning if that is why `chunks` raised, and say whether it was."""
        must_restart = self._must_restart
        if must_restart:
            self._reset()
        return must_restart

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `done` on. The last chunk is yielded once the whole file has arrived and was checked.

        Raises:
            NotAModelError: the file is not a model.
            IncompleteDownloadError: it did not arrive whole, or has to begin again (see `restart`).
            DownloadError: the link was refused, or the file is longer than allowed.
        """
        held = b""
        try:
            while chunk := await self._next():
                if held:
                    yield held
                held = chunk if self._stop is None or self.done == self.total else b""  # it may be the last one
                if not held:
                    yield chunk
            if self._check is not None:
                self._check.finish(self.done)
        except Exception as error:
            self.error = error
            raise
        finally:
            self._close()
        self.complete = True
        if held:
            yield held

    async def _next(self) -> bytes:
        """Return the next bytes, over as many responses as it takes; ``b""`` at the end of the file."""
        while True:
            if self._response is None:
                failure = await self._request()
            else:
                chunk, broken = b"", None
                try:
                    chunk = await self._response.read()
                except TRANSIENT as error:
                    broken = describe(error)
                if not self.done:
                    chunk = MaskedBytes(chunk)  # may be a page with links in it, if it is no file
                if chunk:
                    self._take(chunk)
                    return chunk
                self._close()
                ended = broken is None and (self.total is None or self._chunked)
                if ended or self.done == self.total:
                    return b""
                failure = self._cut(broken or "the response ended")
            if failure is not None:
                await self._recover(failure)

    def _close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _take(self, chunk: bytes) -> None:
        """Count and check bytes that have arrived."""
        self._inspect(chunk)
        self.done += len(chunk)
        self.received += len(chunk)
        announced = self.total if self._stop is None else self._stop
        if announced is not None and self.done > announced:
            if self._check is not None:
                self._check.finish(self.done)
            raise DownloadError(f"{self._name} sent more than the {announced} bytes that it announced")
        self._check_length(self.done)
        if self._progress is not None:
            self._progress(self.done, self.total)
        if self._digest is not None:
            self._digest.update(chunk)

    def _inspect(self, chunk: bytes) -> None:
        """Check the beginning of a model, whose header tells the length where the response did not."""
        if self._check is None:
            return
        self._check.feed(chunk)
        if self._check.declared is not None:
            if self.total is None:
                self.total = self._check.declared
            self._check.finish(self.total)
            self._check_length(self.total)

    def _check_length(self, size: int | None) -> None:
        limit = self.link.max_bytes
        if limit is not None and size is not None and size > limit:
            raise DownloadError(f"{self._name} is longer than max_bytes, which is {limit}")

    async def _request(self) -> _Failure | None:
        """Request the bytes from `done` on; return the failure if the response does not have them."""
        headers: dict[str, str] = {}
        if self.done and self.etag is not None:
            headers = {hdrs.RANGE: f"bytes={self.done}-", hdrs.IF_RANGE: self.etag}
        try:
            self._response = await self._session.get(self._url, headers)
        except TRANSIENT as error:
            return _Failure(describe(error))
        failure = self._judge(self._response)
        if failure is not None:
            self._close()
        return failure

    def _judge(self, response: FileResponse) -> _Failure | None:
        """Return None if the body of the response is the file from `done` on."""
        status = response.status
        if status in _REFUSED:
            return _Failure(f"it answered {status}", refused=True)
        if status in _RETRIED or status >= 500:
            return _Failure(f"it answered {status}", retry_after=retry_after(response.headers))
        if status == 416 and self.done:
            self.etag = None
            return _Failure("it refused to continue where it was", cut=True)
        if status not in (200, 206):
            raise DownloadError(f"{self._name} answered {status}")
        encoding = response.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()
        if encoding not in ("", "identity"):
            raise DownloadError(f"{self._name} answered with the encoding {encoding[:20]!r}, which was not asked for")
        found, etag = extent(status, response.headers), strong_etag(response.headers)
        if not self.done:
            if found is None or found.start:
                return _Failure("it answered with another range than was asked for", cut=True)
            self.total, self.etag = found.total, etag
            self._check_length(self.total)
        elif status == 200:
            raise self._restart_required("it has changed, or its server sends no ranges")
        elif found is None or found.start != self.done or etag != self.etag or self.total not in (None, found.total):
            self.etag = None
            return _Failure("it answered with another range or version than was asked for", cut=True)
        else:
            self.total = found.total
            if self.observed is not None:
                self.observed.tell("download_resumed")
        self._stop = found.stop
        # Where only the end of the connection ends the body, it may have been cut.
        self._chunked = found.stop is None and hdrs.TRANSFER_ENCODING in response.headers
        return None

    async def _recover(self, failure: _Failure) -> None:
        """Return when the next attempt is due, or raise."""
        self._session.sessions.check_open()
        resumable = not self.done or self.etag is not None
        if resumable and self.done - self._furthest >= _MIN_PROGRESS:
            self._furthest = self.done
            self._failed = self._refused = 0
            return
        if failure.refused:
            await self._renew(failure)
        else:
            self._failed += 1
            late = failure.retry_after is not None and failure.retry_after > self._retry.retry_after_cap
            if late or self._failed >= self._retry.attempts:
                asked = f", and asked to wait for {failure.retry_after:.0f} s" if late else ""
                raise self._given_up(failure, f"failed in {self._failed} attempts in a row: {failure.reason}{asked}")
            await self._session.sessions.sleep(self._delay(failure))
        if not resumable:
            raise self._restart_required(failure.reason)

    async def _renew(self, failure: _Failure) -> None:
        fresh_url = self.link.fresh_url
        if fresh_url is None:
            raise self._given_up(failure, f"was refused, its link may have expired: {failure.reason}")
        if self._refused >= _MAX_FRESH_URLS:
            raise self._given_up(
                failure,
                f"was refused, and so were {self._refused} fresh links to it, though the API says that the file is"
                f" ready: {failure.reason}",
            )
        self._refused += 1
        await self._session.sessions.sleep(self._delay(failure))  # before: a fresh link must not age meanwhile
        self._url = SignedUrl(await fresh_url())

    def _delay(self, failure: _Failure) -> float:
        if failure.retry_after is not None:
            return failure.retry_after
        failures = self._failed + max(0, self._refused - 1)
        return backoff(failures, base=self._retry.base, cap=self._retry.cap) if failures else 0.0

    def _cut(self, reason: str) -> _Failure:
        total = "" if self.total is None else f" of {self.total}"
        return _Failure(f"{reason} after {self.done}{total} bytes", cut=True)

    def _given_up(self, failure: _Failure, text: str) -> DownloadError:
        kind = IncompleteDownloadError if failure.cut or self.done else DownloadError
        error = kind(f"{self._name} {text}")
        error.retryable = True
        return error

    def _restart_required(self, reason: str) -> IncompleteDownloadError:
        self._must_restart = True
        return IncompleteDownloadError(f"{self._name} can't be resumed after {self.done} bytes: {reason}")
