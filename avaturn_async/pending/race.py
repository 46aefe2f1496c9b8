"""The race between webhooks and polls for the outcome of one job."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from logging import DEBUG
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Protocol, TypeAlias

from ..errors import APIStatusError, AvaturnError, ClientClosedError, NotFoundError, TransportError, WaitError
from ..http.delays import backoff
from ..http.tasks import is_cancelled
from ..webhooks.mailbox import Delivery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..models import RenderStatus, ScanStatus
    from ..observe.observer import JobInfo
    from ..webhooks.events import Event
    from .context import PendingContext
    from .results import ResolvedBy

__all__ = ["Race", "Reaction"]

#: Response to an authenticated event: a poll; polls in quick succession until one no longer says pending; a poll that
#: counts towards the failed events of this wait; or nothing.
Reaction: TypeAlias = Literal["poll", "confirm", "check failure"] | None

#: Seconds between further polls where an authenticated event says ready and the API still says pending.
CONFIRM_DELAYS: Final = (0.5, 1.0, 2.0)
#: Failed events that end a wait, if the poll after each of them says pending.
MOST_FAILED_EVENTS: Final = 3
#: Consecutive failures of polls, or of the mailbox, that a wait tolerates.
TRANSIENT_BUDGET: Final = 10
#: Seconds after a job's creation in which a 404 is a transient failure.
YOUNG: Final = 10.0
#: Seconds before an awaiter's deadline at which the job is polled if the schedule has no poll before the deadline.
HEAD_START: Final = 1.0
#: Seconds by which this poll, or one that is due already, precedes scheduled polls in the queue. It is bounded, so that
#: short waits can't keep the polls of long ones from starting.
ADVANTAGE: Final = 60.0
#: Bounds in seconds of the delays between attempts to subscribe to a failing mailbox.
MAILBOX_BACKOFF: Final = {"base": 1.0, "cap": 60.0}
#: What triggered the next poll, by priority: an event, the deadline of an awaiter, or the schedule.
EVENT, DEADLINE, SCHEDULE = range(3)


class Job(Protocol):
    """The part of a `Pending` that its race uses.

    Attributes:
        _readable: whether an endpoint reads the job's state.
        _polls_restart: whether a poll of a failed job may start the job again.
        _position: id of the last delivery that was handled; None if events from before the creation may still arrive.
        _next_poll: time of the next poll on the loop's clock; until the job is first awaited, None, or -inf to poll it
            immediately.
        _last_poll: time of the start of the last poll.
        _polls: number of polls.
        _events: number of events.
        _trouble: message of the last poll's failure, or empty.
    """

    _readable: ClassVar[bool]
    _polls_restart: ClassVar[bool]
    _context: PendingContext
    _race: Race | None
    _status: RenderStatus | ScanStatus
    _position: str | None
    _next_poll: float | None
    _last_poll: float
    _polls: int
    _events: int
    _trouble: str

    @property
    def _key(self) -> str: ...

    def _age(self) -> float: ...

    async def _poll_once(self, cause: ResolvedBy) -> Exception | None: ...

    def _info(self, **facts: Any) -> JobInfo: ...

    def _on_event(self, event: Event, *, newer: bool) -> Reaction: ...

    def _settle_failed(self, by: ResolvedBy) -> None: ...


class Awaiter(asyncio.Future["Exception | None"]):
    """One `Pending.wait`: resolved with the error that ends it, or with None at an outcome or its timeout."""

    __slots__ = ("timer",)

    timer: asyncio.TimerHandle | None


class Race:
    """Resolves the awaiters of one job by an event in the mailbox or a poll, whichever is first.

    It exists while the job has awaiters, and consists of one subscription to the mailbox, one timer for the next poll
    and, during a poll, one task. `join` starts it; `_on_delivery` and `_poll` are the two sides; `finish` ends it.
    """

    __slots__ = (
        "_awaiters",
        "_confirm_delays",
        "_contextvars",
        "_failed_events",
        "_failures",
        "_job",
        "_key",
        "_loop",
        "_mailbox_failures",
        "_position",
        "_reported_failed",
        "_subscription",
        "_task",
        "_timer",
        "_trigger",
    )

    def __init__(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        self._job = job
        self._loop = loop
        self._contextvars = copy_context()  # polls run in the context of the first awaiter
        self._awaiters: tuple[Awaiter, ...] = ()  # 16 bytes less than a list of one
        self._subscription: asyncio.Future[Delivery] | asyncio.TimerHandle | None = None  # a timer: to subscribe again
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._trigger = SCHEDULE
        self._reported_failed = False  # the event that triggered the next poll has the status failed
        self._confirm_delays: Sequence[float] = ()
        self._key = ""  # of the subscription
        self._position = job._position
        self._failures = self._failed_events = self._mailbox_failures = 0

    def join(self, timeout: float | None) -> Awaiter:
        """Add an awaiter with a timeout in seconds, and return it; `leave` must be called with it.

        If no poll is due before the timeout, the job is polled shortly before it.
        """
        job, loop = self._job, self._loop
        awaiter = Awaiter(loop=loop)
        awaiter.timer = None
        self._awaiters += (awaiter,)
        if len(self._awaiters) == 1:
            job._context.active.add(self)
            if job._next_poll is None:
                self._plan(job._status, job._last_poll)
            elif job._next_poll == float("-inf"):  # of an earlier job; it must not precede all polls that are overdue
                job._next_poll = loop.time()
            self._subscribe()
            self._set_timer()
        if timeout is not None:
            now = loop.time()
            deadline = now + timeout
            if timeout > 0 and job._readable:
                planned = self._task is None and job._next_poll is not None and job._next_poll <= deadline
                start = max(now, deadline - HEAD_START)
                awaiter.timer = loop.call_at(start, self._on_head_start, awaiter, deadline, planned)
            else:
                awaiter.timer = loop.call_at(deadline, _expire, awaiter)
        return awaiter

    def leave(self, awaiter: Awaiter) -> None:
        """Remove an awaiter; the race ends with its last one."""
        if awaiter.timer is not None:
            awaiter.timer.cancel()
        if awaiter in self._awaiters:
            index = self._awaiters.index(awaiter)
            self._awaiters = self._awaiters[:index] + self._awaiters[index + 1 :]
            if not self._awaiters:
                self.finish()

    def finish(self, error: Exception | None = None) -> None:
        """End the wait of every awaiter: the outcome is known, or an error prevents it."""
        awaiters, self._awaiters = self._awaiters, ()
        self._job._race = None
        self._job._context.active.discard(self)
        if not self._loop.is_closed():  # nothing can be cancelled on a closed loop
            self._set_timer()
            self._subscribe()
            if self._task is not None and self._task is not asyncio.current_task(self._loop):
                self._task.cancel()
        for awaiter in awaiters:
            if not awaiter.done():
                awaiter.set_result(error.copy() if isinstance(error, AvaturnError) else error)

    def _on_head_start(self, awaiter: Awaiter, deadline: float, planned: bool) -> None:
        """Poll before an awaiter's deadline, unless a poll is planned, which gets priority."""
        awaiter.timer = self._loop.call_at(deadline, _expire, awaiter)
        if self._task is None:
            self._trigger = min(self._trigger, DEADLINE)
            if not planned or self in self._job._context.polls:
                self._poll_now()

    # Events.

    def _subscribe(self) -> None:
        """Wait for the next delivery, instead of an earlier subscription; without awaiters, for none."""
        if self._subscription is not None:
            self._subscription.cancel()
            self._subscription = None
        mailbox = self._job._context.mailbox
        if mailbox is None or not self._awaiters:
            return
        self._key = self._job._key
        try:
            self._subscription = asyncio.ensure_future(mailbox.wait(self._key, self._position or ""))
        except Exception as error:  # noqa: BLE001 - a mailbox may be the user's own
            self._on_mailbox_failure(error)
        else:
            self._subscription.add_done_callback(self, context=self._contextvars)

    def __call__(self, subscription: asyncio.Future[Delivery] | None = None) -> None:
        """Handle the end of the subscription or, without one, of the timer: two bound methods would take 128 bytes."""
        if subscription is not None:
            self._on_delivery(subscription)
            return
        self._timer = None
        if self._trigger == EVENT:
            self.start_poll()
        else:
            due = self._job._next_poll or 0.0
            self._job._context.polls.add(self, due - ADVANTAGE if self._trigger == DEADLINE else due)

    def _on_delivery(self, subscription: asyncio.Future[Delivery]) -> None:
        if subscription is not self._subscription:
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
        job = self._job
        job._context.mailbox_works()
        self._mailbox_failures = 0
        job._events += 1
        if (observers := job._context.observers).wants(DEBUG):
            facts = {"event": delivery.event.event, "traceparent": delivery.traceparent, "seconds": job._age()}
            observers.tell("job_event_received", job._info(**facts))
        newer, self._position = self._position is not None, delivery.id
        self._react(delivery, newer=newer)
        self._subscribe()

    def _on_mailbox_failure(self, error: BaseException) -> None:
        """Subscribe again later; if only a webhook can resolve the job, end the wait after too many failures."""
        self._job._context.mailbox_fails(error)
        self._mailbox_failures += 1
        hopeless = isinstance(error, ClientClosedError) or self._mailbox_failures > TRANSIENT_BUDGET
        if hopeless and not self._job._readable:
            text = f"{self._job} can't be awaited: its mailbox failed ({type(error).__name__})"
            self.finish(error if isinstance(error, AvaturnError) else WaitError(text))
        else:
            delay = backoff(self._mailbox_failures, **MAILBOX_BACKOFF)
            self._subscription = self._loop.call_later(delay, self._subscribe)

    def _react(self, delivery: Delivery, *, newer: bool) -> None:
        job = self._job
        reaction: Reaction = "poll"
        if delivery.authenticated:
            reaction = job._on_event(delivery.event, newer=newer)
        elif not job._readable or not job._context.limiter.allow(self._key, self._loop.time()):
            return
        if reaction == "check failure":
            # A poll may have restarted the job after each earlier failure.
            if self._failed_events == MOST_FAILED_EVENTS - 1 and job._polls_restart:
                job._settle_failed("webhook")
                return
            self._reported_failed = True
            self._confirm_delays = ()
        elif reaction == "confirm":
            self._confirm_delays = CONFIRM_DELAYS
        if reaction is not None and self._awaiters:
            self._trigger = EVENT
            self._poll_now()

    # Polls.

    def _plan(self, outcome: object, since: float) -> None:
        """Set the time of the next poll, after a poll with that outcome, or the job's creation, at the time `since`."""
        job = self._job
        if self._trigger == EVENT:  # one that arrived during the poll
            job._next_poll = since
        elif self._confirm_delays:
            self._trigger = EVENT
            job._next_poll = since + self._confirm_delays[0]
            self._confirm_delays = self._confirm_delays[1:]
        else:
            created = self._loop.time() - job._age()
            since = max(created, since)
            try:
                delay = job._context.schedule.delay(job._polls + 1, outcome, started=created, now=since)
            except Exception as error:  # noqa: BLE001 - raised by the user's own strategy
                self.finish(error)
            else:
                job._next_poll = since + delay

    def _poll_now(self) -> None:
        """Poll as soon as the spacing of polls allows; a poll that is overdue keeps its time."""
        now = self._loop.time()
        if self._job._next_poll is None or self._job._next_poll > now:
            self._job._next_poll = now
        self._set_timer()

    def _set_timer(self) -> None:
        """Set the timer for the next poll; there is none during a poll, nor without awaiters."""
        job = self._job
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        job._context.polls.remove(self)
        if job._readable and job._next_poll is not None and self._task is None and self._awaiters:
            due = max(job._next_poll, job._last_poll + job._context.schedule.spacing)
            self._timer = self._loop.call_at(due, self, context=job._context.polls.timer_context)

    def start_poll(self) -> asyncio.Future[None] | None:
        """Poll the job in a task, and return that; the timer has expired."""
        try:
            task = self._contextvars.run(self._loop.create_task, self._poll())
        except Exception as error:  # noqa: BLE001 - raised by the user's task factory
            self.finish(error)
            return None
        if not task.done():  # as it may be with an eager task factory
            self._task = task
            self._job._context.tasks.add(task)
            task.add_done_callback(self._on_poll_end)
        elif task.cancelled():
            self._set_timer()
        return task

    def _on_poll_end(self, task: asyncio.Task[None]) -> None:
        self._job._context.tasks.discard(task)
        if task is self._task:  # it was cancelled from outside: poll again
            self._task = None
            self._set_timer()

    async def _poll(self) -> None:
        job = self._job
        position, trigger, failed = self._position, self._trigger, self._reported_failed
        self._trigger, self._reported_failed = SCHEDULE, False
        try:
            error = await job._poll_once("webhook" if trigger == EVENT else "poll")
        except asyncio.CancelledError:
            if not self._awaiters or is_cancelled():
                self._trigger = min(self._trigger, trigger)
                self._reported_failed = self._reported_failed or failed
                raise
            error = WaitError(f"the poll of {job} was cancelled by the HTTP session")
        self._task = None
        if not self._awaiters:
            return
        if error is None:
            self._failures, job._trouble = 0, ""
            job._position = position  # not earlier: a later wait needs the event of a poll that was cancelled
            if self._subscription is not None and job._key != self._key:  # the poll found the avatar of a session
                self._position = job._position = None
                self._subscribe()
            self._failed_events += failed
            if self._failed_events == MOST_FAILED_EVENTS:
                job._settle_failed("webhook")
                return
        else:
            self._failures, job._trouble = self._failures + 1, str(error)
            self._reported_failed = self._reported_failed or failed
        self._plan(job._status if error is None else error, self._loop.time())
        if error is not None and not (self._failures <= TRANSIENT_BUDGET and self._is_transient(error)):
            self.finish(error)
        self._set_timer()

    def _is_transient(self, error: Exception) -> bool:
        if isinstance(error, NotFoundError):
            return self._job._age() < YOUNG
        if isinstance(error, APIStatusError):
            return error.status_code in (408, 425, 429) or error.status_code >= 500
        return isinstance(error, TransportError) or type(error) is WaitError  # an incomplete answer


def _expire(awaiter: Awaiter) -> None:
    if not awaiter.done():
        awaiter.set_result(None)
