"""An async-first Python SDK for the Avaturn API: realistic 3D avatars from photos.

::

    async with AvaturnClient(token) as client:
        export = await client.exports.create(avatar_id)
        model = await export.wait()
        await model.download("avatar.glb")

Names are loaded at first use (PEP 562): importing the package loads none of its dependencies.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import (
        AvaturnClient as AvaturnClient,
    )
    from .config import (
        PollPolicy as PollPolicy,
        RateLimit as RateLimit,
        RetryPolicy as RetryPolicy,
        Timeouts as Timeouts,
    )
    from .errors import (
        APIStatusError as APIStatusError,
        AuthenticationError as AuthenticationError,
        AvaturnError as AvaturnError,
        BadRequestError as BadRequestError,
        ClientClosedError as ClientClosedError,
        ConfigurationError as ConfigurationError,
        ConflictError as ConflictError,
        ConnectError as ConnectError,
        DownloadError as DownloadError,
        GoneError as GoneError,
        IncompleteDownloadError as IncompleteDownloadError,
        JobFailedError as JobFailedError,
        NotAModelError as NotAModelError,
        NotFoundError as NotFoundError,
        NotReadyError as NotReadyError,
        OutcomeUnknownError as OutcomeUnknownError,
        PaymentRequiredError as PaymentRequiredError,
        PermissionDeniedError as PermissionDeniedError,
        RateLimitError as RateLimitError,
        RequestTimeoutError as RequestTimeoutError,
        ResponseFormatError as ResponseFormatError,
        ServerError as ServerError,
        TransportError as TransportError,
        UnprocessableError as UnprocessableError,
        UnsafeAddressError as UnsafeAddressError,
        WaitError as WaitError,
        WaitTimeoutError as WaitTimeoutError,
        WebhookError as WebhookError,
        WebhooksRequiredError as WebhooksRequiredError,
        WrongLoopError as WrongLoopError,
    )
    from .jobs import (
        PendingAvatar as PendingAvatar,
        PendingExport as PendingExport,
        PendingRender as PendingRender,
    )
    from .models import (
        AssetSlot as AssetSlot,
        AssetSlotWithColorRGB as AssetSlotWithColorRGB,
        AssetSlotWithColorRGBA as AssetSlotWithColorRGBA,
        AssetSlots as AssetSlots,
        AvatarBody as AvatarBody,
        AvatarListItem as AvatarListItem,
        AvatarReadyWebhook as AvatarReadyWebhook,
        BoneScale as BoneScale,
        CreateOrEditExistingSessionConfig as CreateOrEditExistingSessionConfig,
        CreateSessionConfig as CreateSessionConfig,
        EditExistingSessionConfig as EditExistingSessionConfig,
        ErrorBody as ErrorBody,
        ExportReadyWebhook as ExportReadyWebhook,
        ExternalAvatarCustomization as ExternalAvatarCustomization,
        HTTPValidationError as HTTPValidationError,
        NewAvatarRequest as NewAvatarRequest,
        NewAvatarResponse as NewAvatarResponse,
        NewExportResponse as NewExportResponse,
        NewSessionRequest as NewSessionRequest,
        NewSessionResponse as NewSessionResponse,
        NewUserResponse as NewUserResponse,
        PhotoUpload as PhotoUpload,
        RenderReadyWebhook as RenderReadyWebhook,
        RenderResult as RenderResult,
        RenderStatus as RenderStatus,
        ScanStatus as ScanStatus,
        SessionConfig as SessionConfig,
    )
    from .pending import (
        Pending as Pending,
    )
    from .resources.photos import (
        Photos as Photos,
    )
    from .results import (
        Download as Download,
        Export as Export,
        Render as Render,
    )
    from .webhooks import (
        BasicAuth as BasicAuth,
        Mailbox as Mailbox,
        MemoryMailbox as MemoryMailbox,
        PathSecret as PathSecret,
        Reply as Reply,
        Unauthenticated as Unauthenticated,
        UnknownEvent as UnknownEvent,
        Verifier as Verifier,
        WebhookReceiver as WebhookReceiver,
        parse_event as parse_event,
    )

__version__ = "0.1.0"

_HOMES = {
    "client": ("AvaturnClient",),
    "config": (
        "PollPolicy",
        "RateLimit",
        "RetryPolicy",
        "Timeouts",
    ),
    "errors": (
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
    ),
    "jobs": (
        "PendingAvatar",
        "PendingExport",
        "PendingRender",
    ),
    "models": (
        "AssetSlot",
        "AssetSlotWithColorRGB",
        "AssetSlotWithColorRGBA",
        "AssetSlots",
        "AvatarBody",
        "AvatarListItem",
        "AvatarReadyWebhook",
        "BoneScale",
        "CreateOrEditExistingSessionConfig",
        "CreateSessionConfig",
        "EditExistingSessionConfig",
        "ErrorBody",
        "ExportReadyWebhook",
        "ExternalAvatarCustomization",
        "HTTPValidationError",
        "NewAvatarRequest",
        "NewAvatarResponse",
        "NewExportResponse",
        "NewSessionRequest",
        "NewSessionResponse",
        "NewUserResponse",
        "PhotoUpload",
        "RenderReadyWebhook",
        "RenderResult",
        "RenderStatus",
        "ScanStatus",
        "SessionConfig",
    ),
    "pending": ("Pending",),
    "resources.photos": ("Photos",),
    "results": (
        "Download",
        "Export",
        "Render",
    ),
    "webhooks": (
        "BasicAuth",
        "Mailbox",
        "MemoryMailbox",
        "PathSecret",
        "Reply",
        "Unauthenticated",
        "UnknownEvent",
        "Verifier",
        "WebhookReceiver",
        "parse_event",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(["__version__", *_HOME_OF])  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
