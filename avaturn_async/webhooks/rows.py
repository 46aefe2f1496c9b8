"""What the mailbox in memory keeps of an event: a plain tuple, of strings and numbers where the event allows it.

Python's garbage collector goes through the objects of a process again and again, but lets go of tuples with nothing in
them that it looks after. Thousands of events that are kept as objects cost each webhook a tenth of its time that way;
kept as plain rows they cost next to none, and are made anew for those few who ask for one later.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

from ..models import ExportReadyWebhook, RenderReadyWebhook

if TYPE_CHECKING:
    from .events import Event

__all__ = [
    "AUTHENTICATED",
    "EXPIRES",
    "ONLY",
    "PLACE",
    "RENDERS_END",
    "SERIAL",
    "Place",
    "Row",
    "event_in",
    "make_row",
    "place_of",
    "place_under",
]

#: What a row stands under: the bytes of a key's UUID and a letter for its kind, since to write a key costs more than
#: all else that a delivery does. Bytes and no number: whose hash, unlike theirs, anybody can make collide. A key of a
#: form that no event has stands for itself.
Place: TypeAlias = bytes | str

#: Place, time of expiry, serial number, whether the event was authenticated, whether it was the only one; then the
#: event, or a usual export's user, status and url.
Row: TypeAlias = tuple[Any, ...]

PLACE, EXPIRES, SERIAL, AUTHENTICATED, ONLY = range(5)
_WHOLE = 6

#: What the place of a render ends in, as bytes do: with a number.
RENDERS_END = ord("r")

_LETTERS = {"export": b"e", "avatar": b"a", "render": b"r"}
_CANONICAL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def place_of(event: Event) -> bytes:
    """Return where the row of an event stands."""
    if isinstance(event, ExportReadyWebhook):
        return event.avatar_id.int.to_bytes(16, "big") + b"e"
    if isinstance(event, RenderReadyWebhook):
        return event.id.int.to_bytes(16, "big") + b"r"
    return event.avatar_id.int.to_bytes(16, "big") + b"a"


def place_under(key: str) -> Place:
    """Return where the row of a key stands: `place_under(key_of(event))` is `place_of(event)`."""
    kind, _, text = key.partition(":")
    letter = _LETTERS.get(kind)
    if letter is None or not _CANONICAL.fullmatch(text):
        return key
    return bytes.fromhex(text.replace("-", "")) + letter


def make_row(place: bytes, expires: float, serial: int, authenticated: bool, only: bool, event: Event) -> Row:
    """Return the row of an event."""
    if type(event) is ExportReadyWebhook and not event.extra:
        status = event.status._value_  # `value` is a property, and slow
        return (place, expires, serial, authenticated, only, event.user_id, status, event.export_url)
    return (place, expires, serial, authenticated, only, event)


def event_in(row: Row) -> Event:
    """Return the event of a row: what was put in, or its equal."""
    if len(row) == _WHOLE:
        event: Event = row[-1]
        return event
    user_id, status, url = row[-3:]
    avatar_id = UUID(bytes=row[PLACE][:-1])
    return ExportReadyWebhook(avatar_id=avatar_id, user_id=user_id, status=status, export_url=url)
