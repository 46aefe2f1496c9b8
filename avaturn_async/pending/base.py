"""The public surface of a pending object, and resume tokens."""

from __future__ import annotations

import asyncio
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Generator
from functools import partial
from logging import DEBUG, INFO
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID

from ..config import CLIENT_DEFAULT, ClientDefault
from ..errors import (
    APIStatusError,
    AvaturnError,
    ConfigurationError,
    JobFailedError,
    NotReadyError,
    WaitTimeoutError,
    WebhooksRequiredError,
)
from ..models import RenderStatus, ScanStatus
from ..observe.dispatch import UNOBSERVED, new_number
from ..observe.observer import JobInfo
from ..redact import without_query
from ..webhooks.events import Event
from .context import PendingContext, as_timeout
from .race import Race, Reaction
from .results import ResolvedBy

__all__ = ["Pending", "read_token", "write_token"]

T = TypeVar("T")

#: Resume tokens are stored for long, so each release reads the versions of all earlier ones.
_TOKEN_VERSION = 1
#: The year 9999, in seconds since the epoch.
_LATEST = 253_402_300_800
#: Fields of a resume token that are strings if present.
_TOKEN_STRINGS = ("avatar_id", "id", "position", "session_id", "user_id")
#: One object, as each evaluation of -math.inf creates another one.
_NEVER = -math.inf
_WAIT = ("wait_started", "wait_ended")


class Pending(ABC, Generic[T]):
    """An export, render or scan in progress at Avaturn; await it for its result."""

    __slots__ = (
        "__weakref__",
        "_context",
        "_created",
        "_created_at",
        "_events",
        "_last_poll",
        "_next_poll",
        "_outcome",
        "_polls",
        "_position",
        "_race",
        "_request_id",
        "_resolved_by",
        "_status",
        "_trouble",
    )

    _kind: ClassVar[str]
    _noun: ClassVar[str]
    _readable: ClassVar[bool] = True
    _polls_restart: ClassVar[bool] = False

    def __init__(
        self,
        context: PendingContext,
        status: RenderStatus | ScanStatus,
        *,
        position: str | None = None,
        created_at: float | None = None,
        request_id: str | None = None,
    ) -> None:
        """Create the handle of a new job or, with `created_at`, of an earlier one, which is polled immediately.

        `position` is the id of the last delivery from before the creation, if known.
        """
        self._context = context
        self._status = status
        self._outcome: T | AvaturnError | None = None
        self._race: Race | None = None
        self._position = position
        self._last_poll = _NEVER
        self._polls = 0
        self._events = 0
        self._resolved_by: ResolvedBy | None = None
        self._request_id = request_id  # of the last response
        self._trouble = ""
        # Seconds since the epoch, and on the loop's clock if known.
        self._created_at = time.time() if created_at is None else created_at
        self._created = asyncio.get_running_loop().time() if created_at is None else None
        self._next_poll = None if created_at is None else _NEVER
        if context.observers.wants(DEBUG):
            context.observers.tell("job_created", self._info())

    @property
    @abstractmethod
    def avatar_id(self) -> UUID | None:
        """The avatar."""

    @property
    def status(self) -> RenderStatus | ScanStatus:
        """The job's status when it was last seen."""
        return self._status

    async def wait(self, *, timeout: float | ClientDefault | None = CLIENT_DEFAULT) -> T:
        """Wait until the job ends and return its result.

        Any number of awaiters share one schedule of polls and one subscription to the mailbox. Cancelling one, or its
        timeout, affects neither the others nor the job.

        Args:
            timeout: seconds that this awaiter waits; None for no limit. The default is the client's
                ``wait_timeout``. A timeout that ends before the next scheduled poll is preceded by one poll.

        Raises:
            WaitTimeoutError: the timeout passed; the job goes on.
            JobFailedError: the job failed.
            WebhooksRequiredError: the job is a render and the client has no authenticated ``webhooks=``.
            AuthenticationError, PermissionDeniedError: raised immediately; the token is invalid or lacks permission.
            AvaturnError: more than ten consecutive polls failed, or one failed permanently. Every AvaturnError raised
                here carries ``resume_token`` and ``avatar_id``.
            ValueError, TypeError: `timeout` is not a number of seconds of at most a year.
        """
        seconds = self._context.wait_timeout if isinstance(timeout, ClientDefault) else as_timeout(timeout)
        observers = self._context.observers
        observed = observers.wants(INFO)
        with observers.scope(*_WAIT, partial(self._info, wait=new_number())) if observed else UNOBSERVED:
            if self._outcome is None:
                try:
                    loop = self._context.check_open()
                    if not self._readable and (self._context.mailbox is None or not self._context.authenticated):
                        raise WebhooksRequiredError(
                            f"{self} can only be awaited by a client with an authenticated webhooks= receiver or "
                            f"mailbox: the API has no endpoint that reads a {self._noun}"
                        )
                    race = self._race = self._race or Race(self, loop)
                    awaiter = race.join(seconds)
                    try:
                        error = await awaiter
                    finally:
                        race.leave(awaiter)
                    if error is not None:
                        raise error
                    if self._outcome is None and seconds is not None:
                        raise self._timed_out(seconds)
                except AvaturnError as error:
                    self._identify(error)
                    raise
            return self.result()

    def __await__(self) -> Generator[Any, None, T]:
        return self.wait().__await__()

    async def refresh(self) -> RenderStatus | ScanStatus:
        """Poll the job once, now, and return its status.

        Raises:
            AvaturnError: the poll failed; it is not retried.
        """
        try:
            self._context.check_open()
            if self._outcome is None and (failure := await self._poll_once("poll")) is not None:
                try:
                    raise failure
                finally:
                    del failure  # its traceback refers to this frame: a cycle
        except AvaturnError as error:
            self._identify(error)
            raise
        return self._status

    def done(self) -> bool:
        """Return whether the outcome is known. This changes only during a call of `wait` or `refresh`."""
        return self._outcome is not None

    def result(self) -> T:
        """Return the result.

        Raises:
            NotReadyError: the outcome is not known yet.
            JobFailedError: the job failed.
        """
        outcome = self._outcome
        if outcome is not None and not isinstance(outcome, AvaturnError):
            return outcome
        error = (
            NotReadyError(f"{self} has not ended: last seen {without_query(self._status)}")
            if outcome is None
            else outcome.copy()
        )
        self._identify(error)
        raise error

    @property
    def resume_token(self) -> str:
        """JSON from which ``resume`` continues this wait in another process, of this or any later release.

        It never contains the API token.
        """
        fields = {"position": self._position, **self._token_fields()}
        return write_token(self._kind, self._context.transport.base_url, self._created_at, fields)

    def __str__(self) -> str:
        return f"the {self._noun} of avatar {self.avatar_id}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} avatar_id={self.avatar_id} status={without_query(self._status)}>"

    def _timed_out(self, timeout: float) -> WaitTimeoutError:
        details = self._hints()
        details += [f"request id of the last response: {self._request_id}"] if self._request_id else []
        details += [f"last failure: {self._trouble}"] if self._trouble else []
        text = (
            f"{self} did not end within {timeout:g} s; last seen {without_query(self._status)} after "
            f"{self._events} webhooks and {self._polls} polls" + "".join(f"; {detail}" for detail in details)
        )
        return WaitTimeoutError(
            text,
            timeout=timeout,
            status=self._status,
            webhooks=self._events,
            polls=self._polls,
            request_id=self._request_id,
        )

    def _identify(self, error: AvaturnError) -> None:
        error.resume_token = self.resume_token
        error.avatar_id = self.avatar_id

    def _settle(self, outcome: T | AvaturnError, by: ResolvedBy) -> None:
        """Set the outcome, unless there is one already, and wake the awaiters."""
        if self._outcome is not None:
            return
        self._outcome, self._resolved_by = outcome, by
        if self._context.observers.wants(INFO):
            error = type(outcome).__name__ if isinstance(outcome, AvaturnError) else None
            self._context.observers.tell("job_ended", self._info(seconds=self._age(), error=error))
        if by != "create" and self._context.mailbox is not None:
            self._context.health.record(by_webhook=by == "webhook")
        if self._race is not None:
            self._race.finish()

    def _settle_failed(self, by: ResolvedBy) -> None:
        self._status = type(self._status).FAILED
        source = {"create": "the response to its creation", "webhook": "a webhook", "poll": "the API"}[by]
        self._settle(JobFailedError(f"{self} failed, according to {source}", resolved_by=by), by)

    def _age(self) -> float:
        """Return the seconds since the job's creation."""
        now = asyncio.get_running_loop().time()
        if self._created is None:
            self._created = now - max(0.0, time.time() - self._created_at)
        return now - self._created

    async def _poll_once(self, cause: ResolvedBy) -> Exception | None:
        """Poll the job and return the failure of the poll, if it failed; `cause` is what triggered it."""
        self._polls += 1
        loop, failure = asyncio.get_running_loop(), None
        self._last_poll = loop.time()
        try:
            await self._poll(cause)
        except BaseException as error:
            failure = type(error).__name__
            if isinstance(error, APIStatusError):
                self._request_id = error.request_id or self._request_id
            if isinstance(error, Exception):
                return error  # awaiters must get unexpected exceptions instead of hanging
            raise
        finally:
            if self._context.observers.wants(DEBUG):
                facts = self._info(seconds=loop.time() - self._last_poll, error=failure)
                self._context.observers.tell("job_polled", facts)
        return None

    def _info(self, **facts: Any) -> JobInfo:
        """Return the facts about this job for observers."""
        return JobInfo(
            job=self._context.numbers.setdefault(self, new_number()),
            kind=self._kind,
            avatar_id=self.avatar_id,
            render_id=getattr(self, "id", None),
            session_id=getattr(self, "session_id", None),
            status=self._status.value,
            resolved_by=self._resolved_by,
            polls=self._polls,
            webhooks=self._events,
            request_id=self._request_id,
            **facts,
        )

    # For each kind of job.

    @property
    def _key(self) -> str:
        return f"{self._kind}:{self.avatar_id}"

    def _token_fields(self) -> dict[str, Any]:
        return {"avatar_id": str(self.avatar_id)}

    def _hints(self) -> list[str]:
        """Return details for the message of a WaitTimeoutError."""
        return []

    @abstractmethod
    async def _poll(self, cause: ResolvedBy) -> None:
        """Read the job once and settle it if it ended; raise WaitError if the response is incomplete."""

    @abstractmethod
    def _on_event(self, event: Event, *, newer: bool) -> Reaction:
        """Settle the job by an authenticated event, or return the reaction of the race.

        `newer` is whether the event is known to be from after the job's creation.
        """


def write_token(kind: str, base_url: str, created_at: float, fields: dict[str, Any]) -> str:
    """Return the token of a job; `created_at` is the time of its creation in seconds since the epoch."""
    present = {name: value for name, value in fields.items() if value is not None}
    token = {"v": _TOKEN_VERSION, "kind": kind, "base_url": base_url, "created": round(created_at, 3), **present}
    return json.dumps(token, separators=(",", ":"))


def read_token(token: str, *, kind: str, base_url: str) -> dict[str, Any]:
    """Return the fields of a token for a job of that `kind` at `base_url`.

    Raises:
        ValueError: it is not a resume token, or one of another kind or of a later release.
        ConfigurationError: it was made by a client with another base_url.
    """
    try:
        fields = json.loads(token)
    except (ValueError, TypeError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise ValueError("a resume token is the JSON text that .resume_token returned, unchanged")
    created = fields.get("created")
    if isinstance(created, bool) or not isinstance(created, int | float) or not 0 <= created < _LATEST:
        raise ValueError("this resume token does not say when its job was created")
    for name in _TOKEN_STRINGS:
        if not isinstance(fields.get(name, ""), str):
            raise ValueError(f"the {name} in this resume token is not a string")
    if fields.get("v") != _TOKEN_VERSION:
        raise ValueError(
            f"this resume token has version {fields.get('v')!r:.20}, but this release reads up to {_TOKEN_VERSION}"
        )
    if fields.get("kind") != kind:
        raise ValueError(f"this resume token is for the kind {fields.get('kind')!r:.20}, not {kind!r}")
    if fields.get("base_url") != base_url:
        raise ConfigurationError(
            f"this resume token belongs to {fields.get('base_url')!r:.200}, but the client's base_url is {base_url!r}"
        )
    return fields
