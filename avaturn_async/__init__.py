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
    from .batch import (
        BatchOutcome as BatchOutcome,
    )
    from .batch import (
        BatchProgress as BatchProgress,
    )
    from .batch import (
        BatchReport as BatchReport,
    )
    from .batch import (
        ExportBatch as ExportBatch,
    )
    from .client import (
        AvaturnClient as AvaturnClient,
    )
    from .config import (
        PollPolicy as PollPolicy,
    )
    from .config import (
        RateLimit as RateLimit,
    )
    from .config import (
        RetryPolicy as RetryPolicy,
    )
    from .config import (
        Timeouts as Timeouts,
    )
    from .errors import (
        APIStatusError as APIStatusError,
    )
    from .errors import (
        AuthenticationError as AuthenticationError,
    )
    from .errors import (
        AvaturnError as AvaturnError,
    )
    from .errors import (
        BadRequestError as BadRequestError,
    )
    from .errors import (
        ClientClosedError as ClientClosedError,
    )
    from .errors import (
        ConfigurationError as ConfigurationError,
    )
    from .errors import (
        ConflictError as ConflictError,
    )
    from .errors import (
        ConnectError as ConnectError,
    )
    from .errors import (
        DownloadError as DownloadError,
    )
    from .errors import (
        GoneError as GoneError,
    )
    from .errors import (
        IncompleteDownloadError as IncompleteDownloadError,
    )
    from .errors import (
        JobFailedError as JobFailedError,
    )
    from .errors import (
        NotAModelError as NotAModelError,
    )
    from .errors import (
        NotFoundError as NotFoundError,
    )
    from .errors import (
        NotReadyError as NotReadyError,
    )
    from .errors import (
        OutcomeUnknownError as OutcomeUnknownError,
    )
    from .errors import (
        PaymentRequiredError as PaymentRequiredError,
    )
    from .errors import (
        PermissionDeniedError as PermissionDeniedError,
    )
    from .errors import (
        RateLimitError as RateLimitError,
    )
    from .errors import (
        RequestTimeoutError as RequestTimeoutError,
    )
    from .errors import (
        ResponseFormatError as ResponseFormatError,
    )
    from .errors import (
        ServerError as ServerError,
    )
    from .errors import (
        TransportError as TransportError,
    )
    from .errors import (
        UnprocessableError as UnprocessableError,
    )
    from .errors import (
        UnsafeAddressError as UnsafeAddressError,
    )
    from .errors import (
        WaitError as WaitError,
    )
    from .errors import (
        WaitTimeoutError as WaitTimeoutError,
    )
    from .errors import (
        WebhookError as WebhookError,
    )
    from .errors import (
        WebhooksRequiredError as WebhooksRequiredError,
    )
    from .errors import (
        WrongLoopError as WrongLoopError,
    )
    from .jobs import (
        PendingAvatar as PendingAvatar,
    )
    from .jobs import (
        PendingExport as PendingExport,
    )
    from .jobs import (
        PendingRender as PendingRender,
    )
    from .models import (
        AssetSlot as AssetSlot,
    )
    from .models import (
        AssetSlots as AssetSlots,
    )
    from .models import (
        AssetSlotWithColorRGB as AssetSlotWithColorRGB,
    )
    from .models import (
        AssetSlotWithColorRGBA as AssetSlotWithColorRGBA,
    )
    from .models import (
        AvatarBody as AvatarBody,
    )
    from .models import (
        AvatarListItem as AvatarListItem,
    )
    from .models import (
        AvatarReadyWebhook as AvatarReadyWebhook,
    )
    from .models import (
        BoneScale as BoneScale,
    )
    from .models import (
        CreateOrEditExistingSessionConfig as CreateOrEditExistingSessionConfig,
    )
    from .models import (
        CreateSessionConfig as CreateSessionConfig,
    )
    from .models import (
        EditExistingSessionConfig as EditExistingSessionConfig,
    )
    from .models import (
        ErrorBody as ErrorBody,
    )
    from .models import (
        ExportReadyWebhook as ExportReadyWebhook,
    )
    from .models import (
        ExternalAvatarCustomization as ExternalAvatarCustomization,
    )
    from .models import (
        HTTPValidationError as HTTPValidationError,
    )
    from .models import (
        NewAvatarRequest as NewAvatarRequest,
    )
    from .models import (
        NewAvatarResponse as NewAvatarResponse,
    )
    from .models import (
        NewExportResponse as NewExportResponse,
    )
    from .models import (
        NewSessionRequest as NewSessionRequest,
    )
    from .models import (
        NewSessionResponse as NewSessionResponse,
    )
    from .models import (
        NewUserResponse as NewUserResponse,
    )
    from .models import (
        PhotoUpload as PhotoUpload,
    )
    from .models import (
        RenderReadyWebhook as RenderReadyWebhook,
    )
    from .models import (
        RenderResult as RenderResult,
    )
    from .models import (
        RenderStatus as RenderStatus,
    )
    from .models import (
        ScanStatus as ScanStatus,
    )
    from .models import (
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
    )
    from .results import (
        Export as Export,
    )
    from .results import (
        Render as Render,
    )
    from .webhooks import (
        BasicAuth as BasicAuth,
    )
    from .webhooks import (
        Mailbox as Mailbox,
    )
    from .webhooks import (
        MemoryMailbox as MemoryMailbox,
    )
    from .webhooks import (
        PathSecret as PathSecret,
    )
    from .webhooks import (
        Reply as Reply,
    )
    from .webhooks import (
        Unauthenticated as Unauthenticated,
    )
    from .webhooks import (
        UnknownEvent as UnknownEvent,
    )
    from .webhooks import (
        Verifier as Verifier,
    )
    from .webhooks import (
        WebhookReceiver as WebhookReceiver,
    )
    from .webhooks import (
        parse_event as parse_event,
    )
    from .webhooks.redis import RedisMailbox as RedisMailbox

__version__ = "0.1.0"

_HOMES = {
    "batch": (
        "BatchOutcome",
        "BatchProgress",
        "BatchReport",
        "ExportBatch",
    ),
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
# What an extra is needed for stands outside __all__, so that ``import *`` does without the extra.
_HOME_OF = {"RedisMailbox": "webhooks.redis"} | {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted({"__version__", *_HOME_OF} - {"RedisMailbox"})


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
