"""Pending sessions: avatars that users make in the Avaturn UI."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast
from uuid import UUID

from ..http import codec, endpoints
from ..models import AvatarListItem, AvatarReadyWebhook, ScanStatus
from ..webhooks.events import Event, keys_of
from .base import Pending
from .context import PendingContext
from .race import Reaction
from .results import ResolvedBy

__all__ = ["PendingSession"]


class PendingSession(Pending[AvatarListItem]):
    """A session in which a user makes an avatar; await it for the avatar's `AvatarListItem`.

    The avatar is found by a webhook that names the session, or in the list of the user's avatars, as one that was not
    there at the first poll; from then on its webhook counts, unless that names another session. A session that the user
    leaves does not end, nor, without such a webhook, one that edits an existing avatar.

    Attributes:
        session_id: the session.
        user_id: its user.
        avatar_id: the avatar, or None until it is found.
    """

    __slots__ = ("_known", "avatar_id", "session_id", "user_id")

    _kind = "session"
    _noun = "session"

    avatar_id: UUID | None
    session_id: UUID
    user_id: str

    def __init__(
        self,
        context: PendingContext,
        session_id: UUID,
        user_id: str,
        *,
        created_at: float,
        known: Collection[UUID] | None = None,
    ) -> None:
        """Make the handle of a session; `known` are the avatars that the user had when it was first polled."""
        self.avatar_id = None
        self.session_id = session_id
        self.user_id = user_id
        self._known = None if known is None else set(known)
        super().__init__(context, ScanStatus.PENDING, created_at=created_at)

    @property
    def status(self) -> ScanStatus:
        """The status of the avatar when it was last seen; pending until it is found."""
        return cast("ScanStatus", self._status)

    def __str__(self) -> str:
        return f"session {self.session_id}"

    def __repr__(self) -> str:
        return f"<PendingSession session_id={self.session_id} avatar_id={self.avatar_id} status={self._status.value}>"

    @property
    def _key(self) -> str | None:
        return f"session:{self.session_id}" if self.avatar_id is None else f"avatar:{self.avatar_id}"

    def _token_fields(self) -> dict[str, Any]:
        known = None if self._known is None else sorted(map(str, self._known))
        return {"session_id": str(self.session_id), "user_id": self.user_id, "known": known, "position": None}

    def _hints(self) -> list[str]:
        return [] if self.avatar_id else ["no new avatar of the user was found, so the editor may have been closed"]

    async def _poll(self, cause: ResolvedBy) -> None:
        request = endpoints.list_avatars(self.user_id, include_not_ready=True, attempts=1)
        response = await self._context.transport.request(request)
        self._request_id = response.headers.get("X-Request-Id")
        items = codec.load(response.body, list[AvatarListItem])
        if self._known is None:
            self._known = {item.id for item in items if item.id != self.avatar_id}
        found = [item for item in items if item.id not in self._known]
        found.sort(key=lambda item: item.id != self.avatar_id)
        if not found or self._outcome is not None:
            return
        item = next((item for item in found if item.status is ScanStatus.READY), found[-1])
        self.avatar_id, self._status = item.id, item.status
        if item.status is ScanStatus.READY:
            self._settle(item, cause)
        elif all(item.status is ScanStatus.FAILED for item in found):  # otherwise the user tried again
            self._settle_failed(cause)

    def _on_event(self, event: Event, *, newer: bool) -> Reaction:
        keys = keys_of(event)
        if not isinstance(event, AvatarReadyWebhook) or self._key not in keys:
            return None  # from a faulty mailbox
        if event.user_id not in (None, self.user_id):
            return None
        if self.avatar_id is None:
            self.avatar_id = event.avatar_id
            if self._known is not None:
                self._known.discard(event.avatar_id)
        elif len(keys) > 1 and f"session:{self.session_id}" not in keys:
            self._known = {*(self._known or ()), event.avatar_id}
            self.avatar_id, self._status = None, ScanStatus.PENDING
            return "poll"
        return "check failure" if event.status is ScanStatus.FAILED else "confirm"
