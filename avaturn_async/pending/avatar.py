"""Pending avatars: scans of photos."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from ..errors import AvaturnError, WaitError
from ..http import codec, endpoints
from ..models import AvatarListItem, AvatarReadyWebhook, ExternalAvatarCustomization, ScanStatus
from ..webhooks.events import Event
from .base import Pending
from .context import PendingContext
from .race import Reaction
from .results import ResolvedBy

__all__ = ["PendingAvatar"]


class PendingAvatar(Pending[AvatarListItem]):
    """An avatar whose photos are being processed; await it for its `AvatarListItem`.

    It is polled by reading the list of its user's avatars. If it was given a customization, that is set once the scan
    is ready, before the wait ends.

    Attributes:
        avatar_id: the avatar.
        user_id: its user.
    """

    __slots__ = ("_customization", "_customizing", "_may_be_customized", "avatar_id", "user_id")

    _kind = "avatar"
    _noun = "scan"

    avatar_id: UUID
    user_id: str

    def __init__(
        self,
        context: PendingContext,
        avatar_id: UUID,
        user_id: str,
        *,
        customization: ExternalAvatarCustomization | None = None,
        position: str | None = None,
        created_at: float | None = None,
    ) -> None:
        """Make the handle of a scan that begins now or, with `created_at`, began elsewhere."""
        self.avatar_id = avatar_id
        self.user_id = user_id
        super().__init__(context, ScanStatus.PENDING, position=position, created_at=created_at)
        self._customization = customization
        self._customizing = None if customization is None else context.customizing(avatar_id)
        self._may_be_customized = created_at is not None

    @property
    def status(self) -> ScanStatus:
        """The scan's status when it was last seen."""
        return cast("ScanStatus", self._status)

    def _token_fields(self) -> dict[str, Any]:
        wanted = None if self._customization is None else codec.unstructure(self._customization)
        return {**super()._token_fields(), "user_id": self.user_id, "customization": wanted}

    async def _poll(self, cause: ResolvedBy) -> None:
        request = endpoints.list_avatars(self.user_id, include_not_ready=True, attempts=1)
        response = await self._context.transport.request(request)
        self._request_id = response.headers.get("X-Request-Id")
        items = codec.load(response.body, list[AvatarListItem])
        item = next((item for item in items if item.id == self.avatar_id), None)
        if item is None:
            raise WaitError(f"avatar {self.avatar_id} is not in the list of its user's avatars")
        if self._outcome is not None:  # by an event, while this response was on its way
            return
        self._status = item.status
        if item.status is ScanStatus.FAILED:
            self._settle_failed(cause)
        elif item.status is ScanStatus.READY:
            if self._customizing is not None:
                async with self._customizing:
                    await self._customize()
            self._settle(item, cause)

    async def _customize(self) -> None:
        """Set the customization, unless it is set already: each PUT may make a new version of the avatar."""
        wanted = self._customization
        if wanted is None or (self._may_be_customized and await self._is_customized(wanted)):
            self._customization = None
            return
        self._may_be_customized = True  # from now on, even if this fails
        await self._context.transport.request(endpoints.set_customization(self.avatar_id, wanted, attempts=1))
        self._customization = None

    async def _is_customized(self, wanted: ExternalAvatarCustomization) -> bool:
        try:
            response = await self._context.transport.request(endpoints.get_customization(self.avatar_id, attempts=1))
            return codec.load(response.body, ExternalAvatarCustomization) == wanted
        except AvaturnError:
            return False

    def _on_event(self, event: Event, *, newer: bool) -> Reaction:
        if not isinstance(event, AvatarReadyWebhook) or event.avatar_id != self.avatar_id:
            return None  # from a faulty mailbox
        if event.user_id not in (None, self.user_id):
            return None
        if event.status is ScanStatus.FAILED:
            return "check failure"
        if event.status not in (None, ScanStatus.READY):
            return "poll"
        odd = {"user_id", "status"} & event.extra.keys()  # of an unexpected type
        if self._context.confirm or not newer or odd or self._customization is not None:
            return "confirm"
        self._status = ScanStatus.READY
        self._settle(AvatarListItem(id=self.avatar_id, status=ScanStatus.READY), "webhook")
        return None
