"""The usual form of the usual events, made without going through each field's converter and validator.

What comes for exports and renders is, as a rule, an object of just the fields that the contract names. It is checked here
in one go, in a third of the time. Whatever is not of that form is left to the codec, which also says what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from uuid import UUID

from ..models import ExportReadyWebhook, RenderReadyWebhook, RenderStatus

__all__ = ["quick_event"]

_Quick: TypeAlias = Callable[[Mapping[str, Any]], "ExportReadyWebhook | RenderReadyWebhook | None"]

_EXPORT = {"event", "avatar_id", "user_id", "status", "export_url"}
_RENDER = {"event", "id", "avatar_id", "user_id", "status", "render_url"}
_STATUSES = {status.value: status for status in RenderStatus}
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch

_new, _set = object.__new__, object.__setattr__  # as the __init__ of a frozen class of attrs has it


def quick_event(plain: Mapping[str, str | bool | None]) -> ExportReadyWebhook | RenderReadyWebhook | None:
    """Return the event that a JSON object of plain values is; None where that takes a closer look."""
    quick = _KINDS.get(plain.get("event"))
    return None if quick is None else quick(plain)


def _export(plain: Mapping[str, Any]) -> ExportReadyWebhook | None:
    if plain.keys() != _EXPORT:
        return None
    status, url = _STATUSES.get(plain["status"]), plain["export_url"]
    if status is None or not _are_texts(plain["avatar_id"], plain["user_id"], url) or not _UUID(plain["avatar_id"]):
        return None
    event = _new(ExportReadyWebhook)
    _set(event, "avatar_id", UUID(plain["avatar_id"]))
    _set(event, "user_id", plain["user_id"])
    _set(event, "status", status)
    _set(event, "export_url", url)
    _set(event, "event", "export.ready")
    _set(event, "extra", {})
    return event


def _render(plain: Mapping[str, Any]) -> RenderReadyWebhook | None:
    if plain.keys() != _RENDER or type(plain["id"]) is not str:
        return None
    status, url = _STATUSES.get(plain["status"]), plain["render_url"]
    if status is None or not _are_texts(plain["avatar_id"], plain["user_id"], url):
        return None
    if not _UUID(plain["avatar_id"]) or not _UUID(plain["id"]):
        return None
    event = _new(RenderReadyWebhook)
    _set(event, "id", UUID(plain["id"]))
    _set(event, "avatar_id", UUID(plain["avatar_id"]))
    _set(event, "user_id", plain["user_id"])
    _set(event, "status", status)
    _set(event, "render_url", url)
    _set(event, "event", "render.ready")
    _set(event, "extra", {})
    return event


def _are_texts(avatar_id: object, user_id: object, url: object) -> bool:
    return type(avatar_id) is str and type(user_id) is str and (type(url) is str or url is None)


_KINDS: dict[object, _Quick] = {"export.ready": _export, "render.ready": _render}
