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

from ._version import __version__

if TYPE_CHECKING:
    from .batch.export_batch import ExportBatch
    from .batch.items import BatchOutcome, BatchProgress, BatchReport
    from .client import AvaturnClient
    from .config import CLIENT_DEFAULT, ClientDefault, PollPolicy, RateLimit, RetryPolicy, Timeouts
    from .downloads.downloader import Download
    from .downloads.sinks import ObjectStoreSink, Saved, Sink
    from .errors import (
        APIStatusError,
        AuthenticationError,
        AvaturnError,
        BadRequestError,
        ClientClosedError,
        ConfigurationError,
        ConflictError,
        ConnectError,
        DownloadError,
        GoneError,
        IncompleteDownloadError,
        JobFailedError,
        NotAModelError,
        NotFoundError,
        NotReadyError,
        OutcomeUnknownError,
        PaymentRequiredError,
        PermissionDeniedError,
        RateLimitError,
        RequestTimeoutError,
        ResponseFormatError,
        ServerError,
        TransportError,
        UnprocessableError,
        UnsafeAddressError,
        WaitError,
        WaitTimeoutError,
        WebhookError,
        WebhooksRequiredError,
        WrongLoopError,
    )
    from .models import (
        AssetSlot,
        AssetSlots,
        AssetSlotWithColorRGB,
        AssetSlotWithColorRGBA,
        AvatarBody,
        AvatarListItem,
        AvatarReadyWebhook,
        BoneScale,
        CreateOrEditExistingSessionConfig,
        CreateSessionConfig,
        EditExistingSessionConfig,
        ExportReadyWebhook,
        ExternalAvatarCustomization,
        NewAvatarResponse,
        NewSessionResponse,
        NewUserResponse,
        RenderReadyWebhook,
        RenderStatus,
        ScanStatus,
        SessionConfig,
    )
    from .observe.observer import Observer
    from .observe.otel import OtelObserver
    from .pending.base import Pending
    from .pending.jobs import PendingAvatar, PendingExport, PendingRender, PendingSession
    from .pending.results import Export, Render
    from .resources.photos import Photos
    from .webhooks.events import Event, UnknownEvent, parse_event
    from .webhooks.mailbox import Delivery, Mailbox, MemoryMailbox
    from .webhooks.postgres import PostgresMailbox
    from .webhooks.receiver import WebhookReceiver
    from .webhooks.redis import RedisMailbox
    from .webhooks.replies import Reply
    from .webhooks.verification import BasicAuth, PathSecret, Unauthenticated, Verifier

# fmt: off
__all__ = [
    "CLIENT_DEFAULT", "APIStatusError", "AssetSlot", "AssetSlotWithColorRGB", "AssetSlotWithColorRGBA", "AssetSlots",
    "AuthenticationError", "AvatarBody", "AvatarListItem", "AvatarReadyWebhook", "AvaturnClient", "AvaturnError",
    "BadRequestError", "BasicAuth", "BatchOutcome", "BatchProgress", "BatchReport", "BoneScale", "ClientClosedError",
    "ClientDefault", "ConfigurationError", "ConflictError", "ConnectError", "CreateOrEditExistingSessionConfig",
    "CreateSessionConfig", "Delivery", "Download", "DownloadError", "EditExistingSessionConfig", "Event", "Export",
    "ExportBatch", "ExportReadyWebhook", "ExternalAvatarCustomization", "GoneError", "IncompleteDownloadError",
    "JobFailedError", "Mailbox", "MemoryMailbox", "NewAvatarResponse", "NewSessionResponse", "NewUserResponse",
    "NotAModelError", "NotFoundError", "NotReadyError", "ObjectStoreSink", "Observer", "OtelObserver",
    "OutcomeUnknownError", "PathSecret", "PaymentRequiredError", "Pending", "PendingAvatar", "PendingExport",
    "PendingRender", "PendingSession", "PermissionDeniedError", "Photos", "PollPolicy", "PostgresMailbox", "RateLimit",
    "RateLimitError", "RedisMailbox", "Render", "RenderReadyWebhook", "RenderStatus", "Reply", "RequestTimeoutError",
    "ResponseFormatError", "RetryPolicy", "Saved", "ScanStatus", "ServerError", "SessionConfig", "Sink", "Timeouts",
    "TransportError", "Unauthenticated", "UnknownEvent", "UnprocessableError", "UnsafeAddressError", "Verifier",
    "WaitError", "WaitTimeoutError", "WebhookError", "WebhookReceiver", "WebhooksRequiredError", "WrongLoopError",
    "__version__", "parse_event",
]
# fmt: on

_HOMES = {
    "batch.export_batch": "ExportBatch",
    "batch.items": "BatchOutcome BatchProgress BatchReport",
    "client": "AvaturnClient",
    "config": "CLIENT_DEFAULT ClientDefault PollPolicy RateLimit RetryPolicy Timeouts",
    "downloads.downloader": "Download",
    "downloads.sinks": "ObjectStoreSink Saved Sink",
    "errors": (
        "APIStatusError AuthenticationError AvaturnError BadRequestError ClientClosedError ConfigurationError "
        "ConflictError ConnectError DownloadError GoneError IncompleteDownloadError JobFailedError "
        "NotAModelError NotFoundError NotReadyError OutcomeUnknownError PaymentRequiredError "
        "PermissionDeniedError RateLimitError RequestTimeoutError ResponseFormatError ServerError "
        "TransportError UnprocessableError UnsafeAddressError WaitError WaitTimeoutError WebhookError "
        "WebhooksRequiredError WrongLoopError"
    ),
    "models": (
        "AssetSlot AssetSlotWithColorRGB AssetSlotWithColorRGBA AssetSlots AvatarBody AvatarListItem "
        "AvatarReadyWebhook BoneScale CreateOrEditExistingSessionConfig CreateSessionConfig "
        "EditExistingSessionConfig ExportReadyWebhook ExternalAvatarCustomization NewAvatarResponse "
        "NewSessionResponse NewUserResponse RenderReadyWebhook RenderStatus ScanStatus SessionConfig"
    ),
    "observe.observer": "Observer",
    "observe.otel": "OtelObserver",
    "pending.base": "Pending",
    "pending.jobs": "PendingAvatar PendingExport PendingRender PendingSession",
    "pending.results": "Export Render",
    "resources.photos": "Photos",
    "webhooks.events": "Event UnknownEvent parse_event",
    "webhooks.mailbox": "Delivery Mailbox MemoryMailbox",
    "webhooks.postgres": "PostgresMailbox",
    "webhooks.receiver": "WebhookReceiver",
    "webhooks.redis": "RedisMailbox",
    "webhooks.replies": "Reply",
    "webhooks.verification": "BasicAuth PathSecret Unauthenticated Verifier",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
