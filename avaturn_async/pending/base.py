"""The race: a job's end is learned from a webhook or from a poll, whichever is first, and once.

A pending has no task of its own. While somebody waits it stands under one timer and one place in the mailbox; each
look at the API is a short task that ends with the look. When the last awaiter leaves, all of that is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import math
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, TypeVar

from ..config import CLIENT_DEFAULT, ClientDefault
from ..errors import (
    APIStatusError,
    AvaturnError,
    JobFailedError,
    NotFoundError,
    NotReadyError,
    RateLimitError,
    ServerError,
    TransportError,
    WaitError,
    WaitTimeoutError,
    WebhooksRequiredError,
)
from ..models import RenderStatus, ScanStatus
from .polling import CONFIRM_DELAYS
from .resume_token import write_token
from .timetable import NO_TIME

if TYPE_CHECKING:
    from collections.abc import Generator
    from uuid import UUID

    from ..webhooks.mailbox import Delivery
    from .context import PendingContext
    from .results import ResolvedBy

__all__ = ["NotYetError", "Pending"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
Status = RenderStatus | ScanStatus
Waiter = asyncio.Future[Exception | None]

#: Failures in a row that a wait tolerates.
TRANSIENT_BUDGET = 10
#: Seconds after a job's creation in which a 404 may be the API's own delay.
YOUNG = 10.0
#: Seconds between two looks that events woke.
EVENT_SPACING = 0.5
#: Seconds before a deadline at which it gets its look, where the schedule has none.
HEAD_START = 1.0
#: Seconds after its creation in which a job is awaited from the start.
PROMPT = 1.0
#: Seconds of clock resolution to be generous by.
SLACK = 0.001
#: Before any moment of the monotonic clock.
_NEVER = -math.inf
#: The awaiters of who has none; nothing is ever added to it.
_NOBODY: list[Waiter] = []

#: Failed events, each followed by a poll that says pending, after which the next one ends a wait.
FAILURES_DOUBTED = 2

#: For polls triggered by an event, which do not queue behind scheduled ones.
_UNLIMITED: Final = contextlib.nullcontext()

_TRANSIENT = (TransportError, RateLimitError, ServerError)


class NotYetError(WaitError):
    """An answer that will be a whole one in a moment: ready without a url, or an avatar that is not listed."""


class Pending(ABC, Generic[T]):
    """A job that goes on at Avaturn; await it for its result."""

    __slots__ = (
        "__weakref__",
        "_anchored",
        "_attended",
        "_born",
        "_confirming",
        "_context",
        "_contextvars",
        "_created_at",
        "_ending",
        "_extra_look",
        "_failed_events",
        "_failure_reported",
        "_last_trouble",
        "_last_wake",
        "_looks",
        "_misses",
        "_next_look",
        "_pending_at",
        "_polls",
        "_position",
        "_reading",
        "_waiters",
        "_watch",
        "avatar_id",
        "due",
        "status",
    )

    _kind: ClassVar[str]
    _noun: ClassVar[str]
    _readable: ClassVar[bool] = True

    avatar_id: UUID
    status: Status

    def __init__(
        self,
        context: PendingContext,
        avatar_id: UUID,
        *,
        status: Status,
        position: str | None = None,
        created_at: float | None = None,
        look_now: bool = False,
    ) -> None:
        self._context = context
        self.avatar_id = avatar_id
        self.status = status
        self._position = position or ""
        self._anchored = position is not None
        now = time.monotonic()
        self._created_at = created_at
        self._born = now if created_at is None else now - max(0.0, time.time() - created_at)
        self._next_look = now if look_now or created_at is not None else NO_TIME  # planned when somebody waits
        self._attended = False
        self._pending_at = 0.0
        self._extra_look = math.inf
        self._last_wake = _NEVER
        self._confirming = len(CONFIRM_DELAYS)
        self._failed_events = 0
        self._failure_reported = False
        self._looks = self._polls = self._misses = 0
        self._last_trouble: str | None = None
        self._ending: T | AvaturnError | None = None
        self._waiters: list[Waiter] = _NOBODY
        self.due = NO_TIME
        self._contextvars: contextvars.Context | None = None
        self._watch: asyncio.Future[Delivery] | None = None
        self._reading: asyncio.Task[None] | None = None

    # For users.

    async def wait(self, *, timeout: float | ClientDefault | None = CLIENT_DEFAULT) -> T:
        """Wait for the end of the job and return its result.

        Any number of awaiters share one schedule of looks; cancelling one, or its deadline, touches no other and never
        the remote job.

        Args:
            timeout: seconds that this awaiter waits, on the monotonic clock; None is for ever. Left out, it is the
                client's ``wait_timeout``. A deadline before the next scheduled look gets one look, a second before it
                or at once.

        Raises:
            WaitTimeoutError: the deadline passed.
            JobFailedError: the API said that the job failed.
            AuthenticationError, PermissionDeniedError: at once; the token does not do.
            AvaturnError: ten failures in a row were tolerated and this was the next one. Every AvaturnError from here
                carries ``resume_token``.
        """
        try:
            if self._ending is None:
                await self._wait(self._context.wait_timeout if isinstance(timeout, ClientDefault) else timeout)
            return self.result()
        except AvaturnError as error:
            error.resume_token = self.resume_token
            raise

    def __await__(self) -> Generator[Any, None, T]:
        return self.wait().__await__()

    async def refresh(self) -> Status:
        """Read the job once, now, and return its status; errors are raised as they are."""
        self._context.check_open()
        if self._ending is None:
            self._polls += 1
            try:
                await self._read("poll")
            except AvaturnError as error:
                error.resume_token = self.resume_token
                raise
        return self.status

    def done(self) -> bool:
        """Say whether the end is known. This moves only while somebody waits or refreshes."""
        return self._ending is not None

    def result(self) -> T:
        """Return the result, or raise NotReadyError before the end and JobFailedError after a failed one."""
        if self._ending is None:
            error: AvaturnError = NotReadyError(f"{self} is not over: {self.status} as last seen")
        elif isinstance(self._ending, AvaturnError):
            error = self._ending.copy()
        else:
            return self._ending
        error.resume_token = self.resume_token
        raise error

    @property
    def resume_token(self) -> str:
        """What `resume` needs in another process: JSON with ids, base_url and the time of creation, no API token."""
        if self._created_at is None:
            self._created_at = time.time() - self._waited()
        position = self._position if self._anchored else None
        fields = {"avatar_id": str(self.avatar_id), "position": position, **self._token_fields()}
        return write_token(self._kind, self._context.transport.base_url, self._created_at, fields)

    def __str__(self) -> str:
        return f"the {self._noun} of avatar {self.avatar_id}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} avatar_id={self.avatar_id} status={self.status.value}>"

    # For each kind of job.

    @property
    def _key(self) -> str:
        return f"{self._kind}:{self.avatar_id}"

    def _token_fields(self) -> dict[str, Any]:
        return {}

    @abstractmethod
    async def _read(self, cause: ResolvedBy) -> None:
        """Read the job once; settle it where it is over, raise NotYetError where the answer is not whole."""

    @abstractmethod
    def _accept(self, delivery: Delivery) -> None:
        """Settle the job by an authenticated event, or have it looked at."""

    # Its end.

    def _settle(self, ending: T | AvaturnError, by: ResolvedBy) -> None:
        if self._ending is not None:
            return
        self._ending = ending
        if by != "create":
            self._learn(by, failed=isinstance(ending, AvaturnError))
        self._disarm()
        self._wake_awaiters(None)

    def _learn(self, by: ResolvedBy, *, failed: bool) -> None:
        """Note that webhooks come, or don't, and how long the job took where it was awaited from the start."""
        context, told = self._context, by == "webhook"
        if context.mailbox is not None:
            context.evidence.note(by_webhook=told)
        if self._attended and not failed:
            seen = self._waited()
            context.pace.ended(self._kind, seen=seen, pending=seen if told else self._pending_at)

    def _settle_failed(self, by: ResolvedBy) -> None:
        told = {"create": "the API said so at once", "webhook": "a webhook said so", "poll": "the API said so"}[by]
        self._settle(JobFailedError(f"{self} failed: {told}", resolved_by=by), by)

    def fail(self, error: Exception) -> None:
        """End the waits of those who wait now, with an error of its own each; the job itself may go on."""
        self._attended = False
        self._disarm()
        self._misses = 0
        self._wake_awaiters(error)

    def _wake_awaiters(self, error: Exception | None) -> None:
        waiters, self._waiters = self._waiters, _NOBODY
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(error.copy() if isinstance(error, AvaturnError) else error)

    def _waited(self) -> float:
        return time.monotonic() - self._born

    # One awaiter.

    async def _wait(self, timeout: float | None) -> None:
        loop = self._context.check_open()
        self._check_source()
        timeout = None if timeout is None else float(timeout)
        if timeout is not None and math.isnan(timeout):
            raise ValueError("timeout must be a number of seconds or None, not NaN")
        waiter: Waiter = loop.create_future()
        alarms: list[asyncio.TimerHandle] = []
        try:
            self._join(waiter)
            if timeout is not None:
                alarms = self._set_alarms(loop, waiter, timeout)
            trouble = await waiter
        finally:
            for alarm in alarms:
                alarm.cancel()
            self._leave(waiter)
        if trouble is not None:
            raise trouble
        if timeout is not None and self._ending is None:
            raise self._timed_out(timeout)

    def _check_source(self) -> None:
        if not self._readable and (self._context.mailbox is None or not self._context.authenticated):
            raise WebhooksRequiredError(
                f"{self} can only be awaited by a client with an authenticated webhooks= receiver or mailbox: "
                "the API has no endpoint that reads a render"
            )

    def _timed_out(self, timeout: float) -> WaitTimeoutError:
        trouble = f", last trouble: {self._last_trouble}" if self._last_trouble else ""
        seen = f"last seen {self.status}, read {self._polls} times{trouble}"
        return WaitTimeoutError(f"{self} was not over after {timeout:g} s: {seen}", timeout=timeout, status=self.status)

    def _set_alarms(self, loop: asyncio.AbstractEventLoop, waiter: Waiter, timeout: float) -> list[asyncio.TimerHandle]:
        """Set the awaiter's deadline, and one look shortly before it where the schedule has none."""
        alarms = [loop.call_later(max(0.0, timeout), _expire, waiter)]
        if 0 < timeout < self._next_look - time.monotonic():
            alarms.append(loop.call_later(max(0.0, timeout - HEAD_START), self._look, "poll"))
        return alarms

    def _join(self, waiter: Waiter) -> None:
        if self._waiters:
            self._waiters.append(waiter)
        else:
            self._waiters = [waiter]  # a list that grows has room for more than one, and as a rule there is one
            self._arm()

    def _leave(self, waiter: Waiter) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            if not self._waiters:
                self._attended = False
                self._disarm()

    # The runners of the race: a place in the mailbox, and a timer.

    def _arm(self) -> None:
        self._context.armed.add(self)
        if self._next_look == NO_TIME:
            self._attended = self._waited() < PROMPT
            self._next_look = self._born + self._context.pace.delay(0, kind=self._kind)
        self._contextvars = contextvars.copy_context()  # that of the first awaiter is the looks' too
        self._subscribe()
        self._set_timer()

    def _disarm(self) -> None:
        self._context.armed.discard(self)
        self._failed_events, self._failure_reported = 0, False
        self._context.timetable.cancel(self)
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._reading is not None and self._reading is not _current_task():
            self._context.cancel(self._reading)
            self._reading = None

    def _subscribe(self) -> None:
        if self._context.mailbox is None:
            return
        try:
            self._watch = asyncio.ensure_future(self._context.mailbox.wait(self._key, self._position))
        except Exception as error:  # noqa: BLE001 - whatever a mailbox raises, polling goes on
            asyncio.get_running_loop().call_soon(self._lost_mailbox, error)
        else:
            self._watch.add_done_callback(self._on_delivery, context=self._contextvars)

    def _on_delivery(self, watch: asyncio.Future[Delivery]) -> None:
        if watch.cancelled() or watch is not self._watch:
            return
        self._watch = None
        error = watch.exception()
        if error is not None:
            self._lost_mailbox(error)
            return
        delivery = watch.result()
        self._position = delivery.id
        self._heed(delivery)
        if self._waiters and self._watch is None:
            self._subscribe()

    def _lost_mailbox(self, error: BaseException) -> None:
        if self._readable:
            logger.warning("the mailbox can't be read (%s); %s is awaited by polling", type(error).__name__, self)
        elif self._waiters:
            known = isinstance(error, AvaturnError)
            self.fail(error if known else WaitError(f"the mailbox of {self} was lost: {type(error).__name__}"))  # type: ignore[arg-type]

    def _heed(self, delivery: Delivery) -> None:
        if delivery.authenticated:
            self._accept(delivery)
        elif self._readable and self._context.hints.take(self._key):
            self._wake_look()

    def _on_failed_event(self) -> None:
        """Poll; the third failed event in one wait ends it, so that a failing job is not restarted for ever."""
        if self._failed_events >= FAILURES_DOUBTED:
            self.status = type(self.status).FAILED
            self._settle_failed("webhook")
        else:
            self._failure_reported = True
            self._confirming = len(CONFIRM_DELAYS)
            self._wake_look()

    def _confirm(self) -> None:
        """Look now because an authenticated event said ready, and again soon while the API still says pending."""
        self._confirming = 0
        self._wake_look()

    def _wake_look(self) -> None:
        self._extra_look = max(time.monotonic(), self._last_wake + EVENT_SPACING)
        self._set_timer()

    def _set_timer(self) -> None:
        self._context.timetable.cancel(self)
        if self._readable and self._reading is None and self._waiters:
            self._context.timetable.put(self, min(self._next_look, self._extra_look))

    def on_time(self) -> None:
        """Look, as the timetable says."""
        now = time.monotonic()
        self._look("webhook" if self._extra_look <= now + SLACK else "poll", now)

    # One look.

    def _look(self, cause: Literal["webhook", "poll"], now: float | None = None) -> None:
        if self._reading is not None or not self._readable:
            return
        now = time.monotonic() if now is None else now
        if cause == "webhook":
            self._last_wake, self._extra_look = now, math.inf
            self._failed_events += self._failure_reported
            self._failure_reported = False
        scheduled = self._next_look <= now + SLACK
        self._looks += scheduled
        self._context.timetable.cancel(self)
        context = contextvars.copy_context() if self._contextvars is None else self._contextvars.copy()
        self._reading = self._context.spawn(self._look_once(cause, scheduled=scheduled), context)

    def _plan_next_look(self) -> None:
        now = time.monotonic()
        delay = self._context.pace.delay(self._looks, age=now - self._born, kind=self._kind, misses=self._misses)
        self._next_look = now + delay

    async def _look_once(self, cause: Literal["webhook", "poll"], *, scheduled: bool) -> None:
        self._polls += 1
        try:
            async with self._context.polling if cause == "poll" else _UNLIMITED:
                await self._read(cause)
            self._misses = 0
            self._pending_at = self._waited()
        except AvaturnError as error:
            self._missed(error)
        except asyncio.CancelledError:
            self._owe_look(cause, scheduled=scheduled)
            raise
        except Exception as error:  # noqa: BLE001 - whoever waits must learn of a defect, not hang
            self.fail(error)
        finally:
            task = _current_task()
            if self._reading is task:
                self._reading = None
            self._context.ended(task)
        if scheduled:  # from now on: a slow API is not asked back to back
            self._plan_next_look()
        self._look_on(cause)

    def _owe_look(self, cause: Literal["webhook", "poll"], *, scheduled: bool) -> None:
        """Leave to the next awaiter the look that ended with the last one: what woke it is used up."""
        now = time.monotonic()
        if cause == "webhook":
            self._extra_look = now
        elif scheduled:
            self._next_look = now
        self._set_timer()  # the next one may be there already

    def _look_on(self, cause: Literal["webhook", "poll"]) -> None:
        if self._ending is not None:
            return
        if cause == "webhook" and self._confirming < len(CONFIRM_DELAYS):
            later = time.monotonic() + CONFIRM_DELAYS[self._confirming]
            self._confirming += 1
            self._extra_look = min(self._extra_look, later)
        self._set_timer()

    def _missed(self, error: AvaturnError) -> None:
        self._last_trouble = str(error)
        self._misses += 1
        self._attended = False  # when it ends is not seen in time any more
        if not self._is_transient(error) or self._misses > TRANSIENT_BUDGET:
            self.fail(error)

    def _is_transient(self, error: AvaturnError) -> bool:
        if isinstance(error, NotFoundError):
            return self._waited() < YOUNG
        if isinstance(error, APIStatusError) and error.status_code in (408, 425):
            return True
        return isinstance(error, (*_TRANSIENT, NotYetError))


def _expire(waiter: Waiter) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
