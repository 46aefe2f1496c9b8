"""How long things take on the emulator."""

import math
from typing import Any

import attrs

__all__ = ["Timing", "seconds"]


def seconds(instance: Any, attribute: "attrs.Attribute[float]", value: Any) -> None:
    """Refuse what is no finite number of seconds, zero or more."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{attribute.name} must be a number of seconds, not {value!r}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{attribute.name} must be finite and not negative, not {value!r}")


@attrs.frozen(kw_only=True)
class Timing:
    """Durations in seconds. Raise `TypeError` or `ValueError`, naming the field, for what can't be one.

    A new `Timing` given to a running emulator holds for what starts after it.
    """

    scan: float = attrs.field(default=0.2, validator=seconds)
    """From the last photo, or the end of the editor's session, to the avatar."""

    export: float = attrs.field(default=0.5, validator=seconds)
    """From the first `POST exports/new` of a version to its model."""

    render: float = attrs.field(default=0.3, validator=seconds)
    """From `POST renders/new` to its image."""

    upload: float = attrs.field(default=0.0, validator=seconds)
    """From the last byte of the photos to the answer."""

    url_ttl: float = attrs.field(default=900.0, validator=seconds)
    """The life of a download's url; with 0 urls are dead when they are given out."""

    jitter: float = attrs.field(default=0.0, validator=seconds)
    """Up to this much more, drawn anew for each scan, export and render."""
