"""Pending exports."""

from __future__ import annotations

from typing import cast
from uuid import UUID

from ..errors import WaitError
from ..http import codec, endpoints
from ..models import ExportReadyWebhook, NewExportResponse, RenderStatus
from ..webhooks.events import Event
from .base import Pending
from .context import PendingContext
from .race import Reaction
from .results import Export, ResolvedBy

__all__ = ["PendingExport"]


class PendingExport(Pending[Export]):
    """An export in progress at Avaturn; await it for its `Export`.

    It is polled by repeating POST exports/new, which is idempotent for one version of an avatar (contract).
    """

    __slots__ = ("avatar_id",)

    _kind = "export"
    _noun = "export"
    _polls_restart = True

    avatar_id: UUID

    def __init__(
        self,
        context: PendingContext,
        avatar_id: UUID,
        created: NewExportResponse | None = None,
        *,
        position: str | None = None,
        created_at: float | None = None,
        request_id: str | None = None,
    ) -> None:
        """Create the handle from the response that created the export, or without one for an earlier export."""
        status = RenderStatus.PENDING if created is None else created.status
        self.avatar_id = avatar_id
        super().__init__(context, status, position=position, created_at=created_at, request_id=request_id)
        if created is not None and (created.url or status is not RenderStatus.READY):
            self._update(status, created.url, "create")

    @property
    def status(self) -> RenderStatus:
        """The export's status when it was last seen."""
        return cast("RenderStatus", self._status)

    async def _poll(self, cause: ResolvedBy) -> None:
        response = await self._context.transport.request(endpoints.create_export(self.avatar_id, attempts=1))
        self._request_id = response.headers.get("X-Request-Id")
        state = codec.load(response.body, NewExportResponse)
        if self._outcome is None:  # unless an event resolved it during the request
            self._update(state.status, state.url, cause)

    def _on_event(self, event: Event, *, newer: bool) -> Reaction:
        if not isinstance(event, ExportReadyWebhook) or event.avatar_id != self.avatar_id:
            return None  # from a faulty mailbox
        if event.status is RenderStatus.FAILED:
            return "check failure"
        if event.status is not RenderStatus.READY:
            return "poll"
        if self._context.confirm or not newer or not event.export_url:
            return "confirm"
        self._update(event.status, event.export_url, "webhook")
        return None

    def _update(self, status: RenderStatus, url: str | None, by: ResolvedBy) -> None:
        self._status = status
        if status is RenderStatus.FAILED:
            self._settle_failed(by)
        elif status is RenderStatus.READY:
            if not url:
                raise WaitError(f"{self} is reported ready without a url")
            export = Export(
                avatar_id=self.avatar_id,
                url=url,
                resolved_by=by,
                waited=self._age(),
                polls=self._polls,
                downloader=self._context.downloader,
                source=self._context,
            )
            self._settle(export, by)
