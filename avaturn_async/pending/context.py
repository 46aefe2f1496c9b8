"""State shared by all pending objects of a client."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

import attrs

from ..config import PollPolicy
from ..errors import ClientClosedError, TransportError, WaitError
from ..http import codec, endpoints
from ..models import NewExportResponse, RenderStatus
from ..observe.dispatch import Observers
from ..observe.observer import MailboxInfo
from ..redact import without_query
from .polling import PollSchedule, UnauthenticatedLimiter, WebhookHealth

if TYPE_CHECKING:
    from uuid import UUID

    from ..downloads.downloader import Downloader
    from ..http.transport import Transport
    from ..webhooks.mailbox import Mailbox

__all__ = ["PendingContext", "as_timeout"]

logger: logging.Logger = logging.getLogger(__name__)


#: A year: the largest timeout in seconds; some event loops overflow on larger ones.
_LONGEST_TIMEOUT = 366 * 86_400.0


def as_timeout(timeout: object) -> float | None:
    """Return a timeout in seconds, or None for none; a ValueError or TypeError says what is wrong with it."""
    if timeout is None:
        return None
    if isinstance(timeout, str | bytes | bool) or not hasattr(timeout, "__float__"):
        raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r:.80}")
    seconds = float(timeout)
    if not seconds <= _LONGEST_TIMEOUT:
        raise ValueError(f"timeout must be at most {_LONGEST_TIMEOUT:.0f} seconds, or None, not {timeout!r:.80}")
    return seconds


class _Wait(Protocol):
    def finish(self, error: Exception) -> None: ...


@attrs.define(kw_only=True, eq=False)
class PendingContext:
    """The transport, mailbox, settings and running waits that a client's pending objects share.

    At most `most_polls` scheduled polls run at once, so that the user's own calls, and polls that an event triggered,
    find a free connection however many jobs are awaited.
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
    scheduled_polls: asyncio.Semaphore = attrs.field(init=False)
    active: set[_Wait] = attrs.field(init=False, factory=set)
    tasks: set[asyncio.Task[None]] = attrs.field(init=False, factory=set)
    #: The users of the sessions that this client created.
    session_users: dict[UUID, str] = attrs.field(init=False, factory=dict)
    _customizing: WeakValueDictionary[UUID, asyncio.Lock] = attrs.field(init=False, factory=WeakValueDictionary)
    _closed: bool = attrs.field(init=False, default=False)
    _mailbox_failed: bool = attrs.field(init=False, default=False)
    _outage_told: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.schedule = PollSchedule(self.policy, self.health)
        self.scheduled_polls = asyncio.Semaphore(self.most_polls)

    def check_open(self) -> asyncio.AbstractEventLoop:
        """Return the running loop.

        Raises:
            ClientClosedError: the client is closed.
            WrongLoopError: the client was first used on another loop.
        """
        if self._closed:
            raise ClientClosedError("the client is closed")
        return self.transport.check_loop()

    async def position(self, key: str) -> str | None:
        """Return the id of the key's last delivery, or None without a mailbox or if it fails."""
        if self.mailbox is None:
            return None
        try:
            position = await self.mailbox.position(key)
            if not isinstance(position, str):
                raise TypeError(f"position() returned {type(position).__name__}")  # noqa: TRY301 - as any other failure
        except Exception as error:  # noqa: BLE001 - a mailbox may be the user's own
            self.mailbox_fails(error)
            return None
        self.mailbox_works()
        return position

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
        """Request a new link of a finished export; here, so that results do not keep their pending objects alive."""
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
