"""Receive webhooks: events, their verification, mailboxes and the receiver.

Names are loaded at first use (PEP 562): a client needs few of these modules, and the receiver imports a shell (aiohttp,
ASGI, WSGI) at its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .events import Event, UnknownEvent, key_of, keys_of, parse_event
    from .mailbox import Delivery, Mailbox, MemoryMailbox
    from .receiver import WebhookReceiver
    from .replies import Reply
    from .verification import BasicAuth, PathSecret, Unauthenticated, Verifier

__all__ = [
    "BasicAuth",
    "Delivery",
    "Event",
    "Mailbox",
    "MemoryMailbox",
    "PathSecret",
    "Reply",
    "Unauthenticated",
    "UnknownEvent",
    "Verifier",
    "WebhookReceiver",
    "key_of",
    "keys_of",
    "parse_event",
]


def __getattr__(name: str) -> Any:
    for module in ("events", "replies", "verification", "mailbox", "receiver") if name in __all__ else ():
        home = import_module(f".{module}", __name__)
        if name in home.__all__:
            return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
