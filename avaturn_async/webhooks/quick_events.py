"""The usual form of the usual events, read without going through each field's converter and validator.

What comes for exports and renders is, as a rule, an object of just the fields that the contract names, all of them
strings. It is checked here in one go, in half of the time. Whatever is not of that form is left to the strict parser
and the codec, which also say what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from uuid import UUID

from ..models import ExportReadyWebhook, RenderReadyWebhook, RenderStatus

try:
    import orjson
except ImportError:  # pragma: no cover - the extra `speedups` is installed wherever the tests run
    orjson = None  # type: ignore[assignment]

__all__ = ["quick_event"]

_Quick: TypeAlias = Callable[[Mapping[str, Any]], ExportReadyWebhook | RenderReadyWebhook | None]

_EXPORT = {"event", "avatar_id", "user_id", "status", "export_url"}
_RENDER = {"event", "id", "avatar_id", "user_id", "status", "render_url"}
_STATUSES = {status.value: status for status in RenderStatus}
_is_uuid = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch

_new, _set = object.__new__, object.__setattr__  # as the __init__ of a frozen class of attrs has it


def quick_event(body: bytes | str) -> ExportReadyWebhook | RenderReadyWebhook | None:
    """Return the event that a body is, or None where that takes a closer look."""
    if orjson is None or type(body) is not bytes or b"\\" in body:
        return None
    try:
        plain = orjson.loads(body)
        event = _KINDS[plain["event"]](plain)
    except (ValueError, TypeError, KeyError):  # not JSON, of another shape, or of a kind that has no quick way
        return None
    # A key that comes twice leaves more quotes in the body than the object of strings has that was read from it.
    return event if body.count(b'"') == 4 * len(plain) - 2 * (None in plain.values()) else None


def _export(plain: Mapping[str, Any]) -> ExportReadyWebhook | None:
    if plain.keys() != _EXPORT:
        return None
    avatar_id, user_id, url = plain["avatar_id"], plain["user_id"], plain["export_url"]
    status = _STATUSES.get(plain["status"])
    if status is None or not _are_right(avatar_id, user_id, url):
        return None
    event = _new(ExportReadyWebhook)
    _set(event, "avatar_id", UUID(avatar_id))
    _set(event, "user_id", user_id)
    _set(event, "status", status)
    _set(event, "export_url", url)
    _set(event, "event", "export.ready")
    _set(event, "extra", {})
    return event


def _render(plain: Mapping[str, Any]) -> RenderReadyWebhook | None:
    if plain.keys() != _RENDER:
        return None
    render_id, avatar_id, user_id, url = plain["id"], plain["avatar_id"], plain["user_id"], plain["render_url"]
    status = _STATUSES.get(plain["status"])
    if status is None or not _are_right(avatar_id, user_id, url) or not _are_right(render_id, user_id, url):
        return None
    event = _new(RenderReadyWebhook)
    _set(event, "id", UUID(render_id))
    _set(event, "avatar_id", UUID(avatar_id))
    _set(event, "user_id", user_id)
    _set(event, "status", status)
    _set(event, "render_url", url)
    _set(event, "event", "render.ready")
    _set(event, "extra", {})
    return event


def _are_right(some_id: object, user_id: object, url: object) -> bool:
    if type(some_id) is not str or type(user_id) is not str:
        return False
    return (type(url) is str or url is None) and _is_uuid(some_id) is not None


_KINDS: dict[object, _Quick] = {"export.ready": _export, "render.ready": _render}
