"""Everything that the SDK raises on its own account.

::

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
    ├── WebhookError                   (a webhook that can't be read)
    └── DownloadError
        └── UnsafeAddressError, IncompleteDownloadError, NotAModelError

Arguments that are wrong in themselves (a malformed UUID, a photo that is no JPEG) are a ``ValueError`` or a
``TypeError``, raised before anything is sent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import UUID

if TYPE_CHECKING:
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

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class AvaturnError(Exception):
    """Base of everything that the SDK raises on its own account.

    Attributes:
        resume_token: where the error came out of a wait, what another process needs to go on waiting.
        avatar_id: the avatar in question, where one is known.
        upload_url: where a photo upload failed, the url to upload to again.
    """

    resume_token: str | None = None
    avatar_id: UUID | None = None
    upload_url: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())

    def copy(self) -> Self:
        """Return an equal exception without traceback, cause or context: each awaiter raises one of its own."""
        return _rebuild(type(self), self.args, self.__dict__.copy())


E = TypeVar("E", bound="AvaturnError")


def _rebuild(kind: type[E], args: tuple[Any, ...], state: dict[str, Any]) -> E:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(AvaturnError):
    """A setting that can't work: no token, an insecure base_url, a resume token of another API."""


class WrongLoopError(AvaturnError):
    """A client was used from another event loop than the one that it first ran on."""


class ClientClosedError(AvaturnError):
    """The client was closed before, or while, this was asked of it."""


class TransportError(AvaturnError):
    """No whole answer came back.

    Attributes:
        method: the HTTP method.
        path: the path that was asked for, without host or query.
    """

    def __init__(self, message: str, *, method: str = "", path: str = "") -> None:
        super().__init__(message)
        self.method = method
        self.path = path


class ConnectError(TransportError):
    """No connection could be made, so nothing was sent."""


class RequestTimeoutError(TransportError, TimeoutError):
    """No answer came in time, to a call that is safe to repeat."""


class OutcomeUnknownError(TransportError):
    """The request was sent, its answer was lost or late, and repeating it could do the thing twice."""


class APIStatusError(AvaturnError):
    """An answer with an error status.

    Attributes:
        status_code: the HTTP status.
        method: the HTTP method.
        path: the path that was asked for, without host or query.
        body: the answer's body, cut to 64 KiB.
        detail: FastAPI's ``detail``, as a sentence, where the body has one.
        request_id: the answer's X-Request-Id, or None.
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
    """401: the token is missing, wrong or revoked."""


class PaymentRequiredError(APIStatusError):
    """402: the account's plan or balance does not cover the call."""


class PermissionDeniedError(APIStatusError):
    """403: the token may not do this."""


class NotFoundError(APIStatusError):
    """404: no such user, avatar or path."""


class ConflictError(APIStatusError):
    """409: an asset was put into a slot that it does not fit (contract, set_customization)."""


class GoneError(APIStatusError):
    """410: assets are no longer available (contract, set_customization)."""

    @property
    def asset_ids(self) -> tuple[UUID, ...]:
        """The ids of the assets that the answer named, in its order."""
        return tuple(UUID(found) for found in _UUID.findall(self.detail or ""))


class UnprocessableError(APIStatusError):
    """422: the request does not have the right shape.

    Attributes:
        errors: what was wrong, one entry for each finding.
    """

    errors: list[ValidationError]

    def __init__(self, message: str, *, errors: list[ValidationError] | None = None, **answer: Any) -> None:
        super().__init__(message, **answer)
        self.errors = [] if errors is None else errors


class RateLimitError(APIStatusError):
    """429: too many requests.

    Attributes:
        retry_after: seconds to wait as the answer asked, or None where it did not say.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, **answer: Any) -> None:
        super().__init__(message, **answer)
        self.retry_after = retry_after


class ServerError(APIStatusError):
    """5xx: the API failed."""


class ResponseFormatError(AvaturnError):
    """A successful answer that the contract does not explain.

    Attributes:
        where: the path to the place, such as ``$.assets.clothing.id``.
    """

    def __init__(self, message: str, *, where: str = "$") -> None:
        super().__init__(message)
        self.where = where


class WaitError(AvaturnError):
    """A wait that ended without a result."""


class WaitTimeoutError(WaitError, TimeoutError):
    """The deadline of this awaiter passed; the remote job goes on.

    Attributes:
        timeout: seconds that the awaiter waited.
        status: the job's status when it was last seen.
        webhooks: number of webhooks for the job that came during the wait.
        polls: number of polls since the job's creation.
        request_id: X-Request-Id of the last poll's response, or None.
    """

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
    """The API said that the job failed.

    Attributes:
        resolved_by: ``"create"``, ``"webhook"`` or ``"poll"``.
    """

    def __init__(self, message: str, *, resolved_by: str) -> None:
        super().__init__(message)
        self.resolved_by = resolved_by


class WebhooksRequiredError(WaitError):
    """A render can only be awaited with an authenticated webhook receiver or mailbox: no endpoint reads one."""


class NotReadyError(WaitError):
    """The result was asked for before the end."""


class WebhookError(AvaturnError):
    """A webhook body that is not UTF-8 JSON of the right shape."""


class DownloadError(AvaturnError):
    """A file that could not be fetched or written.

    Attributes:
        path: the target file, where there is one.
    """

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class UnsafeAddressError(DownloadError):
    """A download url that leads to an address that is not public."""


class IncompleteDownloadError(DownloadError):
    """The connection ended before the whole file was there, and could not be resumed."""


class NotAModelError(DownloadError):
    """The bytes are not a GLB 2.0 file of the length that its header declares."""
