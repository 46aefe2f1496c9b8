"""Pending renders."""

from __future__ import annotations

from typing import Any, NoReturn, cast
from uuid import UUID

from ..errors import ResponseFormatError, WebhooksRequiredError
from ..models import RenderReadyWebhook, RenderResult, RenderStatus
from ..webhooks.events import Event
from .base import Pending
from .context import PendingContext
from .race import Reaction
from .results import Render, ResolvedBy

__all__ = ["PendingRender"]


class PendingRender(Pending[Render]):
    """A render in progress at Avaturn; await it for its `Render`.

    No endpoint reads a render (contract), so only an authenticated webhook with the render's id resolves it.

    Attributes:
        id: the rendering task.
        avatar_id: the avatar.
    """

    __slots__ = ("avatar_id", "id")

    _kind = "render"
    _noun = "render"
    _readable = False

    avatar_id: UUID
    id: UUID

    def __init__(
        self,
        context: PendingContext,
        avatar_id: UUID,
        render_id: UUID,
        created: RenderResult | None = None,
        *,
        created_at: float | None = None,
        request_id: str | None = None,
    ) -> None:
        """Create the handle from the response that created the render, or without one for an earlier render."""
        self.avatar_id = avatar_id
        self.id = render_id
        super().__init__(context, RenderStatus.PENDING, position="", created_at=created_at, request_id=request_id)
        if created is not None:
            self._update(created.status, created.render_url, "create")

    @property
    def status(self) -> RenderStatus:
        """The render's status when it was last seen."""
        return cast("RenderStatus", self._status)

    async def refresh(self) -> NoReturn:
        """Raise TypeError: the API has no endpoint that reads a render."""
        raise TypeError("a render can't be refreshed: the API has no endpoint that reads one; await it")

    @property
    def _key(self) -> str:
        return f"render:{self.id}"

    def _token_fields(self) -> dict[str, Any]:
        return {**super()._token_fields(), "id": str(self.id)}

    def _check_webhooks(self) -> None:
        if self._context.mailbox is None or not self._context.authenticated:
            raise WebhooksRequiredError(
                f"{self} can only be awaited by a client with an authenticated webhooks= receiver or mailbox: "
                "the API has no endpoint that reads a render"
            )

    async def _poll(self, cause: ResolvedBy) -> NoReturn:
        await self.refresh()

    def _on_event(self, event: Event, *, newer: bool) -> Reaction:
        if isinstance(event, RenderReadyWebhook) and (event.id, event.avatar_id) == (self.id, self.avatar_id):
            self._update(event.status, event.render_url, "webhook")
        return None

    def _update(self, status: RenderStatus, url: str | None, by: ResolvedBy) -> None:
        self._status = status
        if status is RenderStatus.FAILED:
            self._settle_failed(by)
        elif status is RenderStatus.READY and url:
            render = Render(
                id=self.id,
                avatar_id=self.avatar_id,
                url=url,
                resolved_by=by,
                waited=self._age(),
                downloader=self._context.downloader,
            )
            self._settle(render, by)
        elif status is RenderStatus.READY and by == "webhook":
            self._settle(ResponseFormatError(f"{self} is ready, but its webhook has no url", where="$.render_url"), by)
