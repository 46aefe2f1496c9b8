"""Exports: avatars as GLB models."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from .. import calls, codec
from ..jobs import PendingExport
from ..models import NewExportResponse, RenderStatus, as_uuid
from ..pending import DEFAULT, Default, NotYetError
from ..tokens import read_token

if TYPE_CHECKING:
    from uuid import UUID

    from ..desk import Desk
    from ..results import Export

__all__ = ["Exports"]


class Exports:
    """``client.exports``."""

    __slots__ = ("_desk",)

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def create(self, avatar_id: str | UUID) -> PendingExport:
        """Start the export of an avatar as it is now, or join the one that goes on; await what this returns.

        It is idempotent for one version of an avatar (contract), so it is repeated on any passing failure. For an
        avatar made by direct upload it is undefined until its customization is set.
        """
        avatar = as_uuid(avatar_id, "avatar_id")
        position = await self._desk.position(f"export:{avatar}")
        self._desk.versions.exported(avatar)
        answer = await self._desk.transport.request(calls.create_export(avatar))
        state = codec.load(answer.body, NewExportResponse)
        pending = PendingExport(self._desk, avatar, status=state.status, position=position)
        with suppress(NotYetError):  # ready without a url: the wait looks again
            pending.heard(state, "create")
        return pending

    async def create_and_wait(self, avatar_id: str | UUID, *, timeout: float | Default | None = DEFAULT) -> Export:
        """Create an export and wait for it; `timeout` in seconds is that of the wait."""
        return await (await self.create(avatar_id)).wait(timeout=timeout)

    def resume(self, token: str) -> PendingExport:
        """Return the pending export of a resume token; nothing is sent until it is awaited.

        Raises:
            ConfigurationError: the token belongs to another base_url.
            ValueError: it is no token of an export.
        """
        fields = read_token(token, kind="export", base_url=self._desk.transport.base_url)
        return PendingExport(
            self._desk,
            as_uuid(fields.get("avatar_id", ""), "the token's avatar_id"),
            status=RenderStatus.PENDING,
            position=fields.get("position"),
            created_at=fields["created"],
        )
