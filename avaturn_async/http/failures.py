"""Say what a failed attempt means: the error that it is, whether to send again, and when."""

from __future__ import annotations

import os

import aiohttp
import attrs

from ..errors import (
    AvaturnError,
    ConfigurationError,
    ConnectError,
    NotFoundError,
    OutcomeUnknownError,
    RequestTimeoutError,
    ResponseFormatError,
    TransportError,
)
from .dates import retry_after
from .responses import MOST_BODY, Response, status_error

__all__ = ["NEVER_SENT", "DeleteTracker", "Failure", "answer_failure", "exchange_failure"]

NEVER_SENT: tuple[type[Exception], ...] = (
    aiohttp.ClientConnectorError,  # also DNS, TLS, certificates and proxies
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.ClientHttpProxyError,
)
_UNTRUSTED = (aiohttp.ClientConnectorCertificateError, aiohttp.ServerFingerprintMismatch)
_BAD_URL = (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)
_TRANSIENT = frozenset({408, 425, 429})
_REFUSED = frozenset({429, 503})


@attrs.frozen
class Failure:
    """An attempt that brought no answer to work with.

    Attributes:
        error: what to raise unless another attempt fares better.
        retryable: whether another attempt is safe and may succeed.
        retry_after: seconds that the answer asked to wait before it, or None.
        may_have_executed: whether the API may have carried the request out.
    """

    error: AvaturnError
    retryable: bool = False
    retry_after: float | None = None
    may_have_executed: bool = False


class DeleteTracker:
    """Tracks whether an earlier sending of one DELETE may have been executed, which explains a later 404.

    It is also an aiohttp client middleware: aiohttp silently resends an idempotent request once when a kept-alive
    connection breaks, and only a middleware sees both attempts.
    """

    __slots__ = ("may_have_executed",)

    def __init__(self) -> None:
        self.may_have_executed = False

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send the request; note an attempt whose response was lost."""
        try:
            return await handler(request)
        except NEVER_SENT:
            raise
        except Exception:
            self.may_have_executed = True
            raise

    def resolve(self, failure: Failure) -> Response | Failure:
        """Turn a 404 into success if an earlier attempt may have been executed; otherwise update the tracker."""
        if self.may_have_executed and isinstance(failure.error, NotFoundError):
            return Response(200, b"", {})
        self.may_have_executed = self.may_have_executed or failure.may_have_executed
        return failure


def answer_failure(answer: Response, method: str, path: str, *, repeatable: bool, cap: float) -> Failure:
    """Judge an answer that is no good; `cap` is the longest Retry-After in seconds that is worth waiting for."""
    if answer.ok:
        return Failure(ResponseFormatError(f"{method} {path} answered with more than {MOST_BODY >> 20} MiB"))
    status = answer.status
    asked = retry_after(answer.headers)
    transient = status in _TRANSIENT or 500 <= status < 600
    return Failure(
        error=status_error(answer, method, path),
        retryable=transient and (repeatable or status in _REFUSED) and (asked or 0) <= cap,
        retry_after=asked,
        may_have_executed=status == 408 or status >= 500,
    )


def exchange_failure(
    error: Exception, method: str, path: str, *, repeatable: bool, timeout: aiohttp.ClientTimeout
) -> Failure:
    """Judge what aiohttp raised; nothing of the exception is kept, for its parts may show the token."""
    facts = {"method": method, "path": path}
    if isinstance(error, NEVER_SENT):
        why = _why_not_sent(error, timeout)
        unsent = ConnectError(f"{method} {path} was not sent: {why}", **facts)
        return Failure(unsent, retryable=not isinstance(error, _UNTRUSTED))
    if isinstance(error, _BAD_URL):
        return Failure(ConfigurationError(f"{method} {path} was not sent: its url is not one that aiohttp can ask for"))
    what = _what_was_lost(error, timeout)
    lost: TransportError
    if not repeatable:
        sentence = f"{method} {path} was sent, but {what}: it may have been carried out, and is not safe to repeat"
        lost = OutcomeUnknownError(sentence, **facts)
    elif isinstance(error, TimeoutError):
        lost = RequestTimeoutError(f"{method} {path} failed: {what}", **facts)
    else:
        lost = TransportError(f"{method} {path} failed: {what}", **facts)
    broke = isinstance(error, aiohttp.ClientError | OSError)
    return Failure(lost, retryable=repeatable and broke, may_have_executed=True)


def _why_not_sent(error: Exception, timeout: aiohttp.ClientTimeout) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        reason = getattr(cause, "verify_message", None) or cause.strerror or type(cause).__name__
        return f"no connection to {error.host}:{error.port} ({reason})"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status}"
    if isinstance(error, aiohttp.ServerFingerprintMismatch):
        return f"{error.host}:{error.port} has another certificate than the pinned one"
    return f"no connection within {timeout.sock_connect:g} s"


def _what_was_lost(error: Exception, timeout: aiohttp.ClientTimeout) -> str:
    if isinstance(error, TimeoutError):
        return f"no whole answer came within {timeout.total:g} s"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "its answer broke off"
    if isinstance(error, aiohttp.ClientResponseError):
        return "its answer is not valid HTTP"
    if isinstance(error, OSError) and error.errno:
        return f"the connection broke ({os.strerror(error.errno)})"
    if isinstance(error, aiohttp.ClientConnectionError | OSError):
        return "the connection broke"
    return f"aiohttp could not handle it ({type(error).__name__})"
