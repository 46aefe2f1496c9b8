"""The part of a user in the editor's browser page."""

from typing import Any
from uuid import UUID

from .jobs import Jobs
from .problems import ProblemError
from .records import Scan, Session
from .shapes import CUSTOMIZATION
from .validation import require
from .world import World

__all__ = ["Editor"]


class Editor:
    """End sessions as their users would."""

    def __init__(self, world: World, jobs: Jobs) -> None:
        self._world = world
        self._jobs = jobs

    async def complete(self, session_id: UUID, customization: dict[str, Any] | None) -> UUID:
        """Make the avatar of a session, or customize the one that it is to edit, and return its id."""
        session = self._session(session_id)
        try:
            wanted = require(customization or self._world.outfit(), CUSTOMIZATION, ("body",))
            self._world.check(wanted)
            if session.config["type"] == "edit_existing":
                return self._edit(session, wanted)
            return await self._make(session, wanted)
        except ProblemError as problem:
            raise ValueError(str(problem)) from None

    def _session(self, session_id: UUID) -> Session:
        try:
            return self._world.session(session_id)
        except ProblemError as problem:
            raise LookupError(str(problem)) from None

    def _edit(self, session: Session, wanted: dict[str, Any]) -> UUID:
        avatar = self._world.scanned(UUID(session.config["avatar_id"]))
        self._world.customize(avatar, wanted)
        return avatar.id

    async def _make(self, session: Session, wanted: dict[str, Any]) -> UUID:
        avatar = self._world.new_avatar(session.user_id, session.id)
        self._world.customize(avatar, wanted)
        await self._jobs.start(Scan(avatar))
        return avatar.id
