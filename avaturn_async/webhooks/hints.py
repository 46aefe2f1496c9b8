"""What is kept of events that were not authenticated: mere hints, of which anyone can send any number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from .events import Event

__all__ = ["bare"]

#: Characters of a hint's field that are kept, or none of them.
_LONG = 128


def bare(event: Event) -> Event:
    """Return `event` without a forger's ballast: of a hint nobody reads more than that it came."""
    fields: dict[str, Any] = attrs.asdict(event, recurse=False)
    long = {name: "" for name, value in fields.items() if isinstance(value, str) and len(value) > _LONG}
    return type(event)(**fields | long | {"extra": {}})
