"""The jobs of an emulator, from start to event, and the sending of events as webhooks, with its faults."""

import asyncio
import itertools
import json
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Literal
from uuid import UUID, uuid4

import aiohttp
import attrs

from .settings import Settings
from .state import Avatar, Job, Links, State, export_of, render_of, scan_of
from .validation import ApiError, check, contract, require, schema

__all__ = ["Delivery", "Jobs", "Scheduler", "WebhookSender"]

CONNECTIONS = 100
BACKLOG = 10_000
HOLD = 0.5
TIMEOUT = aiohttp.ClientTimeout(total=10)
CUSTOMIZATION = schema("ExternalAvatarCustomization-Input")
EVENTS = {
    name: operations["post"]["requestBody"]["content"]["application/json"]["schema"]
    for name, operations in sorted(contract()["webhooks"].items())
}


class Scheduler:
    """Runs coroutines and delayed calls in the background, and reports when all have ended."""

    def __init__(self) -> None:
        self._pending: set[asyncio.Future[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine."""
        self._add(asyncio.create_task(work))

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Call `action` in `delay` seconds. No task waits for it, as tests of programs look for leaked tasks."""

        def run() -> None:
            try:
                if not ended.cancelled():
                    action()
            finally:  # after the action, which may schedule another
                if not ended.cancelled():
                    ended.set_result(None)

        loop = asyncio.get_running_loop()
        ended, timer = loop.create_future(), loop.call_later(delay, run)
        ended.add_done_callback(lambda _: timer.cancel())
        self._add(ended)

    def _add(self, work: "asyncio.Future[None]") -> None:
        self._pending.add(work)
        work.add_done_callback(self._pending.discard)

    async def idle(self) -> None:
        """Return when nothing runs and nothing is scheduled."""
        while self._pending:
            await asyncio.wait(self._pending)

    async def aclose(self) -> None:
        """Cancel everything."""
        pending = [*self._pending]
        for work in pending:
            work.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


@attrs.frozen
class Delivery:
    """The outcome of sending an event once: the receiver's status, or the reason why there is none."""

    event: Mapping[str, Any]
    status: int | None = None
    error: str | None = None
    at: float = attrs.field(factory=time.time)
    """Seconds since the epoch."""


class WebhookSender:
    """Posts events to the webhook url, once each, as the contract documents no retries.

    At most 100 are sent at once; up to 10,000 wait in a queue, and further ones are dropped.
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
        """Send an event, subject to loss and duplication, and return when that is done."""
        for _ in range(self._copies(event)):
            await self.send(event)

    async def send(self, event: Mapping[str, Any]) -> Delivery | None:
        """Send an event once, without faults, and return its delivery; None if there is no webhook url."""
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
                # Not the error's text: it quotes the url, which contains the receiver's secret.
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
        """Send the events that were held back until event `number`, or a later one, was sent."""
        while self._held and self._held[0][0] <= number:
            self._start(*self._held.popleft())


@attrs.frozen
class Jobs:
    """Runs jobs: ends each when its time is up, and sends its event."""

    state: State
    settings: Settings
    links: Links
    scheduler: Scheduler
    webhooks: WebhookSender

    async def start(self, job: Job) -> None:
        """Start a job. With the fault `webhook_early`, end it and deliver its event before returning."""
        if job.kind == "scan":
            job.avatar.status = "processing"
        timing = self.settings.timing
        failed = self.settings.happens("job_failures")
        seconds = getattr(timing, job.kind) + self.settings.up_to("jitter", timing.jitter)
        if self.settings.happens("webhook_early"):
            job.finish(failed=failed)
            await self.webhooks.deliver(job.event(self.links))
        else:
            self.scheduler.after(seconds, partial(self._finish, job, failed=failed))

    def _finish(self, job: Job, *, failed: bool) -> None:
        if not job.avatar.deleted:
            job.finish(failed=failed)
            self.webhooks.dispatch(job.event(self.links))

    async def complete_session(self, session_id: UUID, customization: dict[str, Any] | None) -> UUID:
        """End a session as its user would in the editor: create its avatar, or customize the one it edits."""
        session = self.state.session(session_id)
        catalogue = self.state.catalogue
        wanted = catalogue.outfit() if customization is None else require(customization, CUSTOMIZATION, ("body",))
        if session.config["type"] == "edit_existing":
            avatar = self.state.scanned(UUID(session.config["avatar_id"]))
            self.state.customize(avatar, wanted)
            return avatar.id
        catalogue.check(wanted)  # a refused customization must leave no avatar behind
        avatar = self.state.create_avatar(session.user_id, session.id)
        self.state.customize(avatar, wanted)
        await self.start(scan_of(avatar))
        return avatar.id

    def event(
        self,
        event: str | Mapping[str, Any],
        avatar_id: UUID | None,
        render_id: UUID | None,
        status: Literal["ready", "failed"],
    ) -> dict[str, Any]:
        """Return a valid payload unchanged, or make the payload of a named event; no state changes."""
        if not isinstance(event, str):
            if not isinstance(event.get("event"), str):
                raise ValueError('an event needs a name: {"event": "export.ready", ...}')
            if issues := [*check(event, EVENTS.get(event["event"], {}), ())]:
                raise ValueError(f"not a valid {event['event']}: {'.'.join(map(str, issues[0].loc))}: {issues[0].msg}")
            return dict(event)
        if event not in EVENTS:
            raise ValueError(f"{event!r} is not one of {', '.join(EVENTS)}: send it as a dict")
        if render_id is not None and event != "render.ready":
            raise ValueError(f"render_id belongs to render.ready, not to {event}")
        if status not in ("ready", "failed"):
            raise ValueError(f"status must be 'ready' or 'failed', not {status!r}")
        avatar_id = avatar_id or uuid4()
        try:
            avatar = self.state.avatar(avatar_id)
        except ApiError:  # Avaturn also sends events about avatars that the receiver does not know
            avatar = Avatar(avatar_id, "UNKNOWN")
        if event == "render.ready":
            job = render_of(avatar, render_id or uuid4())
        else:
            job = scan_of(avatar) if event == "avatar.ready" else export_of(avatar)
        job.status = status
        return job.event(self.links)
