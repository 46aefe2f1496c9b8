"""The events of the contract, parsed from the bodies of webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import attrs

from ..errors import WebhookError
from ..http import codec
from ..models import AvatarReadyWebhook, ExportReadyWebhook, RenderReadyWebhook, as_uuid
from ..redact import mask_links

__all__ = ["EVENT_TYPES", "Event", "UnknownEvent", "key_of", "keys_of", "parse_event"]

Event: TypeAlias = AvatarReadyWebhook | RenderReadyWebhook | ExportReadyWebhook

EVENT_TYPES: Mapping[str, type[Event]] = {
    "avatar.ready": AvatarReadyWebhook,
    "render.ready": RenderReadyWebhook,
    "export.ready": ExportReadyWebhook,
}


@attrs.frozen
class UnknownEvent:
    """A webhook whose event name is not in the contract.

    Attributes:
        name: the value of its ``event`` field.
        body: the whole JSON object. Links in it are `str` with a `repr` that leaves out their query.
    """

    name: str
    body: Mapping[str, Any] = attrs.field(hash=False, converter=mask_links)


def parse_event(body: bytes | str) -> Event | UnknownEvent:
    """Parse the body of a webhook.

    Raises:
        WebhookError: the body is not UTF-8 JSON of the right shape. The message names the field and quotes no value.
    """
    try:
        return _structure(codec.parse_json(body))
    except ValueError as error:
        problem = str(error)
    del body
    raise WebhookError(f"the webhook can't be read: {problem}")  # here, where no local holds any of the content


def _structure(value: Any) -> Event | UnknownEvent:
    if not isinstance(value, dict):
        raise ValueError("$: expected an object")
    name = value.get("event")
    if not isinstance(name, str):
        raise ValueError("$.event: expected a string")
    kind = EVENT_TYPES.get(name)
    if kind is None:
        return UnknownEvent(name, value)
    return codec.structure(value, kind)


def key_of(event: Event) -> str:
    """Return the mailbox key of an event: ``export:{avatar_id}``, ``avatar:{avatar_id}`` or ``render:{id}``."""
    kind = event.event.removesuffix(".ready")
    return f"{kind}:{event.id if isinstance(event, RenderReadyWebhook) else event.avatar_id}"


def keys_of(event: Event) -> list[str]:
    """Return the key of an event and, if it is of an avatar and names a session, ``session:{session_id}``."""
    keys = [key_of(event)]
    if isinstance(event, AvatarReadyWebhook) and event.session_id is not None:
        with suppress(ValueError):
            keys.append(f"session:{as_uuid(event.session_id, 'session_id')}")
    return keys
