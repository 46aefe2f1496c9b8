"""What all waits of one client share: its transport, its mailbox, its policies, and the list of who waits."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from ..config import PollPolicy
from ..errors import AvaturnError, ClientClosedError, TransportError, WaitError
from ..http import codec, endpoints
from ..models import NewExportResponse, RenderStatus
from .polling import HintBudget, Pace, WebhookEvidence
from .timetable import Timetable

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextvars import Context
    from uuid import UUID

    from ..downloads.downloader import Downloader
    from ..http.transport import Transport
    from ..webhooks.mailbox import Mailbox

__all__ = ["PendingContext"]

logger = logging.getLogger(__name__)


class _Waiting(Protocol):
    def fail(self, error: Exception) -> None: ...


@attrs.define(kw_only=True, eq=False)
class PendingContext:
    """The shared part of a client's pending objects.

    At most `most_polls` of them look at once by their schedule: however many wait, their users' own calls and what a
    webhook woke find a connection, where there is more than one.
    """

    transport: Transport
    downloader: Downloader
    policy: PollPolicy = attrs.field(factory=PollPolicy)
    mailbox: Mailbox | None = None
    authenticated: bool = True
    confirm: bool = True
    wait_timeout: float | None = 900
    most_polls: int = 33
    evidence: WebhookEvidence = attrs.field(factory=WebhookEvidence)
    hints: HintBudget = attrs.field(factory=HintBudget)
    timetable: Timetable = attrs.field(init=False, factory=Timetable)
    polling: asyncio.Semaphore = attrs.field(init=False)
    pace: Pace = attrs.field(init=False)
    armed: set[_Waiting] = attrs.field(init=False, factory=set)
    _tasks: set[asyncio.Task[None]] = attrs.field(init=False, factory=set)
    _closed: bool = attrs.field(init=False, default=False)
    _mailbox_lost: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.pace = Pace(self.policy, self.evidence)
        self.polling = asyncio.Semaphore(self.most_polls)

    def check_open(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, or raise ClientClosedError or WrongLoopError."""
        if self._closed:
            raise ClientClosedError("the client is closed")
        return self.transport.check_loop()

    async def position(self, key: str) -> str | None:
        """Return the key's position in the mailbox, or None where there is no mailbox or its store can't be reached."""
        if self.mailbox is None:
            return None
        try:
            position = await self.mailbox.position(key)
        except (AvaturnError, OSError) as error:
            self._told_of(error)
            return None
        self._mailbox_lost = False
        return position

    def _told_of(self, error: Exception) -> None:
        """Warn once for each time that the mailbox is lost, unless it says so itself."""
        logged = isinstance(error, TransportError)  # by the mailbox
        if not logged and not self._mailbox_lost:
            logger.warning("the mailbox can't be read (%s); waiting goes on by polling", type(error).__name__)
        self._mailbox_lost = True

    async def fresh_url(self, avatar_id: UUID) -> str:
        """Ask for an export's link again; here, so that a result need not keep alive the pending that it came from."""
        answer = await self.transport.request(endpoints.create_export(avatar_id))
        state = codec.load(answer.body, NewExportResponse)
        if state.status is RenderStatus.READY and state.url:
            return state.url
        raise WaitError(f"the export of avatar {avatar_id} has no url any more: it is {state.status}; export it again")

    def spawn(self, work: Coroutine[Any, Any, None], context: Context) -> asyncio.Task[None]:
        """Run `work`, which calls `ended` itself, in a task that `aclose` ends and that is cancelled by `cancel` alone.

        A callback for each task that ends would be a turn of the loop for each look.
        """
        task = asyncio.get_running_loop().create_task(work, context=context)
        if not task.done():  # as it is where tasks begin at once
            self._tasks.add(task)
        return task

    def ended(self, task: asyncio.Task[Any] | None) -> None:
        """Forget a task that is about to end."""
        if task is not None:
            self._tasks.discard(task)

    def cancel(self, task: asyncio.Task[None]) -> None:
        """Cancel a task; if it has not begun, it never will, and can't say that it ended."""
        task.add_done_callback(self._tasks.discard)
        task.cancel()

    async def aclose(self) -> None:
        """End every wait with ClientClosedError, and every read."""
        self._closed = True
        for waiting in tuple(self.armed):
            waiting.fail(ClientClosedError("the client was closed while this was awaited; the remote job goes on"))
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
