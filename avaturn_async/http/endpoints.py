"""The ten endpoints of the contract, each as a function that returns its request."""

from __future__ import annotations

from urllib.parse import quote
from uuid import UUID

import attrs

from ..models import ExternalAvatarCustomization, NewAvatarRequest, NewSessionRequest
from . import codec

__all__ = [
    "ApiRequest",
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
_USER = f"{_ROOT}/users/{{user_id}}"
_CUSTOMIZATION = f"{_ROOT}/avatars/{{avatar_id}}/customization"


@attrs.define(kw_only=True)
class ApiRequest:
    """One request to the API.

    Attributes:
        method: HTTP method, in capitals.
        path: path below the base url, percent-encoded, starting with ``/api/v1/``.
        template: the path with names instead of ids, for observers; by default the path.
        query: query parameters, such as ``a=1&b=2``; none of the contract's need encoding.
        body: encoded JSON.
        repeatable: whether sending it twice has the same effect as sending it once. If not, it is sent again only when
            nothing was sent or the API refused it with 429 or 503.
        attempts: overrides `RetryPolicy.attempts`.
    """

    method: str
    path: str
    template: str | None = None
    query: str = ""
    body: bytes | None = attrs.field(default=None, repr=False)
    repeatable: bool = True
    attempts: int | None = None


_CREATE_USER = ApiRequest(method="POST", path=f"{_ROOT}/users/new", repeatable=False)


def create_user() -> ApiRequest:
    """POST users/new: each call makes a new user."""
    return _CREATE_USER


def delete_user(user_id: str) -> ApiRequest:
    """DELETE users/{id}."""
    return ApiRequest(method="DELETE", path=_user(user_id), template=_USER)


def list_avatars(user_id: str, *, include_not_ready: bool, attempts: int | None = None) -> ApiRequest:
    """GET users/{id}/avatars."""
    query = "include_not_ready=true" if include_not_ready else ""
    path, template = f"{_user(user_id)}/avatars", f"{_USER}/avatars"
    return ApiRequest(method="GET", path=path, template=template, query=query, attempts=attempts)


def delete_avatar(user_id: str, avatar_id: UUID) -> ApiRequest:
    """DELETE users/{id}/avatars/{id}."""
    path, template = f"{_user(user_id)}/avatars/{avatar_id}", f"{_USER}/avatars/{{avatar_id}}"
    return ApiRequest(method="DELETE", path=path, template=template)


def create_session(request: NewSessionRequest) -> ApiRequest:
    """POST sessions/new: each call makes a new link."""
    return ApiRequest(method="POST", path=f"{_ROOT}/sessions/new", body=codec.dumps(request), repeatable=False)


def create_avatar(request: NewAvatarRequest) -> ApiRequest:
    """POST avatars/new: each call makes a new provisional avatar."""
    return ApiRequest(method="POST", path=f"{_ROOT}/avatars/new", body=codec.dumps(request), repeatable=False)


def get_customization(avatar_id: UUID, *, attempts: int | None = None) -> ApiRequest:
    """GET avatars/{id}/customization."""
    path = f"{_ROOT}/avatars/{avatar_id}/customization"
    return ApiRequest(method="GET", path=path, template=_CUSTOMIZATION, attempts=attempts)


def set_customization(
    avatar_id: UUID, customization: ExternalAvatarCustomization, *, attempts: int | None = None
) -> ApiRequest:
    """PUT avatars/{id}/customization."""
    path = f"{_ROOT}/avatars/{avatar_id}/customization"
    body = codec.dumps(customization)
    return ApiRequest(method="PUT", path=path, template=_CUSTOMIZATION, body=body, attempts=attempts)


def create_render(avatar_id: UUID, scene: str, image_format: str) -> ApiRequest:
    """POST renders/new: each call starts a new task (contract)."""
    query = f"avatar_id={avatar_id}&scene={scene}&format={image_format}"
    return ApiRequest(method="POST", path=f"{_ROOT}/renders/new", query=query, repeatable=False)


def create_export(avatar_id: UUID, *, attempts: int | None = None) -> ApiRequest:
    """POST exports/new: idempotent for one version of an avatar (contract), so it is safe to repeat."""
    query = f"avatar_id={avatar_id}"
    return ApiRequest(method="POST", path=f"{_ROOT}/exports/new", query=query, attempts=attempts)


def _user(user_id: str) -> str:
    if not isinstance(user_id, str):
        raise TypeError(f"user_id must be a str, not {type(user_id).__name__}")
    if user_id in ("", ".", ".."):
        raise ValueError(f"user_id must be an id as users.create() returned it, not {user_id!r}")
    return f"{_ROOT}/users/{quote(user_id, safe='')}"
