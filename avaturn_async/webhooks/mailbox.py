"""Where events are left for those who await them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from .events import Event

__all__ = ["Delivery", "Mailbox"]


@attrs.frozen
class Delivery:
    """An event in a mailbox.

    Attributes:
        id: fresh for each delivery.
        event: the event.
        authenticated: whether it came from a verified source.
        only: whether no other live row stood under its key, so that its `failed` can't be about another version's job.
    """

    id: str
    event: Event
    authenticated: bool = True
    only: bool = True


class Mailbox(Protocol):
    """What a client and a receiver ask of a mailbox."""

    async def deliver(self, event: Event, *, authenticated: bool = True) -> None:
        """Store `event` under its key and wake who awaits it."""

    async def position(self, key: str) -> str:
        """Return the id of the row that stands under `key`, or ``""``."""

    def wait(self, key: str, after: str) -> Awaitable[Delivery]:
        """Return what resolves to the key's row as soon as its id differs from `after`; cancelling it forgets it."""

    async def aclose(self) -> None:
        """Forget everything; further calls raise ClientClosedError."""
