"""Pending avatars: scans of photos."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..http import codec, endpoints
from ..models import AvatarListItem, AvatarReadyWebhook, ExternalAvatarCustomization, ScanStatus
from .base import NotYetError, Pending

if TYPE_CHECKING:
    from uuid import UUID

    from ..webhooks.mailbox import Delivery
    from .context import PendingContext
    from .results import ResolvedBy

__all__ = ["PendingAvatar"]


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
        context: PendingContext,
        avatar_id: UUID,
        user_id: str,
        *,
        customization: ExternalAvatarCustomization | None = None,
        **state: Any,
    ) -> None:
        super().__init__(context, avatar_id, **state)
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
        answer = await self._context.transport.request(
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
                await self._context.transport.request(endpoints.set_customization(self.avatar_id, self._customization))
                self._customization = None

    def _accept(self, delivery: Delivery) -> None:
        event = delivery.event
        if not isinstance(event, AvatarReadyWebhook):
            return
        if event.status is ScanStatus.FAILED:
            self._on_failed_event()
        elif event.status is not None and event.status is not ScanStatus.READY:
            self._wake_look()
        elif self._context.confirm or self._customization is not None or not self._anchored:
            self._confirm()
        else:
            self.status = ScanStatus.READY
            self._settle(AvatarListItem(id=self.avatar_id, status=ScanStatus.READY), "webhook")
