"""The three events that Avaturn tells, parsed from bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from ..errors import WebhookError
from ..http import codec
from ..models import AvatarReadyWebhook, ExportReadyWebhook, RenderReadyWebhook
from .quick_events import quick_event
from .strict_json import parse_strict

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Event", "UnknownEvent", "key_of", "parse_event"]

Event: TypeAlias = AvatarReadyWebhook | RenderReadyWebhook | ExportReadyWebhook

_KINDS: dict[str, type[Event]] = {
    "avatar.ready": AvatarReadyWebhook,
    "render.ready": RenderReadyWebhook,
    "export.ready": ExportReadyWebhook,
}


@attrs.frozen
class UnknownEvent:
    """A JSON object with an event name that this release does not know.

    Attributes:
        name: what its ``event`` says.
        body: all of it.
    """

    name: str
    body: Mapping[str, Any] = attrs.field(hash=False)


def parse_event(body: bytes | str) -> Event | UnknownEvent:
    """Parse the body of a webhook; whatever it is, this returns an event or raises WebhookError.

    Raises:
        WebhookError: it is not UTF-8 JSON of the right shape; the message says where.
    """
    event = quick_event(body)
    if event is not None:
        return event
    try:
        return _event_of(parse_strict(body))
    except (ValueError, RecursionError) as error:
        problem = str(error)
    raise WebhookError(f"the webhook can't be read: {problem}")


def _event_of(value: Any) -> Event | UnknownEvent:
    if not isinstance(value, dict):
        raise ValueError("$: expected an object")
    name = value.get("event")
    if not isinstance(name, str):
        raise ValueError("$.event: expected a string")
    kind = _KINDS.get(name)
    return UnknownEvent(name, value) if kind is None else codec.structure(value, kind)


def key_of(event: Event) -> str:
    """Return the mailbox key of an event: ``export:{avatar_id}``, ``avatar:{avatar_id}`` or ``render:{id}``."""
    if isinstance(event, RenderReadyWebhook):
        return f"render:{event.id}"
    kind = "export" if isinstance(event, ExportReadyWebhook) else "avatar"
    return f"{kind}:{event.avatar_id}"
