"""Resume tokens: JSON with what another process needs to continue a wait. They never contain the API token."""

from __future__ import annotations

import json
from typing import Any

from ..errors import ConfigurationError

__all__ = ["read_token", "write_token"]

#: Tokens are stored for long, so every release reads the versions of all earlier ones.
_VERSION = 1
#: The year 9999, in seconds since the epoch.
_LATEST = 253_402_300_800
#: Fields that are strings if present.
_STRINGS = ("avatar_id", "id", "position", "session_id", "user_id")


def write_token(kind: str, base_url: str, created_at: float, fields: dict[str, Any]) -> str:
    """Return the token of a job; `created_at` is the time of its creation in seconds since the epoch."""
    present = {name: value for name, value in fields.items() if value is not None}
    token = {"v": _VERSION, "kind": kind, "base_url": base_url, "created": round(created_at, 3), **present}
    return json.dumps(token, separators=(",", ":"))


def read_token(token: str, *, kind: str, base_url: str) -> dict[str, Any]:
    """Return the fields of a token for a job of that `kind` at `base_url`.

    Raises:
        ValueError: it is not a resume token, or one of another kind or of a later release.
        ConfigurationError: it was made by a client with another base_url.
    """
    try:
        fields = json.loads(token)
    except (ValueError, TypeError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise ValueError("a resume token is the JSON text that .resume_token returned, unchanged")
    created = fields.get("created")
    if isinstance(created, bool) or not isinstance(created, int | float) or not 0 <= created < _LATEST:
        raise ValueError("this resume token does not say when its job was created")
    for name in _STRINGS:
        if not isinstance(fields.get(name, ""), str):
            raise ValueError(f"the {name} in this resume token is not a string")
    if fields.get("v") != _VERSION:
        raise ValueError(
            f"this resume token has version {fields.get('v')!r:.20}, but this release reads up to {_VERSION}"
        )
    if fields.get("kind") != kind:
        raise ValueError(f"this resume token is for the kind {fields.get('kind')!r:.20}, not {kind!r}")
    if fields.get("base_url") != base_url:
        raise ConfigurationError(
            f"this resume token belongs to {fields.get('base_url')!r:.200}, but the client's base_url is {base_url!r}"
        )
    return fields
