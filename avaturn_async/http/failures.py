"""Classify failed attempts: the exception to raise, and whether and when to send again."""

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
from ..redact import Secret
from .dates import retry_after
from .responses import MAX_BODY, Response, status_error

__all__ = ["NEVER_SENT", "DeleteTracker", "Failure", "connect_problem", "exchange_failure", "exchange_problem"]
__all__ += ["response_failure"]

#: Exceptions of aiohttp that are raised before any byte of the request is sent.
NEVER_SENT: tuple[type[Exception], ...] = (
    aiohttp.ClientConnectorError,  # also DNS, TLS, certificates and proxies
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.ClientHttpProxyError,
)
_UNTRUSTED = (aiohttp.ClientConnectorCertificateError, aiohttp.ServerFingerprintMismatch)
_BAD_URL = (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)
_TRANSIENT = frozenset({408, 425, 429})
_NOT_EXECUTED = frozenset({429, 503})


@attrs.frozen
class Failure:
    """An attempt without a usable response.

    Attributes:
        error: what to raise unless a further attempt succeeds.
        retryable: whether a further attempt is safe and may succeed.
        retry_after: seconds that the response asked to wait, or None.
        may_have_executed: whether the API may have executed the request.
    """

    error: AvaturnError
    retryable: bool = False
    retry_after: float | None = None
    may_have_executed: bool = False


def response_failure(
    response: Response, method: str, path: str, *, repeatable: bool, retry_after_cap: float, token: Secret
) -> Failure:
    """Classify a response with an error status, or a 2xx that is too large."""
    if response.ok:
        return Failure(ResponseFormatError(f"{method} {path} answered with more than {MAX_BODY >> 20} MiB"))
    status, asked = response.status, retry_after(response.headers)
    error = status_error(response, method, path, token)
    transient = status in _TRANSIENT or 500 <= status < 600
    error.retryable = transient and (repeatable or status in _NOT_EXECUTED)
    return Failure(
        error,
        retryable=error.retryable and (asked or 0) <= retry_after_cap,
        retry_after=asked,
        may_have_executed=status == 408 or status >= 500,
    )


def exchange_failure(
    error: Exception, method: str, path: str, *, repeatable: bool, timeout: float, connect_timeout: float
) -> Failure:
    """Classify what aiohttp raised. Nothing of the exception is kept: its parts may show the token."""
    facts = {"method": method, "path": path}
    what = exchange_problem(error, timeout, connect_timeout)
    if isinstance(error, NEVER_SENT):
        unsent = ConnectError(f"{method} {path} was not sent: {what}", **facts)
        unsent.retryable = not isinstance(error, _UNTRUSTED)
        return Failure(unsent, retryable=unsent.retryable)
    if isinstance(error, _BAD_URL):
        return Failure(ConfigurationError(f"{method} {path} was not sent: aiohttp does not accept its url"))
    expected = isinstance(error, aiohttp.ClientError | OSError)
    lost: TransportError
    if not repeatable:
        start = f"{method} {path} was sent, but {what}" if expected else f"{method} {path} failed: {what}"
        lost = OutcomeUnknownError(f"{start}: it may have been executed, and is not safe to repeat", **facts)
    else:
        kind = RequestTimeoutError if isinstance(error, TimeoutError) else TransportError
        lost = kind(f"{method} {path} failed: {what}", **facts)
        lost.retryable = expected
    return Failure(lost, retryable=lost.retryable, may_have_executed=True)


def connect_problem(error: aiohttp.ClientConnectorError) -> str:
    """Return why a connection was not made."""
    # Before 3.14 aiohttp's certificate errors have no os_error.
    untrusted = isinstance(error, aiohttp.ClientConnectorCertificateError)
    cause = getattr(error, "certificate_error" if untrusted else "os_error")
    if isinstance(cause, ConnectionRefusedError):
        return "nothing listens there"
    return getattr(cause, "verify_message", None) or getattr(cause, "strerror", None) or type(cause).__name__


def exchange_problem(error: Exception, timeout: float, connect_timeout: float) -> str:
    """Return what went wrong in an exchange, without the texts of aiohttp's errors, which may show secrets."""
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error, aiohttp.ClientProxyConnectionError):  # its host is not the proxy's, which its cause names
            return f"no connection to the proxy ({error.os_error.strerror})"
        return f"no connection to {error.host}:{error.port} ({connect_problem(error)})"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status}"
    if isinstance(error, aiohttp.ServerFingerprintMismatch):
        return f"the certificate of {error.host}:{error.port} is not the pinned one"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"no connection within {connect_timeout:g} s"
    if isinstance(error, TimeoutError):
        return f"no complete response was received within {timeout:g} s"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "its response broke off"
    if isinstance(error, aiohttp.ClientResponseError):
        return "its response is not valid HTTP"
    if isinstance(error, OSError) and error.errno:
        return f"the connection broke ({os.strerror(error.errno)})"
    if isinstance(error, aiohttp.ClientConnectionError | OSError):
        return "the connection broke"
    return f"aiohttp could not handle it ({type(error).__name__})"


class DeleteTracker:
    """Tracks whether an earlier sending of one DELETE may have been executed, which explains a later 404.

    It is also an aiohttp client middleware: aiohttp silently resends an idempotent request once when a kept-alive
    connection breaks, and a middleware sees both attempts.
    """

    def __init__(self) -> None:
        self.may_have_executed: bool = False

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

    def resolve(self, outcome: Response | Failure) -> Response | Failure:
        """Turn a 404 into success if an earlier sending may have been executed; otherwise take note of this one."""
        if isinstance(outcome, Response):
            return outcome
        if self.may_have_executed and isinstance(outcome.error, NotFoundError):
            return Response(200, b"", {})
        self.may_have_executed = self.may_have_executed or outcome.may_have_executed
        return outcome
