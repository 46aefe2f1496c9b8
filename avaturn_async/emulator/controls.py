"""What can be changed while the emulator runs."""

from typing import Any
from urllib.parse import urlsplit

import attrs

from .faults import Faults
from .timing import Timing

__all__ = ["Controls"]


@attrs.define(kw_only=True)
class Controls:
    """The settings that every part looks up when it needs them; assigning checks them."""

    timing: Timing = attrs.field(validator=attrs.validators.instance_of(Timing))
    faults: Faults = attrs.field(validator=attrs.validators.instance_of(Faults))
    # A path secret may be in it.
    webhook_url: str | None = attrs.field(repr=False)

    @webhook_url.validator
    def _absolute(self, attribute: "attrs.Attribute[str | None]", value: Any) -> None:
        if value is None:
            return
        if not isinstance(value, str):
            raise TypeError(f"webhook_url must be a str or None, not a {type(value).__name__}")
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("webhook_url must be an absolute http or https url")
