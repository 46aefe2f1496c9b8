"""Resume tokens: what another process needs to go on waiting for a job. They never hold the API token."""

from __future__ import annotations

import json
from typing import Any

from ..errors import ConfigurationError

__all__ = ["read_token", "write_token"]

_VERSION = 1
#: The year 9999, in seconds since the epoch.
_LATEST = 253_402_300_800
#: Fields that are text where they are there.
_TEXTS = ("avatar_id", "id", "position", "user_id")


def write_token(kind: str, base_url: str, created_at: float, fields: dict[str, Any]) -> str:
    """Return the token, as JSON; `created_at` is in seconds since the epoch."""
    kept = {name: value for name, value in fields.items() if value is not None}
    token = {"v": _VERSION, "kind": kind, "base_url": base_url, "created": round(created_at, 3), **kept}
    return json.dumps(token, separators=(",", ":"))


def read_token(token: str, *, kind: str, base_url: str) -> dict[str, Any]:
    """Return the fields of `token`, made for `kind` at `base_url`.

    Raises:
        ValueError: it is no token, or one of another kind or version.
        ConfigurationError: it was made by a client of another base_url.
    """
    fields = _parse(token)
    if fields.get("v") != _VERSION:
        raise ValueError(f"this resume token is of version {fields.get('v')!r:.20}; this release reads {_VERSION}")
    if fields.get("kind") != kind:
        raise ValueError(f"this resume token is of the kind {fields.get('kind')!r:.20}, not {kind!r}")
    if fields.get("base_url") != base_url:
        raise ConfigurationError(
            f"this resume token belongs to {fields.get('base_url')!r:.200}, but the client's base_url is {base_url!r}"
        )
    return fields


def _parse(token: str) -> dict[str, Any]:
    try:
        fields = json.loads(token)
    except (ValueError, TypeError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise ValueError("a resume token is the JSON text that .resume_token gave, unchanged")
    created = fields.get("created")
    if isinstance(created, bool) or not isinstance(created, int | float) or not 0 <= created < _LATEST:
        raise ValueError("this resume token does not say when its job was created")
    for name in _TEXTS:
        if not isinstance(fields.get(name, ""), str):
            raise ValueError(f"this resume token's {name} is not text")
    return fields
