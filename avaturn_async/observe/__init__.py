"""See what a client and a receiver do: observers, the log that one of them writes, and OpenTelemetry."""

from __future__ import annotations

from .observer import BatchInfo, CallInfo, DownloadInfo, JobInfo, MailboxInfo, Observer, WebhookInfo

__all__ = ["BatchInfo", "CallInfo", "DownloadInfo", "JobInfo", "MailboxInfo", "Observer", "WebhookInfo"]
