"""The observer that writes the log: what an operator wants at INFO, and the story of each job at DEBUG."""

from __future__ import annotations

import logging
import os
from typing import Final

from .observer import BatchInfo, CallInfo, DownloadInfo, JobInfo, Observer, WebhookInfo

__all__ = ["LogObserver", "log_to_stderr"]

logger: logging.Logger = logging.getLogger(__name__)

#: Seconds after which the end of a job is logged at INFO.
SLOW: Final = 60.0


class LogObserver(Observer):
    """Writes to the logger of this module. Outages of mailboxes are logged by the mailboxes."""

    def request_answered(self, info: CallInfo) -> None:
        answer = f"failed ({info.error})" if info.status is None else f"answered {info.status}"
        number = f", attempt {info.attempt}" if info.attempt > 1 else ""
        request_id = f", request id {info.request_id}" if info.request_id else ""
        logger.debug("%s %s %s in %.3f s%s%s", info.method, info.path, answer, info.seconds, number, request_id)

    def request_retried(self, info: CallInfo) -> None:
        reason = info.status or info.error
        logger.debug(
            "%s %s: attempt %d in %.3f s, after %s", info.method, info.path, info.attempt, info.seconds, reason
        )

    def request_held_back(self, info: CallInfo) -> None:
        logger.info("%s %s answered 429: no request is sent for %.3f s", info.method, info.path, info.seconds)

    def job_created(self, info: JobInfo) -> None:
        logger.debug("%s: %s", info, info.status)

    def job_polled(self, info: JobInfo) -> None:
        if info.resolved_by is None:
            logger.debug("%s: %s, says poll %d", info, info.error or info.status, info.polls)

    def job_event_received(self, info: JobInfo) -> None:
        logger.debug("%s: webhook %s received after %.3f s", info, info.event, info.seconds)

    def job_ended(self, info: JobInfo) -> None:
        level = logging.INFO if info.seconds >= SLOW or info.error else logging.DEBUG
        self._log_end(level, f"{info.outcome} by {info.resolved_by}", info)

    def wait_ended(self, info: JobInfo) -> None:
        if info.outcome in ("timed out", "error") and info.resolved_by is None:
            self._log_end(logging.INFO, f"{info.error} (last seen {info.status})", info)

    def _log_end(self, level: int, what: str, info: JobInfo) -> None:
        request_id = f"; last request id {info.request_id}" if info.request_id else ""
        counts = (info.seconds, info.webhooks, info.polls, request_id)
        logger.log(level, "%s: %s after %.3f s, %d webhooks and %d polls%s", info, what, *counts)

    def webhook_answered(self, info: WebhookInfo) -> None:
        about = f"{info.event or 'of an unverified sender'}"
        about += f" for avatar {info.avatar_id}" if info.avatar_id else ""
        logger.debug("webhook %s answered %s in %.3f s", about, info.status or info.error, info.seconds)

    def download_resumed(self, info: DownloadInfo) -> None:
        logger.debug("download of %s resumed after %d bytes", info.url, info.size)

    def download_ended(self, info: DownloadInfo) -> None:
        failure = f" failed ({info.error})" if info.error else ""
        about = f" for avatar {info.avatar_id}" if info.avatar_id else ""
        logger.debug("download of %s%s%s: %d bytes in %.3f s", info.url, about, failure, info.size, info.seconds)

    def batch_item_ended(self, info: BatchInfo) -> None:
        logger.debug("batch item %s: %s", info.item, info.error or "done")

    def batch_ended(self, info: BatchInfo) -> None:
        failure = f" ({info.error})" if info.error else ""
        logger.info("batch ended%s: %d done, %d failed in %.1f s", failure, info.done, info.failed, info.seconds)


class _ScriptHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to stderr, unless the application has configured handlers of its own by then."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            super().emit(record)


def log_to_stderr(level: str) -> None:
    """Log this package at ``"debug"`` or ``"info"`` to stderr: what the environment variable AVATURN_LOG is for."""
    package = logging.getLogger(__name__.partition(".")[0])
    number = {"debug": logging.DEBUG, "info": logging.INFO}.get(level.strip().lower())
    if number is None:
        package.warning("AVATURN_LOG must be debug or info; it is ignored")
        return
    handler = _ScriptHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    package.addHandler(handler)
    package.setLevel(number)


if os.environ.get("AVATURN_LOG"):
    log_to_stderr(os.environ["AVATURN_LOG"])
