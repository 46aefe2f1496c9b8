"""The ten calls of the contract, as requests: method, path, query and body, and whether they are safe to repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from . import codec
from .transport import Call

if TYPE_CHECKING:
    from uuid import UUID

    from ..models import ExternalAvatarCustomization, NewAvatarRequest, NewSessionRequest

__all__ = [
    "create_avatar",
    "create_export",
    "create_render",
    "create_session",
    "create_user",
    "delete_avatar",
    "delete_user",
    "get_customization",
    "list_avatars",
    "set_customization",
]

_ROOT = "/api/v1"
_CREATE_USER = Call(method="POST", path=f"{_ROOT}/users/new", repeatable=False)


def create_user() -> Call:
    """POST users/new: each call makes a new user."""
    return _CREATE_USER


def delete_user(user_id: str) -> Call:
    """DELETE users/{id}."""
    return Call(method="DELETE", path=_user(user_id))


def list_avatars(user_id: str, *, include_not_ready: bool, attempts: int | None = None) -> Call:
    """GET users/{id}/avatars."""
    query = {"include_not_ready": "true"} if include_not_ready else {}
    return Call(method="GET", path=f"{_user(user_id)}/avatars", query=query, attempts=attempts)


def delete_avatar(user_id: str, avatar_id: UUID) -> Call:
    """DELETE users/{id}/avatars/{id}."""
    return Call(method="DELETE", path=f"{_user(user_id)}/avatars/{avatar_id}")


def create_session(request: NewSessionRequest) -> Call:
    """POST sessions/new: each call makes a new link."""
    return Call(method="POST", path=f"{_ROOT}/sessions/new", body=codec.dumps(request), repeatable=False)


def create_avatar(request: NewAvatarRequest) -> Call:
    """POST avatars/new: each call makes a new provisional avatar."""
    return Call(method="POST", path=f"{_ROOT}/avatars/new", body=codec.dumps(request), repeatable=False)


def get_customization(avatar_id: UUID) -> Call:
    """GET avatars/{id}/customization."""
    return Call(method="GET", path=f"{_ROOT}/avatars/{avatar_id}/customization")


def set_customization(avatar_id: UUID, customization: ExternalAvatarCustomization) -> Call:
    """PUT avatars/{id}/customization."""
    path = f"{_ROOT}/avatars/{avatar_id}/customization"
    return Call(method="PUT", path=path, body=codec.dumps(customization))


def create_render(avatar_id: UUID, scene: str, image_format: str) -> Call:
    """POST renders/new: each call starts a new task (contract)."""
    query = {"avatar_id": str(avatar_id), "scene": scene, "format": image_format}
    return Call(method="POST", path=f"{_ROOT}/renders/new", query=query, repeatable=False)


def create_export(avatar_id: UUID, *, attempts: int | None = None) -> Call:
    """POST exports/new: idempotent for one version of an avatar (contract), so it is safe to repeat."""
    return Call(method="POST", path=f"{_ROOT}/exports/new", query={"avatar_id": str(avatar_id)}, attempts=attempts)


def _user(user_id: str) -> str:
    if not isinstance(user_id, str):
        raise TypeError(f"user_id must be a str, not {type(user_id).__name__}")
    if user_id in ("", ".", ".."):
        raise ValueError(f"user_id must be an id as users.create() returned it, not {user_id!r}")
    return f"{_ROOT}/users/{quote(user_id, safe='')}"
