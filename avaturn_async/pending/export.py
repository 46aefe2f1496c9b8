"""Pending exports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..http import codec, endpoints
from ..models import ExportReadyWebhook, NewExportResponse, RenderStatus
from .base import NotYetError, Pending
from .results import Export, ResolvedBy

if TYPE_CHECKING:
    from ..webhooks.mailbox import Delivery

__all__ = ["PendingExport"]


class PendingExport(Pending[Export]):
    """An export that goes on at Avaturn; await it for an `Export`.

    It is read by repeating POST exports/new, which is idempotent for one version of an avatar (contract).
    """

    __slots__ = ()

    _kind = "export"
    _noun = "export"

    def update_from(self, state: NewExportResponse, by: ResolvedBy) -> None:
        """Take in what exports/new answered."""
        if self.done():  # an answer that comes late does not take the end back
            return
        self.status = state.status
        if state.status is RenderStatus.FAILED:
            self._settle_failed(by)
        elif state.status is RenderStatus.READY:
            if not state.url:
                raise NotYetError(f"{self} is said to be ready, but without a url")
            self._settle(self._export(state.url, by), by)

    async def _read(self, cause: ResolvedBy) -> None:
        self.update_from(await self._ask(), cause)

    async def _ask(self) -> NewExportResponse:
        answer = await self._context.transport.request(endpoints.create_export(self.avatar_id, attempts=1))
        return codec.load(answer.body, NewExportResponse)

    def _accept(self, delivery: Delivery) -> None:
        event = delivery.event
        if not isinstance(event, ExportReadyWebhook):
            return
        if event.status is RenderStatus.FAILED:
            self._on_failed_event()
        elif event.status is not RenderStatus.READY:
            self._wake_look()
        elif event.export_url and self._anchored and not self._context.confirm:
            self.status = event.status
            self._settle(self._export(event.export_url, "webhook"), "webhook")
        else:
            self._confirm()

    def _export(self, url: str, by: ResolvedBy) -> Export:
        return Export(
            avatar_id=self.avatar_id,
            url=url,
            resolved_by=by,
            waited=self._waited(),
            polls=self._polls,
            downloader=self._context.downloader,
            source=self._context,
        )
