"""The usual form of the usual events, read without going through each field's converter and validator.

What comes for exports and renders is, as a rule, an object of just the fields that the contract names, all of them
strings. It is checked here in one go, in half of the time. Whatever is not of that form is left to the strict parser
and the codec, which also say what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from uuid import UUID, SafeUUID

from ..models import ExportReadyWebhook, RenderReadyWebhook, RenderStatus

try:
    import orjson
except ImportError:  # pragma: no cover - the extra `speedups` is installed wherever the tests run
    orjson = None  # type: ignore[assignment]

__all__ = ["quick_event"]

_Quick: TypeAlias = Callable[[Mapping[str, Any], bytes], ExportReadyWebhook | RenderReadyWebhook | None]

_STATUSES = {status.value: status for status in RenderStatus}
_is_uuid = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch

_new = object.__new__
_UNKNOWN = SafeUUID.unknown


def _setters(kind: type[Any], names: str) -> tuple[Callable[[Any, Any], None], ...]:
    """Return what sets each slot of a frozen class, as its __init__ does; a setter takes no look at the name."""
    return tuple(getattr(kind, name).__set__ for name in names.split())


_set_int, _set_is_safe = _setters(UUID, "int is_safe")


def quick_event(body: bytes | str) -> ExportReadyWebhook | RenderReadyWebhook | None:
    """Return the event that a body is, or None where that takes a closer look."""
    if orjson is None or type(body) is not bytes or b"\\" in body:
        return None
    try:
        plain = orjson.loads(body)
        return _KINDS[plain["event"]](plain, body)
    except (ValueError, TypeError, KeyError):  # not JSON, of another shape, or of a kind that has no quick way
        return None


_export_avatar_id, _export_user_id, _export_status, _export_url, _export_event, _export_extra = _setters(
    ExportReadyWebhook, "avatar_id user_id status export_url event extra"
)


def _export(plain: Mapping[str, Any], body: bytes) -> ExportReadyWebhook | None:
    avatar_id, user_id, url = plain["avatar_id"], plain["user_id"], plain["export_url"]
    status = _STATUSES[plain["status"]]
    if len(plain) != 5 or type(user_id) is not str or not _is_uuid(avatar_id) or not _is_url(url, body, 20):
        return None
    event = _new(ExportReadyWebhook)
    _export_avatar_id(event, _uuid(avatar_id))
    _export_user_id(event, user_id)
    _export_status(event, status)
    _export_url(event, url)
    _export_event(event, "export.ready")
    _export_extra(event, {})
    return event


_render_id, _render_avatar_id, _render_user_id, _render_status, _render_url, _render_event, _render_extra = _setters(
    RenderReadyWebhook, "id avatar_id user_id status render_url event extra"
)


def _render(plain: Mapping[str, Any], body: bytes) -> RenderReadyWebhook | None:
    render_id, avatar_id, user_id, url = plain["id"], plain["avatar_id"], plain["user_id"], plain["render_url"]
    status = _STATUSES[plain["status"]]
    if len(plain) != 6 or type(user_id) is not str or not (_is_uuid(avatar_id) and _is_uuid(render_id)):
        return None
    if not _is_url(url, body, 24):
        return None
    event = _new(RenderReadyWebhook)
    _render_id(event, _uuid(render_id))
    _render_avatar_id(event, _uuid(avatar_id))
    _render_user_id(event, user_id)
    _render_status(event, status)
    _render_url(event, url)
    _render_event(event, "render.ready")
    _render_extra(event, {})
    return event


def _is_url(url: object, body: bytes, quotes: int) -> bool:
    """Check a url, and that no key comes twice: that would leave more quotes in the body than there are strings."""
    if type(url) is str:
        return body.count(b'"') == quotes
    return url is None and body.count(b'"') == quotes - 2


def _uuid(text: str) -> UUID:
    """Make a UUID of what is known to be one: half of the constructor's time goes into other forms it might have."""
    made = _new(UUID)
    _set_int(made, int(text.replace("-", ""), 16))
    _set_is_safe(made, _UNKNOWN)
    return made


_KINDS: dict[object, _Quick] = {"export.ready": _export, "render.ready": _render}
