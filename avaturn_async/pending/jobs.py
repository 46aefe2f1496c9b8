"""The three kinds of jobs: what reads each, and what its events are worth."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..errors import ResponseFormatError
from ..http import codec, endpoints
from ..models import (
    AvatarListItem,
    AvatarReadyWebhook,
    ExportReadyWebhook,
    ExternalAvatarCustomization,
    NewExportResponse,
    RenderReadyWebhook,
    RenderResult,
    RenderStatus,
    ScanStatus,
)
from .base import NotYetError, Pending, Status
from .results import Export, Render, ResolvedBy

if TYPE_CHECKING:
    from uuid import UUID

    from ..webhooks.mailbox import Delivery
    from .context import Desk

__all__ = ["PendingAvatar", "PendingExport", "PendingRender"]


class PendingExport(Pending[Export]):
    """An export that goes on at Avaturn; await it for an `Export`.

    It is read by repeating POST exports/new, which is idempotent for one version of an avatar (contract).
    """

    __slots__ = ()

    _kind = "export"
    _noun = "export"

    def heard(self, state: NewExportResponse, by: ResolvedBy) -> None:
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
        self.heard(await self._ask(), cause)

    async def _ask(self) -> NewExportResponse:
        answer = await self._desk.transport.request(endpoints.create_export(self.avatar_id, attempts=1))
        return codec.load(answer.body, NewExportResponse)

    def _accept(self, delivery: Delivery) -> None:
        event = delivery.event
        if not isinstance(event, ExportReadyWebhook):
            return
        if event.status is RenderStatus.FAILED and self._believes_failure(delivery):
            self.status = event.status
            self._settle_failed("webhook")
        elif event.status is not RenderStatus.READY:
            self._wake_look()
        elif event.export_url and self._anchored and not self._desk.confirm:
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
            downloader=self._desk.downloader,
            source=self._desk,
        )


class PendingRender(Pending[Render]):
    """A render that goes on at Avaturn; await it for a `Render`.

    No endpoint reads a render (contract), so its end is told by an authenticated webhook alone, by the render's id.
    """

    __slots__ = ("id",)

    _kind = "render"
    _noun = "render"
    _readable = False

    id: UUID

    def __init__(self, desk: Desk, avatar_id: UUID, render_id: UUID, **state: Any) -> None:
        super().__init__(desk, avatar_id, position="", **state)
        self.id = render_id

    @property
    def _key(self) -> str:
        return f"render:{self.id}"

    def _token_fields(self) -> dict[str, Any]:
        return {"id": str(self.id)}

    async def refresh(self) -> Status:
        """Raise TypeError: the API has no endpoint that reads a render."""
        raise TypeError("a render can't be refreshed: the API has no endpoint that reads one; await it")

    async def _read(self, cause: ResolvedBy) -> None:
        await self.refresh()

    def heard(self, state: RenderResult, by: ResolvedBy) -> None:
        """Take in what renders/new answered."""
        self._end(state.status, state.render_url, by)

    def _accept(self, delivery: Delivery) -> None:
        event = delivery.event
        if isinstance(event, RenderReadyWebhook) and event.id == self.id:
            self._end(event.status, event.render_url, "webhook")

    def _end(self, status: RenderStatus, url: str | None, by: ResolvedBy) -> None:
        self.status = status
        if status is RenderStatus.FAILED:
            self._settle_failed(by)
        elif status is RenderStatus.READY and url:
            self._settle(self._render(url, by), by)
        elif status is RenderStatus.READY and by == "webhook":
            self._settle(ResponseFormatError(f"{self} is ready, but its webhook has no url", where="$.render_url"), by)

    def _render(self, url: str, by: ResolvedBy) -> Render:
        return Render(
            id=self.id,
            avatar_id=self.avatar_id,
            url=url,
            resolved_by=by,
            waited=self._waited(),
            downloader=self._desk.downloader,
        )


class PendingAvatar(Pending[AvatarListItem]):
    """An avatar whose photos are being processed; await it for its `AvatarListItem`.

    It is read from the list of its user's avatars. A customization given at its making is set before the wait ends.
    """

    __slots__ = ("_customization", "_customizing", "user_id")

    _kind = "avatar"
    _noun = "scan"

    user_id: str

    def __init__(
        self,
        desk: Desk,
        avatar_id: UUID,
        user_id: str,
        *,
        customization: ExternalAvatarCustomization | None = None,
        **state: Any,
    ) -> None:
        super().__init__(desk, avatar_id, **state)
        self.user_id = user_id
        self._customization = customization
        self._customizing = asyncio.Lock()

    def _token_fields(self) -> dict[str, Any]:
        wanted = self._customization
        return {"user_id": self.user_id, "customization": None if wanted is None else codec.unstructure(wanted)}

    async def _read(self, cause: ResolvedBy) -> None:
        item = await self._find()
        if self.done():
            return
        self.status = item.status
        if item.status is ScanStatus.FAILED:
            self._settle_failed(cause)
        elif item.status is ScanStatus.READY:
            await self._customize()
            self._settle(item, cause)

    async def _find(self) -> AvatarListItem:
        answer = await self._desk.transport.request(
            endpoints.list_avatars(self.user_id, include_not_ready=True, attempts=1)
        )
        for item in codec.load(answer.body, list[AvatarListItem]):
            if item.id == self.avatar_id:
                return item
        raise NotYetError(f"avatar {self.avatar_id} is not among the avatars of its user")

    async def _customize(self) -> None:
        """Set the customization once, whoever asks: each PUT makes a new version."""
        async with self._customizing:
            if self._customization is not None:
                self._desk.versions.revised(self.avatar_id)
                await self._desk.transport.request(endpoints.set_customization(self.avatar_id, self._customization))
                self._customization = None

    def _accept(self, delivery: Delivery) -> None:
        event = delivery.event
        if not isinstance(event, AvatarReadyWebhook):
            return
        if event.status is ScanStatus.FAILED and self._believes_failure(delivery):
            self.status = event.status
            self._settle_failed("webhook")
        elif event.status is not None and event.status is not ScanStatus.READY:
            self._wake_look()
        elif self._desk.confirm or self._customization is not None or not self._anchored:
            self._confirm()
        else:
            self.status = ScanStatus.READY
            self._settle(AvatarListItem(id=self.avatar_id, status=ScanStatus.READY), "webhook")
