"""The mailbox protocol: where a receiver stores events, and where pending objects wait for them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol
from weakref import WeakSet

import attrs

from ..observe.dispatch import Observers
from .events import Event

__all__ = ["Delivery", "Mailbox", "observe", "replaces", "strip_untrusted"]

#: Text fields of an unauthenticated event that are longer, in characters, are emptied.
_LONGEST_TEXT = 128


@attrs.frozen
class Delivery:
    """An event in a mailbox.

    Attributes:
        id: Unique to this delivery.
        event: The event.
        authenticated: Whether the sender of the event was verified.
        traceparent: The W3C trace context in which the receiver took it, or None.
    """

    id: str
    event: Event
    authenticated: bool = True
    traceparent: str | None = None


class Mailbox(Protocol):
    """Stores the last event of each key and wakes the awaiters of the key.

    Keys are ``export:{avatar_id}``, ``avatar:{avatar_id}`` and ``render:{render_id}``. An avatar's event that names its
    session is stored under ``session:{session_id}``, too, as the same delivery; a mailbox may leave that out, which
    makes waits for sessions slower (`keys_of` returns both). To keep events in a store of
    your own, implement these four methods and test them with `avaturn_async.testing.mailbox_contract`. A method whose
    store can't be used raises. If it raises `TransportError`, it is expected to have logged the outage; the receiver
    and the client log any other error.
    """

    async def deliver(self, event: Event, *, authenticated: bool = True) -> None:
        """Store `event` under its key, with a fresh delivery id, and wake all awaiters of the key.

        A mailbox that keeps trace contexts has a further parameter, ``traceparent: str | None = None``.

        An event of an export or avatar replaces the stored one. The first event of a render stays, unless it was
        unauthenticated and `event` is authenticated. An unauthenticated event never replaces an authenticated one.
        Events are kept for some 15 minutes. This may be called from any thread that runs an event loop.
        """

    async def position(self, key: str) -> str:
        """Return the id of the delivery that is stored under `key`, or ``""``."""

    def wait(self, key: str, after: str) -> Awaitable[Delivery]:
        """Return an awaitable of the delivery under `key`, once its id differs from `after`.

        Deliveries before the call count. Cancelling the awaitable leaves nothing behind in the mailbox.
        """

    async def aclose(self) -> None:
        """End all waits, and all later calls, with `ClientClosedError`. Closing again does nothing."""


def observe(mailbox: object, observers: Observers) -> None:
    """Have a mailbox tell `observers` of its outages, if it is one that logs them."""
    if isinstance(groups := getattr(mailbox, "observers", None), WeakSet):
        groups.add(observers)


def replaces(*, authenticated: bool, stored_authenticated: bool, is_render: bool) -> bool:
    """Return whether an event takes the place of the one that is stored under its key."""
    if authenticated != stored_authenticated:
        return authenticated
    return not is_render


def strip_untrusted(event: Event) -> Event:
    """Return an unauthenticated event without unknown fields and long texts, which a forger could fill memory with."""
    fields: dict[str, Any] = attrs.asdict(event, recurse=False)
    long = {name: "" for name, value in fields.items() if isinstance(value, str) and len(value) > _LONGEST_TEXT}
    return type(event)(**fields | long | {"extra": {}})
