"""The exceptions of this package.

    AvaturnError
    ├── ConfigurationError, WrongLoopError, ClientClosedError
    ├── TransportError
    │   ├── ConnectError
    │   ├── RequestTimeoutError        (also a TimeoutError)
    │   └── OutcomeUnknownError
    ├── APIStatusError
    │   ├── BadRequestError, AuthenticationError, PaymentRequiredError, PermissionDeniedError
    │   ├── NotFoundError, ConflictError, GoneError, UnprocessableError, RateLimitError
    │   └── ServerError
    ├── ResponseFormatError
    ├── WaitError
    │   ├── WaitTimeoutError           (also a TimeoutError)
    │   ├── JobFailedError
    │   └── WebhooksRequiredError, NotReadyError
    ├── WebhookError
    └── DownloadError
        └── UnsafeAddressError, IncompleteDownloadError, NotAModelError

Invalid arguments, such as a malformed UUID or a photo that is not a JPEG, are a ``ValueError`` or ``TypeError`` raised
before anything is sent.
"""

from __future__ import annotations

import re
from typing import Any, Self, TypeVar
from uuid import UUID

from .models import ValidationError

__all__ = [
    "APIStatusError",
    "AuthenticationError",
    "AvaturnError",
    "BadRequestError",
    "ClientClosedError",
    "ConfigurationError",
    "ConflictError",
    "ConnectError",
    "DownloadError",
    "GoneError",
    "IncompleteDownloadError",
    "JobFailedError",
    "NotAModelError",
    "NotFoundError",
    "NotReadyError",
    "OutcomeUnknownError",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestTimeoutError",
    "ResponseFormatError",
    "ServerError",
    "TransportError",
    "UnprocessableError",
    "UnsafeAddressError",
    "WaitError",
    "WaitTimeoutError",
    "WebhookError",
    "WebhooksRequiredError",
    "WrongLoopError",
]

_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


class AvaturnError(Exception):
    """Base class of all exceptions of this package.

    Each can be pickled.

    Attributes:
        retryable: whether the same call may succeed later, and is safe to repeat.
        resume_token: of an error that ended a wait, the token with which another process can continue it.
        avatar_id: the avatar concerned, if known.
        upload_url: of a failed photo upload, the url to upload to again.
    """

    retryable: bool = False
    resume_token: str | None = None
    avatar_id: UUID | None = None
    upload_url: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())

    def copy(self) -> Self:
        """Return an equal exception without traceback, cause and context, for another awaiter to raise."""
        return _rebuild(type(self), self.args, self.__dict__.copy())


E = TypeVar("E", bound="AvaturnError")


def _rebuild(kind: type[E], args: tuple[Any, ...], state: dict[str, Any]) -> E:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(AvaturnError):
    """An invalid setting, such as a missing token, an insecure base_url or a resume token of another API."""


class WrongLoopError(AvaturnError):
    """A client was used on another event loop than the one on which it was first used."""


class ClientClosedError(AvaturnError):
    """The client was closed before the call, or during it."""


class TransportError(AvaturnError):
    """No complete response was received.

    Attributes:
        method: HTTP method.
        path: path of the request, without host and query.
    """

    retryable = True

    def __init__(self, message: str, *, method: str = "", path: str = "") -> None:
        super().__init__(message)
        self.method = method
        self.path = path


class ConnectError(TransportError):
    """No connection could be established; nothing was sent."""


class RequestTimeoutError(TransportError, TimeoutError):
    """No complete response was received in time, for a call that is safe to repeat."""


class OutcomeUnknownError(TransportError):
    """The request was sent, but its response was lost or late, and the call is not safe to repeat."""

    retryable = False


class APIStatusError(AvaturnError):
    """A response with an error status.

    Attributes:
        status_code: HTTP status.
        method: HTTP method.
        path: path of the request, without host and query.
        body: body of the response, up to 64 KiB.
        detail: FastAPI's ``detail`` as a sentence, without the queries of urls, if the body has one.
        request_id: the X-Request-Id header of the response, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        method: str = "",
        path: str = "",
        body: bytes = b"",
        detail: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.method = method
        self.path = path
        self.body = body
        self.detail = detail
        self.request_id = request_id


class BadRequestError(APIStatusError):
    """400."""


class AuthenticationError(APIStatusError):
    """401: the token is missing, invalid or revoked."""


class PaymentRequiredError(APIStatusError):
    """402: the account's plan or balance does not cover the call."""


class PermissionDeniedError(APIStatusError):
    """403: the token lacks permission."""


class NotFoundError(APIStatusError):
    """404: no such user, avatar or path."""


class ConflictError(APIStatusError):
    """409: an asset does not fit its slot (contract, set_customization)."""


class GoneError(APIStatusError):
    """410: assets are no longer available (contract, set_customization)."""

    @property
    def asset_ids(self) -> tuple[UUID, ...]:
        """Ids of the assets that the response names, in its order."""
        return tuple(UUID(found) for found in re.findall(_UUID, self.detail or ""))


class UnprocessableError(APIStatusError):
    """422: the request does not have the right shape.

    Attributes:
        errors: findings of the API's validation.
    """

    errors: list[ValidationError]

    def __init__(self, message: str, *, errors: list[ValidationError] | None = None, **response: Any) -> None:
        super().__init__(message, **response)
        self.errors = [] if errors is None else errors


class RateLimitError(APIStatusError):
    """429: too many requests.

    Attributes:
        retry_after: seconds to wait according to the response, or None if it does not say.
    """

    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None, **response: Any) -> None:
        super().__init__(message, **response)
        self.retry_after = retry_after


class ServerError(APIStatusError):
    """5xx: the API failed."""

    retryable = True


class ResponseFormatError(AvaturnError):
    """A successful response that does not follow the contract.

    Attributes:
        where: path to the offending value, such as ``$.assets.clothing.id``.
    """

    def __init__(self, message: str, *, where: str = "$") -> None:
        super().__init__(message)
        self.where = where


class WaitError(AvaturnError):
    """A wait ended without a result."""


class WaitTimeoutError(WaitError, TimeoutError):
    """The deadline of this awaiter passed; the job continues.

    Attributes:
        timeout: seconds that the awaiter waited.
        status: status of the job when it was last seen.
        webhooks: number of webhooks for the job that came during the wait.
        polls: number of polls since the job's creation.
        request_id: X-Request-Id of the last poll's response, or None.
    """

    retryable = True

    def __init__(
        self,
        message: str,
        *,
        timeout: float,
        status: str,
        webhooks: int = 0,
        polls: int = 0,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.timeout = timeout
        self.status = status
        self.webhooks = webhooks
        self.polls = polls
        self.request_id = request_id


class JobFailedError(WaitError):
    """The API reported that the job failed.

    Attributes:
        resolved_by: ``"create"``, ``"webhook"`` or ``"poll"``.
    """

    def __init__(self, message: str, *, resolved_by: str) -> None:
        super().__init__(message)
        self.resolved_by = resolved_by


class WebhooksRequiredError(WaitError):
    """A render was awaited without an authenticated source of webhooks; no endpoint reads a render."""


class NotReadyError(WaitError):
    """The result was requested before the job ended."""

    retryable = True


class WebhookError(AvaturnError):
    """The body of a webhook is not UTF-8 JSON of the right shape."""


class DownloadError(AvaturnError):
    """A file could not be fetched or written.

    Attributes:
        path: target file, if there is one.
    """

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class UnsafeAddressError(DownloadError):
    """A download url leads to an address that is not public."""


class IncompleteDownloadError(DownloadError):
    """The connection ended before the whole file was received, and the download could not be resumed."""

    retryable = True


class NotAModelError(DownloadError):
    """The file is not a GLB 2.0 model of the length that its header declares."""
