"""Pending renders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ResponseFormatError
from ..models import RenderReadyWebhook, RenderResult, RenderStatus
from .base import Pending, Status
from .results import Render, ResolvedBy

if TYPE_CHECKING:
    from uuid import UUID

    from ..webhooks.mailbox import Delivery
    from .context import PendingContext

__all__ = ["PendingRender"]


class PendingRender(Pending[Render]):
    """A render that goes on at Avaturn; await it for a `Render`.

    No endpoint reads a render (contract), so its end is told by an authenticated webhook alone, by the render's id.
    """

    __slots__ = ("id",)

    _kind = "render"
    _noun = "render"
    _readable = False

    id: UUID

    def __init__(self, context: PendingContext, avatar_id: UUID, render_id: UUID, **state: Any) -> None:
        super().__init__(context, avatar_id, position="", **state)
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

    def update_from(self, state: RenderResult, by: ResolvedBy) -> None:
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
            downloader=self._context.downloader,
        )
