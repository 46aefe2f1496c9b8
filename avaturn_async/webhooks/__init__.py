"""Receive webhooks: events, their verification, mailboxes and the receiver.

Importing this loads no web framework: the receiver imports a shell (aiohttp, ASGI, WSGI) when it is first used.
"""

from __future__ import annotations

from .events import Event, UnknownEvent, key_of, parse_event
from .mailbox import Delivery, Mailbox
from .memory import MemoryMailbox
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
    "parse_event",
]
