"""The kinds of jobs: exports, renders, scans and sessions."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NoReturn, cast
from uuid import UUID

from ..errors import AvaturnError, ResponseFormatError, WaitError
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
from ..webhooks.events import Event, keys_of
from .base import Pending
from .context import PendingContext
from .race import Reaction
from .results import Export, Render, ResolvedBy

__all__ = ["PendingAvatar", "PendingExport", "PendingRender", "PendingSession"]


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
                waited=0.0 if by == "create" else self._age(),
                polls=self._polls,
                downloader=self._context.downloader,
                source=self._context,
            )
            self._settle(export, by)


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
                waited=0.0 if by == "create" else self._age(),
                downloader=self._context.downloader,
            )
            self._settle(render, by)
        elif status is RenderStatus.READY and by == "webhook":
            self._settle(ResponseFormatError(f"{self} is ready, but its webhook has no url", where="$.render_url"), by)


class _Listed(Pending[AvatarListItem]):
    """A job that is polled by reading the list of a user's avatars."""

    __slots__ = ("user_id",)

    user_id: str

    @property
    def status(self) -> ScanStatus:
        """The status of the avatar when it was last seen; pending while a session has none."""
        return cast("ScanStatus", self._status)

    async def _read_list(self) -> list[AvatarListItem]:
        request = endpoints.list_avatars(self.user_id, include_not_ready=True, attempts=1)
        response = await self._context.transport.request(request)
        self._request_id = response.headers.get("X-Request-Id")
        return codec.load(response.body, list[AvatarListItem])


class PendingAvatar(_Listed):
    """An avatar whose photos are being processed; await it for its `AvatarListItem`.

    It is polled by reading the list of its user's avatars. A customization is set once the scan is ready, before the
    wait ends.

    Attributes:
        avatar_id: the avatar.
        user_id: its user.
    """

    __slots__ = ("_customization", "_customizing", "_may_be_customized", "avatar_id")

    _kind = "avatar"
    _noun = "scan"

    avatar_id: UUID

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
        """Create the handle of a new scan or, with `created_at`, of an earlier one."""
        self.avatar_id = avatar_id
        self.user_id = user_id
        super().__init__(context, ScanStatus.PENDING, position=position, created_at=created_at)
        self._customization = customization
        self._customizing = None if customization is None else context.customizing(avatar_id)
        self._may_be_customized = created_at is not None

    def _token_fields(self) -> dict[str, Any]:
        wanted = None if self._customization is None else codec.unstructure(self._customization)
        return {**super()._token_fields(), "user_id": self.user_id, "customization": wanted}

    async def _poll(self, cause: ResolvedBy) -> None:
        item = next((item for item in await self._read_list() if item.id == self.avatar_id), None)
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
                    if not await self._customize():
                        return
            self._settle(item, cause)

    async def _customize(self) -> bool:
        """Set the customization, unless it is set already: each PUT may make a new version of the avatar.

        Return False if another process is doing that; a later poll sees whether it succeeded.
        """
        wanted = self._customization
        if wanted is not None and not (self._may_be_customized and await self._is_customized(wanted)):
            self._may_be_customized = True  # from now on, even if this fails
            if not await self._context.claim(f"customization:{self.avatar_id}"):
                return False
            await self._context.transport.request(endpoints.set_customization(self.avatar_id, wanted, attempts=1))
        self._customization = None
        return True

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


class PendingSession(_Listed):
    """A session in which a user makes an avatar; await it for the avatar's `AvatarListItem`.

    The avatar is found by a webhook that names the session, or in the list of the user's avatars as one that was added
    since the first poll. Once it is found, its webhooks count unless they name another session. The wait does not end
    if the user leaves the session, or edits an existing avatar without such a webhook.

    Attributes:
        session_id: the session.
        user_id: its user.
        avatar_id: the avatar, or None until it is found.
    """

    __slots__ = ("_known", "avatar_id", "session_id")

    _kind = "session"
    _noun = "session"

    avatar_id: UUID | None
    session_id: UUID

    def __init__(
        self,
        context: PendingContext,
        session_id: UUID,
        user_id: str,
        *,
        created_at: float,
        known: Collection[UUID] | None = None,
    ) -> None:
        """Create the handle of a session; `known` are the avatars that the user had at its first poll."""
        self.avatar_id = None
        self.session_id = session_id
        self.user_id = user_id
        self._known = None if known is None else set(known)
        super().__init__(context, ScanStatus.PENDING, created_at=created_at)

    def __str__(self) -> str:
        return f"session {self.session_id}"

    def __repr__(self) -> str:
        return f"<PendingSession session_id={self.session_id} avatar_id={self.avatar_id} status={self._status.value}>"

    @property
    def _key(self) -> str:
        return f"session:{self.session_id}" if self.avatar_id is None else f"avatar:{self.avatar_id}"

    def _token_fields(self) -> dict[str, Any]:
        known = None if self._known is None else sorted(map(str, self._known))
        return {"session_id": str(self.session_id), "user_id": self.user_id, "known": known, "position": None}

    def _hints(self) -> list[str]:
        return [] if self.avatar_id else ["no new avatar of the user was found, so the editor may have been closed"]

    async def _poll(self, cause: ResolvedBy) -> None:
        items = await self._read_list()
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
