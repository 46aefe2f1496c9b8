"""The base class of observers, and the facts that its methods receive.

No fact is the token, a webhook secret or the query of a signed link. All durations are in seconds.
"""

from __future__ import annotations

from typing import Literal, TypeAlias
from uuid import UUID

import attrs

__all__ = ["BatchInfo", "CallInfo", "DownloadInfo", "JobInfo", "MailboxInfo", "Observer", "Outcome", "WebhookInfo"]

Outcome: TypeAlias = Literal["resolved", "failed", "timed out", "cancelled", "error"]

_OUTCOMES: dict[str | None, Outcome] = {
    None: "resolved",
    "JobFailedError": "failed",
    "WaitTimeoutError": "timed out",
    "CancelledError": "cancelled",
    "GeneratorExit": "cancelled",  # the loop of an awaiter was torn down
}


@attrs.frozen(kw_only=True)
class CallInfo:
    """A call of the API, or a photo upload, with all its attempts.

    Attributes:
        call: number of the call, the same for all its attempts and unique in the process.
        method: HTTP method.
        path: template of the path, such as ``/api/v1/avatars/{avatar_id}/customization``; ``upload_url`` for an upload.
        url: the url without its query; of an upload, scheme and host alone.
        attempt: number of the attempt, from 1; in `Observer.call_ended`, how many there were.
        status: HTTP status of the last response, or None if there was none.
        request_id: its ``X-Request-Id``.
        seconds: how long the attempt or the call took; the delay before the next attempt; the length of a hold-back.
        error: name of the exception's class, if the attempt or the call failed.
    """

    call: int
    method: str
    path: str
    url: str
    attempt: int = 0
    status: int | None = None
    request_id: str | None = None
    seconds: float = 0.0
    error: str | None = None


@attrs.frozen(kw_only=True)
class JobInfo:
    """A pending object or, if `wait` is set, one ``wait()`` for it.

    Attributes:
        job: number of the pending object, unique in the process.
        wait: number of the wait, unique in the process; 0 in facts about the job.
        kind: ``"export"``, ``"render"``, ``"avatar"`` (a scan) or ``"session"``.
        avatar_id: the avatar; None for a session whose avatar is not known yet.
        render_id: the render, if it is one.
        session_id: the session, if it is one.
        status: the job's status when it was last seen.
        resolved_by: ``"create"``, ``"webhook"`` or ``"poll"`` once the job has ended.
        polls: how often it was polled.
        webhooks: how many of its events were received.
        request_id: ``X-Request-Id`` of the last response about it.
        event: name of the event that was received.
        traceparent: W3C trace context in which the receiver took that event, if known.
        seconds: since the job's creation; of a wait, since its start; of a poll, how long it took.
        error: name of the exception's class, if the poll, job or wait failed.
    """

    job: int
    wait: int = 0
    kind: str
    avatar_id: UUID | None
    render_id: UUID | None = None
    session_id: UUID | None = None
    status: str
    resolved_by: str | None = None
    polls: int = 0
    webhooks: int = 0
    request_id: str | None = None
    event: str | None = None
    traceparent: str | None = None
    seconds: float = 0.0
    error: str | None = None

    @property
    def outcome(self) -> Outcome:
        """How the job or wait ended; meaningful in `Observer.job_ended` and `Observer.wait_ended`."""
        return _OUTCOMES.get(self.error, "error")

    def __str__(self) -> str:
        avatar = f"{self.kind} of avatar {self.avatar_id}"
        if self.kind == "session":
            return f"session {self.session_id}"
        return f"render {self.render_id} of avatar {self.avatar_id}" if self.render_id else avatar


@attrs.frozen(kw_only=True)
class WebhookInfo:
    """A request that reached the receiver.

    Attributes:
        webhook: number of the request, unique in the process.
        event: name of the event, once the sender is verified and the body is parsed; or ``"unknown"``.
        avatar_id: the avatar of the event.
        traceparent: the W3C trace context that the request's header named.
        status: the status of the reply.
        seconds: how long it took to process.
        error: name of the exception's class, if processing it raised.
    """

    webhook: int
    event: str | None = None
    avatar_id: UUID | None = None
    traceparent: str | None = None
    status: int | None = None
    seconds: float = 0.0
    error: str | None = None


@attrs.frozen(kw_only=True)
class MailboxInfo:
    """The outage of a mailbox.

    Attributes:
        mailbox: name of the mailbox's class.
        error: name of the exception's class.
    """

    mailbox: str
    error: str | None = None


@attrs.frozen(kw_only=True)
class DownloadInfo:
    """The transfer of one file.

    Attributes:
        download: number of the download, unique in the process.
        url: the link without its query.
        avatar_id: the avatar that the file is of.
        size: bytes of the file so far, including those that an earlier call left.
        received: bytes that this call received.
        seconds: how long it took.
        error: name of the exception's class, if it failed.
    """

    download: int
    url: str
    avatar_id: UUID | None = None
    size: int = 0
    received: int = 0
    seconds: float = 0.0
    error: str | None = None


@attrs.frozen(kw_only=True)
class BatchInfo:
    """A batch, or in `Observer.batch_item_ended` one of its items.

    Attributes:
        batch: number of the batch, unique in the process.
        item: the item's avatar id, as it was given if it is no UUID.
        attempts: how often the item's export was created, in this run and earlier ones.
        done: items that have succeeded so far.
        failed: items that have failed so far.
        seconds: how long the batch took.
        error: name of the exception's class, if the item or the batch failed.
    """

    batch: int
    item: UUID | str | None = None
    attempts: int = 0
    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    error: str | None = None


class Observer:
    """Base of observers, whose methods do nothing: override those that you want.

    Pass instances as ``AvaturnClient(observers=[...])`` and ``WebhookReceiver(observers=[...])``. Methods are plain
    functions and must return quickly: they are called on the event loop, a receiver's on any loop and thread that calls
    it. What one raises is logged once for each observer and has no other effect.

    Every ``..._started`` is followed by one ``..._ended`` with the same number, also after errors and cancellation.
    """

    def call_started(self, info: CallInfo) -> None:
        """A call of the API began."""

    def request_sent(self, info: CallInfo) -> None:
        """An attempt begins: it has a connection slot, and rate limit and hold-back allow it."""

    def request_answered(self, info: CallInfo) -> None:
        """An attempt ended with a response or failed without one."""

    def request_retried(self, info: CallInfo) -> None:
        """Another attempt, number `CallInfo.attempt`, follows after `CallInfo.seconds`."""

    def request_held_back(self, info: CallInfo) -> None:
        """A 429 holds back every request of the client for `CallInfo.seconds`."""

    def call_ended(self, info: CallInfo) -> None:
        """A call ended."""

    def job_created(self, info: JobInfo) -> None:
        """A pending object was made, for a new job or for one that goes on."""

    def job_polled(self, info: JobInfo) -> None:
        """A poll ended; `JobInfo.error` is set if it failed."""

    def job_event_received(self, info: JobInfo) -> None:
        """An event for the job came from the mailbox, during a wait."""

    def job_ended(self, info: JobInfo) -> None:
        """The outcome of the job became known; once for each pending object."""

    def wait_started(self, info: JobInfo) -> None:
        """A call of ``wait()`` began, in the awaiter's task."""

    def wait_ended(self, info: JobInfo) -> None:
        """A call of ``wait()`` ended, in the awaiter's task: `JobInfo.outcome` says how."""

    def webhook_received(self, info: WebhookInfo) -> None:
        """A receiver begins to process a request whose body it has read, or to refuse another one."""

    def webhook_answered(self, info: WebhookInfo) -> None:
        """A receiver answers that request."""

    def mailbox_failed(self, info: MailboxInfo) -> None:
        """An outage of the mailbox began."""

    def mailbox_recovered(self, info: MailboxInfo) -> None:
        """An outage of the mailbox ended."""

    def download_started(self, info: DownloadInfo) -> None:
        """The transfer of a file began."""

    def download_resumed(self, info: DownloadInfo) -> None:
        """The server goes on after the first `DownloadInfo.size` bytes."""

    def download_ended(self, info: DownloadInfo) -> None:
        """The transfer of a file ended."""

    def batch_started(self, info: BatchInfo) -> None:
        """A batch began to work."""

    def batch_item_ended(self, info: BatchInfo) -> None:
        """An item of a batch has its outcome."""

    def batch_ended(self, info: BatchInfo) -> None:
        """A batch has no more work, or was left."""

    def traceparent(self) -> str | None:
        """Return the W3C trace context to keep with the event being processed; None keeps that of its request."""
        return None
