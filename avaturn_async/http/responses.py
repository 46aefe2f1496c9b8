"""Read the API's responses, and classify attempts that failed: what to raise, and whether and when to send again."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from io import BytesIO
from typing import Any

import aiohttp
import attrs

from ..errors import (
    APIStatusError,
    AuthenticationError,
    AvaturnError,
    BadRequestError,
    ConfigurationError,
    ConflictError,
    ConnectError,
    GoneError,
    NotFoundError,
    OutcomeUnknownError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ResponseFormatError,
    ServerError,
    TransportError,
    UnprocessableError,
)
from ..models import ValidationError
from ..redact import MaskedBytes, Secret, mask_links, without_queries, without_query
from . import codec
from .delays import retry_after

__all__ = ["MAX_BODY", "NEVER_SENT", "DeleteTracker", "Failure", "Response", "connect_problem", "exchange_failure"]
__all__ += ["exchange_problem", "receive", "response_failure"]

#: Bytes of a 2xx that are read; the contract's responses are far smaller.
MAX_BODY = 16 * 2**20
_MAX_ERROR_BODY = 64 * 2**10
_MAX_MESSAGE = 300
_CLASSES: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
}
_MARKUP = r"(?is)<(script|style)\b.*?</\1\s*>|<[^>]*>"
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


@attrs.define
class Response:
    """A complete response of the API.

    Attributes:
        status: HTTP status.
        body: its bytes.
        headers: its headers, with case-insensitive names.
    """

    status: int
    body: bytes = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the status is a 2xx."""
        return 200 <= self.status < 300


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


async def receive(sending: Awaitable[aiohttp.ClientResponse]) -> Response:
    """Await a response and read its body: of a 2xx up to a little over `MAX_BODY`, of other responses 64 KiB.

    An error's status matters more than its body, so a body of one that breaks off is returned as far as it came.
    """
    response = await sending
    ok = 200 <= response.status < 300
    limit = MAX_BODY if ok else _MAX_ERROR_BODY
    buffer = BytesIO()  # unlike a bytearray, it shows no content in tracebacks that print locals
    try:
        while not response.content.at_eof() and buffer.tell() <= limit:
            buffer.write(await response.content.readany())
    except (aiohttp.ClientError, OSError):
        if ok:
            raise
    finally:
        if not response.closed:
            response.close()
    body = MaskedBytes(buffer.getvalue() if ok else buffer.getvalue()[:limit])
    return Response(response.status, body, response.headers)


def response_failure(
    response: Response, method: str, path: str, *, repeatable: bool, retry_after_cap: float, token: Secret
) -> Failure:
    """Classify a response with an error status, or a 2xx that is too large."""
    if response.ok:
        return Failure(ResponseFormatError(f"{method} {path} answered with more than {MAX_BODY >> 20} MiB"))
    status, asked = response.status, retry_after(response.headers)
    error = _status_error(response, method, path, token)
    transient = status in _TRANSIENT or 500 <= status < 600
    error.retryable = transient and (repeatable or status in _NOT_EXECUTED)
    return Failure(
        error,
        retryable=error.retryable and (asked or 0) <= retry_after_cap,
        retry_after=asked,
        may_have_executed=status == 408 or status >= 500,
    )


def _status_error(response: Response, method: str, path: str, token: Secret) -> APIStatusError:
    """Return the exception for a response other than a 2xx, without `token`: some servers quote what they refuse."""
    body = response.body
    if len(token) >= 8:  # a shorter one, of a test, is found in any text
        body = MaskedBytes(body.replace(token.encode(), b"***"))
    detail, findings = _explain(body)
    status = response.status
    facts: dict[str, Any] = {
        "status_code": status,
        "method": method,
        "path": path,
        "body": body,
        "detail": detail,
        "request_id": response.headers.get("X-Request-Id"),
    }
    message = f"{method} {path} answered {status}: {_printable(detail or _text_of(body) or _phrase(status))}"
    if 300 <= status < 400:
        target = _printable(without_query(response.headers.get("Location", "nowhere")))
        message += f" (to {target}; redirects are not followed)"
    if status == 422:
        return UnprocessableError(message, errors=findings, **facts)
    if status == 429:
        return RateLimitError(message, retry_after=retry_after(response.headers), **facts)
    return (ServerError if 500 <= status < 600 else _CLASSES.get(status, APIStatusError))(message, **facts)


def _explain(body: bytes) -> tuple[str | None, list[ValidationError]]:
    """Return FastAPI's `detail` as a sentence, without queries of urls, and those of its findings that can be read."""
    try:
        parsed = codec.parse_json(body)
    except ValueError:
        return None, []
    detail = mask_links(parsed.get("detail")) if isinstance(parsed, dict) else None
    if detail is None:
        return None, []
    if isinstance(detail, str):
        return without_queries(detail), []
    try:
        findings = codec.structure(detail, list[ValidationError])
    except codec.MismatchError:
        findings = []
    sentence = "; ".join(map(_sentence, findings)) or json.dumps(detail, ensure_ascii=False)
    return without_queries(sentence), findings


def _sentence(finding: ValidationError) -> str:
    place = ".".join(map(str, finding.loc))
    return f"{place}: {finding.msg}" if place else finding.msg


def _text_of(body: bytes) -> str:
    """Return the text of a body without tags of HTML or XML; of a binary one, such as an echoed photo, nothing."""
    text = body[:8192].decode(errors="replace")
    return "" if "\ufffd" in text[:-1] else " ".join(re.sub(_MARKUP, " ", text).split())


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


def _printable(text: str) -> str:
    """Take out the queries of urls, cut the text, and escape control characters."""
    text = without_queries(text)
    cut = text if len(text) <= _MAX_MESSAGE else text[:_MAX_MESSAGE] + "..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)


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
