"""State shared by all pending objects of a client: its settings, when jobs are polled, and the waits in progress."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
from collections import OrderedDict
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID, uuid4
from weakref import WeakKeyDictionary, WeakValueDictionary

import attrs

from ..config import PollPolicy
from ..errors import ClientClosedError, TransportError, WaitError
from ..http import codec, endpoints
from ..models import NewExportResponse, RenderStatus
from ..observe.dispatch import Observers
from ..observe.observer import MailboxInfo
from ..redact import without_query

if TYPE_CHECKING:
    from ..downloads.downloader import Downloader
    from ..http.transport import Transport
    from ..webhooks.mailbox import Mailbox

__all__ = ["PendingContext", "PollQueue", "PollSchedule", "UnauthenticatedLimiter", "WebhookHealth", "as_timeout"]

logger: logging.Logger = logging.getLogger(__name__)

#: A year: the largest timeout in seconds; some event loops overflow on larger ones.
_LONGEST_TIMEOUT: Final = 366 * 86_400.0
#: Seconds that a claim lasts: longer than a request takes, and all that a process that died holds up others.
_CLAIM_SECONDS: Final = 60.0
#: Seconds between the starts of two polls of one job.
_SPACING: Final = 0.5
#: A job older than `cap / _AGE_SHARE` seconds is polled every `_AGE_SHARE` of its age ...
_AGE_SHARE: Final = 0.15
#: ... but at least this often, in seconds.
_LONGEST_DELAY: Final = 15.0
#: Bound in seconds for the delays of a user's strategy: event loops overflow on larger ones.
_LONGEST_CUSTOM_DELAY: Final = 86_400.0


def as_timeout(timeout: object) -> float | None:
    """Return a timeout in seconds, or None for none.

    Raises:
        TypeError, ValueError: it is not a number of seconds of at most a year.
    """
    if timeout is None:
        return None
    if isinstance(timeout, str | bytes | bool) or not hasattr(timeout, "__float__"):
        raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r:.80}")
    seconds = float(timeout)
    if not seconds <= _LONGEST_TIMEOUT:
        raise ValueError(f"timeout must be at most {_LONGEST_TIMEOUT:.0f} seconds, or None, not {timeout!r:.80}")
    return seconds


class WebhookHealth:
    """Whether webhooks resolve this client's jobs: a moving average over the results.

    Attributes:
        working: whether they resolved more than half of the recent jobs.
    """

    __slots__ = ("_share", "working")

    WEIGHT: Final = 0.2

    def __init__(self) -> None:
        self._share = 0.0
        self.working: bool = False

    def record(self, *, by_webhook: bool) -> None:
        """Count one more resolved job."""
        self._share += self.WEIGHT * (by_webhook - self._share)
        self.working = self._share > 0.5


class PollSchedule:
    """The delays between polls, from the tenacity strategy of a `PollPolicy`.

    The default strategy is exponential at first, then follows the job's age, and is slow while webhooks work.

    Attributes:
        spacing: seconds that two polls of one job are always apart.
    """

    def __init__(self, policy: PollPolicy, health: WebhookHealth, rng: random.Random | None = None) -> None:
        from tenacity import AsyncRetrying, RetryCallState, wait_exponential  # here, to keep `import` fast

        self._policy = policy
        self._health = health
        self._random = rng or random.Random()
        self._exponential = wait_exponential(multiplier=policy.first, exp_base=policy.factor, max=policy.cap)
        self._retrying = AsyncRetrying()
        self._make_state = RetryCallState
        self.spacing: float = min(_SPACING, policy.first)

    def delay(self, attempt: int, outcome: object, *, started: float, now: float) -> float:
        """Return the seconds until the next poll.

        Args:
            attempt: number of requests so far, counting the one that created the job.
            outcome: the outcome of the last of them: the job's status, or an exception.
            started: time of the job's creation on the loop's clock.
            now: time of the last outcome on the loop's clock.

        Raises:
            ValueError: the user's strategy did not return a number of seconds.
        """
        state = self._make_state(self._retrying, None, (), {})
        state.attempt_number, state.start_time = attempt, started
        if isinstance(outcome, BaseException):
            state.set_exception((type(outcome), outcome, outcome.__traceback__))
        else:
            state.set_result(outcome)
        state.outcome_timestamp = now
        policy = self._policy
        if policy.wait is not None:
            custom: Any = policy.wait(state)
            if not isinstance(custom, int | float) or not custom >= 0:
                raise ValueError(f"PollPolicy.wait must return a number of seconds from 0, not {custom!r:.80}")
            return min(custom, _LONGEST_CUSTOM_DELAY)
        delay = self._exponential(state)
        aged = _AGE_SHARE * (now - started)
        if aged > policy.cap:
            delay = min(aged, max(policy.cap, _LONGEST_DELAY))
        if self._health.working:
            delay = max(delay, policy.first_with_webhooks)
        return delay * self._random.uniform(1 - policy.jitter, 1 + policy.jitter)


class UnauthenticatedLimiter:
    """Limits the polls that unauthenticated events trigger: anyone can send any number of them."""

    __slots__ = ("_last", "_recent")

    #: Seconds between two such polls of one key.
    PER_KEY: Final = 5.0
    #: Such polls a second, of all keys.
    PER_SECOND: Final = 10

    def __init__(self) -> None:
        self._last: OrderedDict[str, float] = OrderedDict()
        self._recent: list[float] = []

    def allow(self, key: str, now: float) -> bool:
        """Return whether an event of `key` may trigger a poll `now`, in seconds; count it if so."""
        while self._last and next(iter(self._last.values())) <= now - self.PER_KEY:
            self._last.popitem(last=False)
        self._recent = [moment for moment in self._recent if moment > now - 1]
        if key in self._last or len(self._recent) >= self.PER_SECOND:
            return False
        self._last[key] = now
        self._recent.append(now)
        return True


class _Race(Protocol):
    def finish(self, error: Exception) -> None: ...

    def start_poll(self) -> asyncio.Future[None] | None: ...


class PollQueue:
    """Starts polls that are due, in the order of their times, of which `most_polls` run at once."""

    def __init__(self, most_polls: int) -> None:
        self.timer_context: Context = Context()  # empty: each poll runs in the context of its race
        self._most_polls = most_polls
        self._running = 0
        self._numbers = itertools.count()
        # A race is in a list of its own, which `remove` empties: finding its place in the heap would take long.
        self._heap: list[tuple[float, int, list[_Race]]] = []
        self._entries: dict[_Race, list[_Race]] = {}

    def __contains__(self, race: _Race) -> bool:
        return race in self._entries

    def add(self, race: _Race, due: float) -> None:
        """Start a poll of the race after those that were due earlier."""
        entry = self._entries[race] = [race]
        heapq.heappush(self._heap, (due, next(self._numbers), entry))
        self._start()

    def remove(self, race: _Race) -> None:
        """Start no poll of the race."""
        if entry := self._entries.pop(race, None):
            entry.clear()

    def _start(self, ended: asyncio.Future[None] | None = None) -> None:
        self._running -= ended is not None
        while self._heap and self._running < self._most_polls:
            for race in heapq.heappop(self._heap)[-1]:
                del self._entries[race]
                task = race.start_poll()
                if task is not None and not task.done():
                    self._running += 1
                    task.add_done_callback(self._start)


@attrs.define(kw_only=True, eq=False)
class PendingContext:
    """The transport, mailbox, settings and running waits that a client's pending objects share.

    At most `most_polls` scheduled polls run at once, which leaves connections for the user's own calls and for polls
    that an event triggered, however many jobs are awaited.
    """

    transport: Transport
    downloader: Downloader
    policy: PollPolicy = attrs.field(factory=PollPolicy)
    mailbox: Mailbox | None = None
    authenticated: bool = True
    confirm: bool = True
    wait_timeout: float | None = attrs.field(default=900, converter=as_timeout)
    most_polls: int = attrs.field(
        default=attrs.Factory(lambda self: max(1, self.transport.limit // 3), takes_self=True)
    )
    observers: Observers = attrs.field(factory=Observers)
    health: WebhookHealth = attrs.field(init=False, factory=WebhookHealth)
    limiter: UnauthenticatedLimiter = attrs.field(init=False, factory=UnauthenticatedLimiter)
    schedule: PollSchedule = attrs.field(init=False)
    polls: PollQueue = attrs.field(init=False)
    active: set[_Race] = attrs.field(init=False, factory=set)
    tasks: set[asyncio.Task[None]] = attrs.field(init=False, factory=set)
    #: The numbers of pending objects that observers were told of.
    numbers: WeakKeyDictionary[object, int] = attrs.field(init=False, factory=WeakKeyDictionary)
    #: The users of the sessions that this client created.
    session_users: dict[UUID, str] = attrs.field(init=False, factory=dict)
    _customizing: WeakValueDictionary[UUID, asyncio.Lock] = attrs.field(init=False, factory=WeakValueDictionary)
    _owner: str = attrs.field(init=False, factory=lambda: uuid4().hex)
    _closed: bool = attrs.field(init=False, default=False)
    _mailbox_failed: bool = attrs.field(init=False, default=False)
    _outage_told: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.schedule = PollSchedule(self.policy, self.health)
        self.polls = PollQueue(self.most_polls)

    def check_open(self) -> asyncio.AbstractEventLoop:
        """Return the running loop.

        Raises:
            ClientClosedError: the client is closed.
            WrongLoopError: the client was first used on another loop.
        """
        if self._closed:
            raise ClientClosedError("the client is closed")
        return self.transport.check_loop()

    async def position(self, kind: str, job_id: UUID) -> str | None:
        """Return the id of a job's last delivery, or None without a mailbox or if it fails."""
        if self.mailbox is None:
            return None
        try:
            position = await self.mailbox.position(f"{kind}:{job_id}")
            if not isinstance(position, str):
                raise TypeError(f"position() returned {type(position).__name__}")  # noqa: TRY301 - as any other failure
        except Exception as error:  # noqa: BLE001 - a mailbox may be the user's own
            self.mailbox_fails(error)
            return None
        self.mailbox_works()
        return position

    async def claim(self, name: str) -> bool:
        """Return whether no other client does at present what `name` says, as far as the mailbox can tell."""
        claim = getattr(self.mailbox, "claim", None)
        if claim is None:
            return True
        try:
            return bool(await claim(name, self._owner, _CLAIM_SECONDS))
        except Exception as error:  # noqa: BLE001 - as above
            self.mailbox_fails(error)
            return True

    def mailbox_fails(self, error: BaseException) -> None:
        """Warn about a failure of the mailbox, once for each outage, unless the mailbox does so itself."""
        if not self._mailbox_failed and not isinstance(error, TransportError):
            logger.warning("the mailbox failed (%s); jobs are polled until it works again", type(error).__name__)
            self._tell_outage("mailbox_failed", error=type(error).__name__)
            self._outage_told = True
        self._mailbox_failed = True

    def mailbox_works(self) -> None:
        """Note that the mailbox answered: its next failure is a new outage."""
        self._mailbox_failed = False
        if self._outage_told:
            self._outage_told = False
            self._tell_outage("mailbox_recovered")

    def _tell_outage(self, what: str, **facts: str) -> None:
        self.observers.tell(what, MailboxInfo(mailbox=type(self.mailbox).__name__, **facts))

    def customizing(self, avatar_id: UUID) -> asyncio.Lock:
        """Return the lock under which the customization of an avatar is set, the same for all its pending objects."""
        return self._customizing.setdefault(avatar_id, asyncio.Lock())

    async def fresh_url(self, avatar_id: UUID) -> str:
        """Request a new link of a finished export. A result refers to this context, and not to its pending object."""
        response = await self.transport.request(endpoints.create_export(avatar_id))
        state = codec.load(response.body, NewExportResponse)
        if state.status is RenderStatus.READY and state.url:
            return state.url
        status = without_query(state.status)
        raise WaitError(f"the export of avatar {avatar_id} has no url any more: it is {status}; export it again")

    async def aclose(self) -> None:
        """End every wait with ClientClosedError, and every poll."""
        self._closed = True
        for race in tuple(self.active):
            race.finish(ClientClosedError("the client was closed during this wait; the job goes on at Avaturn"))
        tasks = tuple(self.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
