"""The sending of webhooks, and its faults."""

import asyncio
import itertools
import json
import time
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any

import aiohttp
import attrs

from .scheduler import Scheduler
from .settings import Settings

__all__ = ["Delivery", "WebhookSender"]

CONNECTIONS = 100
BACKLOG = 10_000
HOLD = 0.5
TIMEOUT = aiohttp.ClientTimeout(total=10)


@attrs.frozen
class Delivery:
    """The outcome of sending an event once: the receiver's status, or the reason why there is none."""

    event: Mapping[str, Any]
    status: int | None = None
    error: str | None = None
    at: float = attrs.field(factory=time.time)
    """Seconds since the epoch."""


class WebhookSender:
    """Post events to the webhook url, once each, as the contract documents no retries.

    At most a hundred are sent at once; up to ten thousand wait for their turn, and further ones are dropped.
    """

    def __init__(self, settings: Settings, scheduler: Scheduler, deliveries: deque[Delivery]) -> None:
        self._settings = settings
        self._scheduler = scheduler
        self._deliveries = deliveries
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=TIMEOUT,
            headers={"User-Agent": "avaturn-emulator", "Content-Type": "application/json"},
        )
        # Not the connector's limit: waiting for a connection would count towards the timeout.
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._numbers = itertools.count()
        self._held: deque[tuple[int, dict[str, Any]]] = deque()
        self._sending = 0

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.close()

    def dispatch(self, event: dict[str, Any]) -> None:
        """Send an event in the background, subject to the faults."""
        settings = self._settings
        for _ in range(self._copies(event)):
            number = next(self._numbers)
            late = settings.happens("webhook_delayed")
            delay = settings.up_to("webhook_delay", settings.faults.webhook_delay)
            if settings.happens("webhook_reorder"):
                self._held.append((number, event))
                self._scheduler.after(HOLD, partial(self._release, number))
            elif late and delay:
                self._scheduler.after(delay, partial(self._start, number, event))
            else:
                self._start(number, event)

    async def deliver(self, event: dict[str, Any]) -> None:
        """Send an event and return when it was received or lost."""
        for _ in range(self._copies(event)):
            await self.send(event)

    async def send(self, event: Mapping[str, Any]) -> Delivery | None:
        """Send an event once, without faults, and return the outcome; None if there is no webhook url."""
        async with self._slots:
            url = self._settings.webhook_url
            if url is None:
                return None
            body = json.dumps(event).encode()
            try:
                async with self._session.post(url, data=body, allow_redirects=False) as response:
                    await response.content.read(65_536)
                    delivery = Delivery(event, status=response.status)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                # Not the error's text, which quotes the url and so the receiver's secret.
                delivery = Delivery(event, error=type(error).__name__)
            self._deliveries.append(delivery)
            return delivery

    def _copies(self, event: dict[str, Any]) -> int:
        if self._settings.webhook_url is None:
            return 0
        copies = 2 if self._settings.happens("webhook_duplicates") else 1
        if self._settings.happens("webhook_loss"):
            self._deliveries.append(Delivery(event, error="lost by a fault"))
            return 0
        return copies

    def _start(self, number: int, event: dict[str, Any]) -> None:
        if self._sending >= BACKLOG:
            self._deliveries.append(Delivery(event, error="dropped: too many events wait to be sent"))
            return
        self._sending += 1
        self._scheduler.start(self._send_then_release(number, event))

    async def _send_then_release(self, number: int, event: dict[str, Any]) -> None:
        try:
            await self.send(event)
        finally:
            self._sending -= 1
        self._release(number)

    def _release(self, number: int) -> None:
        """Send the events that were held back for this one or a later one to pass."""
        while self._held and self._held[0][0] <= number:
            self._start(*self._held.popleft())
