"""Receive webhooks: events, their verification, the mailbox they are left in, and the receiver.

Importing this loads no web framework: the shells for aiohttp and ASGI are imported when they are first asked for.
"""

from __future__ import annotations

from .events import Event, UnknownEvent, key_of, parse_event
from .mailbox import Delivery, Mailbox
from .memory import MemoryMailbox
from .receiver import Reply, WebhookReceiver
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
    "parse_event",
]
