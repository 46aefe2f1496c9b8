"""The sending of webhooks, and its faults."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any

import aiohttp
import attrs

from .agenda import Agenda
from .controls import Controls
from .faults import Dice

__all__ = ["Delivery", "Hooks"]

CONNECTIONS = 100
BACKLOG = 100_000
HOLD = 0.5
TIMEOUT = aiohttp.ClientTimeout(total=10)


@attrs.frozen
class Delivery:
    """What became of one sending of an event: the receiver's status, or else the reason why there is none."""

    event: Mapping[str, Any]
    status: int | None = None
    error: str | None = None
    at: float = attrs.field(factory=time.time)
    """Seconds since the epoch."""


class Hooks:
    """Post events to the webhook url, once each, as the contract documents no retries.

    At most a hundred are under way at once; others wait their turn, and the oldest of a hundred thousand give way.
    """

    def __init__(self, controls: Controls, dice: Dice, agenda: Agenda, deliveries: deque[Delivery]) -> None:
        self._controls = controls
        self._dice = dice
        self._agenda = agenda
        self._deliveries = deliveries
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=TIMEOUT,
            headers={"User-Agent": "avaturn-emulator", "Content-Type": "application/json"},
        )
        # Not the connector's limit: its queue would count into the timeout.
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._backlog: deque[tuple[int, dict[str, Any]]] = deque(maxlen=BACKLOG)
        self._held: deque[tuple[int, dict[str, Any]]] = deque()
        self._senders: set[asyncio.Task[None]] = set()
        self._count = 0

    @property
    def idle(self) -> bool:
        """Say whether nothing is being sent."""
        return not self._senders

    async def sent(self) -> None:
        """Return once nothing is being sent."""
        while self._senders:
            await asyncio.wait(self._senders)

    async def aclose(self) -> None:
        """Drop what has not been received."""
        self._backlog.clear()
        self._held.clear()
        for task in self._senders:
            task.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)
        await self._session.close()

    def dispatch(self, event: dict[str, Any]) -> None:
        """Send an event, some time soon, unless a fault has it that it is lost."""
        faults = self._controls.faults
        for _ in range(self._copies(event)):
            self._count += 1
            entry = (self._count, event)
            late = self._dice.happens("webhook_delayed", faults.webhook_delayed)
            delay = self._dice.upto("webhook_delay", faults.webhook_delay)
            if self._dice.happens("webhook_reorder", faults.webhook_reorder):
                self._hold(entry)
            elif late and delay:
                self._agenda.after(delay, partial(self._enqueue, entry))
            else:
                self._enqueue(entry)

    async def deliver(self, event: dict[str, Any]) -> None:
        """Send an event now, and return when it was received, unless it is lost."""
        for _ in range(self._copies(event)):
            await self._send(event)

    def _copies(self, event: dict[str, Any]) -> int:
        if self._controls.webhook_url is None:
            return 0
        faults = self._controls.faults
        copies = 2 if self._dice.happens("webhook_duplicates", faults.webhook_duplicates) else 1
        if self._dice.happens("webhook_loss", faults.webhook_loss):
            self._deliveries.append(Delivery(event, error="lost by a fault"))
            return 0
        return copies

    def _hold(self, entry: tuple[int, dict[str, Any]]) -> None:
        self._held.append(entry)
        self._agenda.after(HOLD, partial(self._release, entry[0] + 1))

    def _release(self, before: int) -> None:
        while self._held and self._held[0][0] < before:
            self._enqueue(self._held.popleft())

    def _enqueue(self, entry: tuple[int, dict[str, Any]]) -> None:
        self._backlog.append(entry)
        if len(self._senders) < CONNECTIONS:
            task = asyncio.create_task(self._work())
            self._senders.add(task)
            task.add_done_callback(self._senders.discard)

    async def _work(self) -> None:
        try:
            while self._backlog:
                number, event = self._backlog.popleft()
                await self._send(event)
                self._release(number)
        finally:  # at once: an event that comes before the task's callback is called would find nobody to send it
            self._senders.discard(asyncio.current_task())

    async def _send(self, event: dict[str, Any]) -> None:
        async with self._slots:
            url = self._controls.webhook_url
            if url is not None:
                self._deliveries.append(await self._post(url, event))

    async def _post(self, url: str, event: dict[str, Any]) -> Delivery:
        body = json.dumps(event).encode()
        try:
            async with self._session.post(url, data=body, allow_redirects=False) as response:
                await response.content.read(65_536)
                return Delivery(event, status=response.status)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Not its text, which has the url in it.
            return Delivery(event, error=type(error).__name__)
