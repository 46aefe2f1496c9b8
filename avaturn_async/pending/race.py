"""The race between webhooks and polls for the outcome of one job."""

from __future__ import annotations

import asyncio
import math
from contextlib import nullcontext
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Protocol, TypeAlias

from ..errors import APIStatusError, AvaturnError, ClientClosedError, NotFoundError, TransportError, WaitError
from ..http.backoff import backoff
from ..webhooks.mailbox import Delivery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..models import RenderStatus, ScanStatus
    from ..observe.observer import JobInfo
    from ..webhooks.events import Event
    from .context import PendingContext
    from .results import ResolvedBy

__all__ = ["Race", "Reaction"]

#: The wait of one caller; see `Race.join`.
Awaiter: TypeAlias = asyncio.Future[Exception | None]

#: What an authenticated event calls for: a poll; a poll that is soon repeated while it says pending; a poll that
#: counts towards the failed events of this wait; or nothing.
Reaction: TypeAlias = Literal["poll", "confirm", "check failure"] | None

#: Seconds between further polls where an authenticated event says ready and the API still says pending.
CONFIRM_DELAYS: Final = (0.5, 1.0, 2.0)
#: The failed event that ends a wait, if a poll answered pending after each one before it.
MOST_FAILED_EVENTS: Final = 3
#: Failures in a row, of polls or of the mailbox, that a wait tolerates.
TRANSIENT_BUDGET: Final = 10
#: Seconds after a job's creation in which a 404 counts as a delay of the API.
YOUNG: Final = 10.0
#: Seconds before an awaiter's deadline at which it gets a poll, if none is scheduled before it.
HEAD_START: Final = 1.0
#: Bounds in seconds of the delays between attempts to subscribe to a failing mailbox.
MAILBOX_BACKOFF: Final = {"base": 1.0, "cap": 60.0}


class Job(Protocol):
    """What a race asks of a pending object, which shows its users public names only.

    Attributes:
        _readable: whether the API can be asked for the job's state.
        _polls_restart: whether a poll of a failed job may start the job again.
        _position: id of the last delivery that is dealt with; None if events from before the creation may still come.
        _next_poll: when it is polled next, on the loop's clock; None until it is first awaited.
        _last_poll: when its last poll began.
        _polls: number of polls.
        _events: number of events.
        _trouble: text of the last poll's failure, or empty.
    """

    _readable: ClassVar[bool]
    _polls_restart: ClassVar[bool]
    _race: Race | None
    _status: RenderStatus | ScanStatus
    _position: str | None
    _next_poll: float | None
    _last_poll: float
    _polls: int
    _events: int
    _trouble: str

    @property
    def _key(self) -> str | None: ...

    def _age(self) -> float: ...

    async def _poll_once(self, cause: ResolvedBy) -> None: ...

    def _info(self, **facts: Any) -> JobInfo: ...

    def _on_event(self, event: Event, *, newer: bool) -> Reaction: ...

    def _settle_failed(self, by: ResolvedBy) -> None: ...


class Race:
    """Resolves the awaiters of one job by an event in the mailbox or by a poll; it exists only while there are any.

    It is one subscription to the mailbox, one timer for the next poll and, during a poll, one task.
    """

    __slots__ = (
        "_awaiters",
        "_confirm_delays",
        "_context",
        "_contextvars",
        "_failed_events",
        "_failures",
        "_job",
        "_loop",
        "_mailbox_failures",
        "_position",
        "_queued",
        "_reported_failed",
        "_subscription",
        "_task",
        "_timer",
        "_woken",
    )

    def __init__(self, job: Job, context: PendingContext, loop: asyncio.AbstractEventLoop) -> None:
        self._job = job
        self._context = context
        self._loop = loop
        self._contextvars = copy_context()  # that of the first awaiter, also for polls
        self._awaiters: list[Awaiter] = []
        self._subscription: asyncio.Future[Delivery] | asyncio.TimerHandle | None = None  # or the next attempt at one
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._queued = False  # the task waits for its turn
        self._woken = False  # the next poll is due to an event
        self._reported_failed = False  # which said that the job failed
        self._confirm_delays: Sequence[float] = ()
        self._position = job._position
        self._failures = self._failed_events = self._mailbox_failures = 0

    def join(self, timeout: float | None) -> tuple[Awaiter, list[asyncio.TimerHandle]]:
        """Add an awaiter, which `leave` must remove; it is resolved with the error that ended the wait, or None.

        None means that the job's outcome is known or `timeout`, in seconds, has passed. Also returned are the timers of
        that timeout. If nothing else is planned before it, the job is polled shortly before it.
        """
        loop = self._loop
        awaiter: Awaiter = loop.create_future()
        if self._awaiters:
            self._awaiters.append(awaiter)
        else:
            self._awaiters = [awaiter]
            self._start()
        timers = []
        if timeout is not None:
            now = loop.time()
            timers.append(loop.call_at(now + timeout, _expire, awaiter))
            if self._job._readable and 0 < timeout < self._due() - now:
                timers.append(loop.call_at(now + max(0.0, timeout - HEAD_START), self._poll_before_deadline))
        return awaiter, timers

    def leave(self, awaiter: Awaiter, timers: list[asyncio.TimerHandle]) -> None:
        """Remove an awaiter; without any the race ends."""
        for timer in timers:
            timer.cancel()
        if awaiter in self._awaiters:
            self._awaiters.remove(awaiter)
            if not self._awaiters:
                self._close()

    def finish(self, error: Exception | None = None) -> None:
        """End the wait of every awaiter: the outcome is known, or an error prevents it."""
        awaiters, self._awaiters = self._awaiters, []
        self._close()
        for awaiter in awaiters:
            if not awaiter.done():
                awaiter.set_result(error.copy() if isinstance(error, AvaturnError) else error)

    def _start(self) -> None:
        if self._job._next_poll is None:
            try:
                self._job._next_poll = self._scheduled(self._job._status, since=self._job._last_poll)
            except Exception as error:  # noqa: BLE001 - raised by the user's own strategy
                self.finish(error)
                return
        self._context.active.add(self)
        self._subscribe()
        self._set_timer()

    def _close(self) -> None:
        self._job._race = None
        self._context.active.discard(self)
        if self._loop.is_closed():  # nothing can be cancelled there any more
            return
        if self._timer is not None:
            self._timer.cancel()
        self._unsubscribe()
        if self._task is not None and self._task is not asyncio.current_task(self._loop):
            self._task.cancel()

    # Events.

    def _subscribe(self) -> None:
        mailbox, key = self._context.mailbox, self._job._key
        if mailbox is None or key is None or not self._awaiters:
            return
        try:
            self._subscription = asyncio.ensure_future(mailbox.wait(key, self._position or ""))
        except Exception as error:  # noqa: BLE001 - a mailbox may be the user's own
            self._on_mailbox_failure(error)
        else:
            self._subscription.add_done_callback(self._on_delivery, context=self._contextvars)

    def _unsubscribe(self) -> None:
        if isinstance(self._subscription, asyncio.Future):
            self._subscription.remove_done_callback(self._on_delivery)
        if self._subscription is not None:
            self._subscription.cancel()

    def _on_delivery(self, subscription: asyncio.Future[Delivery]) -> None:
        if not self._awaiters or subscription is not self._subscription:
            if not subscription.cancelled():
                subscription.exception()  # otherwise asyncio logs that it was never retrieved
            return
        self._subscription = None
        try:
            delivery = subscription.result()
            if not isinstance(delivery, Delivery) or delivery.id == self._position:
                raise TypeError("no new Delivery")  # noqa: TRY301 - handled as any other failure of a mailbox
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - a mailbox may be the user's own
            self._on_mailbox_failure(error)
            return
        self._context.mailbox_works()
        self._mailbox_failures = 0
        self._job._events += 1
        if self._context.observers:
            self._tell_event(delivery)
        newer, self._position = self._position is not None, delivery.id
        self._react(delivery, newer=newer)
        self._subscribe()

    def _tell_event(self, delivery: Delivery) -> None:
        name, seconds = delivery.event.event, self._job._age()
        info = self._job._info(event=name, traceparent=delivery.traceparent, seconds=seconds)
        self._context.observers.tell("job_event_received", info)

    def _on_mailbox_failure(self, error: BaseException) -> None:
        """Subscribe again later; a job that only webhooks can resolve fails once that is hopeless."""
        self._context.mailbox_fails(error)
        self._mailbox_failures += 1
        hopeless = isinstance(error, ClientClosedError) or self._mailbox_failures > TRANSIENT_BUDGET
        if hopeless and not self._job._readable:
            text = f"{self._job} can't be awaited: its mailbox failed ({type(error).__name__})"
            self.finish(error if isinstance(error, AvaturnError) else WaitError(text))
        else:
            delay = backoff(self._mailbox_failures, **MAILBOX_BACKOFF)
            self._subscription = self._loop.call_later(delay, self._subscribe)

    def _react(self, delivery: Delivery, *, newer: bool) -> None:
        reaction: Reaction = "poll"
        if delivery.authenticated:
            reaction = self._job._on_event(delivery.event, newer=newer)
        elif not self._job._readable or not self._context.limiter.allow(self._job._key or "", self._loop.time()):
            return
        if reaction == "check failure":
            # A poll may have restarted the job after each of the failures before.
            if self._failed_events == MOST_FAILED_EVENTS - 1 and self._job._polls_restart:
                self._job._settle_failed("webhook")
                return
            self._reported_failed = True
            self._confirm_delays = ()
        elif reaction == "confirm":
            self._confirm_delays = CONFIRM_DELAYS
        if reaction is not None and self._awaiters:
            self._woken = True
            if self._queued and self._task is not None:  # events don't queue behind the schedule
                self._task.cancel()
                self._task, self._queued = None, False
            self._pull_forward()

    # Polls.

    def _due(self) -> float:
        """Return when the next poll may begin."""
        planned = math.inf if self._job._next_poll is None else self._job._next_poll
        return max(planned, self._job._last_poll + self._context.schedule.spacing)

    def _pull_forward(self) -> None:
        now = self._loop.time()
        if self._timer is None or self._due() > now:
            self._job._next_poll = min(self._due(), now)
            self._set_timer()

    def _poll_before_deadline(self) -> None:
        if self._task is None:
            self._pull_forward()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._job._readable and self._task is None and self._awaiters:
            self._timer = self._loop.call_at(self._due(), self._start_poll, context=self._contextvars)

    def _start_poll(self) -> None:
        self._timer = None
        task = self._loop.create_task(self._poll())
        if not task.done():  # as it may be with an eager task factory
            self._task = task
            self._context.tasks.add(task)
            task.add_done_callback(self._on_poll_end)

    def _on_poll_end(self, task: asyncio.Task[None]) -> None:
        self._context.tasks.discard(task)
        if task is self._task:  # cancelled by somebody else: poll again
            self._task, self._queued = None, False
            self._set_timer()

    async def _poll(self) -> None:
        self._queued = not self._woken  # polls that an event triggered don't wait for their turn
        async with self._context.scheduled_polls if self._queued else nullcontext():
            self._queued = False
            await self._poll_now()

    async def _poll_now(self) -> None:
        job, key, position, failed = self._job, self._job._key, self._position, self._reported_failed
        cause: ResolvedBy = "webhook" if self._woken else "poll"
        self._woken = self._reported_failed = False
        job._last_poll = self._loop.time()
        job._polls += 1
        try:
            error = await self._failure_of_poll(cause)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._awaiters or (task is not None and task.cancelling()):
                self._woken, self._reported_failed = self._woken or cause == "webhook", self._reported_failed or failed
                raise
            error = WaitError(f"the poll of {job} was cancelled by the HTTP session")
        self._task = None
        if not self._awaiters:
            return
        if error is None:
            self._failures, job._trouble = 0, ""
            job._position = position  # not sooner: if this poll had been cancelled, the event would be needed again
            if job._key != key:  # the poll found out which avatar it is about
                self._unsubscribe()
                self._position = job._position = None
                self._subscribe()
            self._failed_events += failed
            if self._failed_events == MOST_FAILED_EVENTS:
                job._settle_failed("webhook")
                return
        else:
            self._failures, job._trouble = self._failures + 1, str(error)
            self._reported_failed = self._reported_failed or failed
        try:
            self._plan(job._status if error is None else error)
        except Exception as defect:  # noqa: BLE001 - raised by the user's own strategy
            job._next_poll = self._loop.time()
            self.finish(defect)
            return
        if error is not None and not (self._failures <= TRANSIENT_BUDGET and self._is_transient(error)):
            self.finish(error)
        self._set_timer()

    async def _failure_of_poll(self, cause: ResolvedBy) -> Exception | None:
        try:
            await self._job._poll_once(cause)
        except Exception as error:  # noqa: BLE001 - awaiters must learn of a defect, too
            return error
        return None

    def _plan(self, outcome: object) -> None:
        """Set the time of the next poll after one with that outcome."""
        now = self._loop.time()
        if self._woken:  # by an event that came during the poll
            self._job._next_poll = now
        elif self._confirm_delays:
            self._woken = True
            self._job._next_poll = now + self._confirm_delays[0]
            self._confirm_delays = self._confirm_delays[1:]
        else:
            self._job._next_poll = self._scheduled(outcome, since=now)

    def _scheduled(self, outcome: object, since: float) -> float:
        """Return when the policy wants the next poll, if the last one, or the creation, was `since`."""
        created = self._loop.time() - self._job._age()
        since = max(created, since)
        return since + self._context.schedule.delay(self._job._polls + 1, outcome, started=created, now=since)

    def _is_transient(self, error: Exception) -> bool:
        if isinstance(error, NotFoundError):
            return self._job._age() < YOUNG
        if isinstance(error, APIStatusError):
            return error.status_code in (408, 425, 429) or error.status_code >= 500
        return isinstance(error, TransportError) or type(error) is WaitError  # an incomplete answer


def _expire(awaiter: Awaiter) -> None:
    if not awaiter.done():
        awaiter.set_result(None)
