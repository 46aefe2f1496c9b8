"""The users, avatars and sessions of the emulator's one project."""

import base64
from collections import OrderedDict
from typing import Any
from uuid import UUID

from .catalogue import SLOTS, Catalogue
from .faults import Dice
from .problems import ProblemError
from .records import Avatar, Export, Render, Session

__all__ = ["World"]

MAX_SESSIONS = 10_000


class World:
    """The state behind the API. Raise `ProblemError` where the API answers an error."""

    def __init__(self, dice: Dice, catalogue: Catalogue) -> None:
        self._ids = dice.of("ids")
        self._catalogue = catalogue
        self._users: dict[str, dict[UUID, Avatar]] = {}
        self._avatars: dict[UUID, Avatar] = {}
        self._sessions: OrderedDict[UUID, Session] = OrderedDict()

    def new_user(self) -> str:
        """Make a user and return its identifier."""
        user_id = base64.b32encode(self._ids.randbytes(20)).decode()
        self._users[user_id] = {}
        return user_id

    def delete_user(self, user_id: str) -> None:
        """Delete a user and all avatars of its."""
        for avatar in self.avatars_of(user_id):
            self._forget(avatar)
        del self._users[user_id]

    def avatars_of(self, user_id: str) -> list[Avatar]:
        """Return a user's avatars, the oldest first."""
        return list(self._user(user_id).values())

    def new_avatar(self, user_id: str, session_id: UUID | None = None) -> Avatar:
        """Make an avatar that waits for its photos."""
        avatar = Avatar(self._new_id(), user_id, session_id)
        self._user(user_id)[avatar.id] = self._avatars[avatar.id] = avatar
        return avatar

    def delete_avatar(self, user_id: str, avatar_id: UUID) -> None:
        """Delete one avatar of a user."""
        avatar = self._user(user_id).get(avatar_id)
        if avatar is None:
            raise ProblemError(404, f"User {user_id} has no avatar {avatar_id}")
        self._forget(avatar)

    def avatar(self, avatar_id: UUID) -> Avatar:
        """Return an avatar in whatever state."""
        avatar = self._avatars.get(avatar_id)
        if avatar is None:
            raise ProblemError(404, f"Avatar {avatar_id} not found")
        return avatar

    def scanned(self, avatar_id: UUID) -> Avatar:
        """Return an avatar that is ready, or raise a 409."""
        avatar = self.avatar(avatar_id)
        if avatar.status != "ready":
            raise ProblemError(409, f"Avatar {avatar_id} is not ready, but {avatar.status}")
        return avatar

    def dressed(self, avatar_id: UUID) -> Avatar:
        """Return an avatar that is ready and customized, or raise a 409: the contract leaves open what others do."""
        avatar = self.scanned(avatar_id)
        if avatar.customization is None:
            raise ProblemError(409, f"Avatar {avatar_id} was made by direct upload and has no customization yet")
        return avatar

    def check(self, given: dict[str, Any]) -> None:
        """Raise the contract's 409, 410 or 422 for a customization that names what can't be worn."""
        self._catalogue.check(given)

    def customize(self, avatar: Avatar, given: dict[str, Any]) -> None:
        """Set a customization of the right shape, if all that it names can be worn."""
        self._catalogue.check(given)
        avatar.customize(_whole(given))

    def export(self, avatar_id: UUID, *, restart: bool) -> tuple[Export, bool]:
        """Return the export of an avatar's current version, and whether it is new."""
        avatar = self.dressed(avatar_id)
        export = avatar.export
        if export is not None and not (restart and export.status == "failed"):
            return export, False
        avatar.export = Export(avatar)
        return avatar.export, True

    def new_render(self, avatar_id: UUID, scene: str, format: str) -> Render:
        """Make a rendering task."""
        return Render(self.dressed(avatar_id), self._new_id(), scene, format)

    def new_session(self, user_id: str, config: dict[str, Any]) -> Session:
        """Make a session; the oldest of ten thousand gives way."""
        avatars = self._user(user_id)
        if config["type"] == "edit_existing" and UUID(config["avatar_id"]) not in avatars:
            raise ProblemError(404, f"User {user_id} has no avatar {config['avatar_id']}")
        session = Session(self._new_id(), user_id, config)
        self._sessions[session.id] = session
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return session

    def session(self, session_id: UUID) -> Session:
        """Return a session."""
        session = self._sessions.get(session_id)
        if session is None:
            raise ProblemError(404, f"Session {session_id} not found")
        return session

    def outfit(self) -> dict[str, Any]:
        """Return the customization that avatars made in the editor have."""
        return self._catalogue.outfit()

    def _user(self, user_id: str) -> dict[UUID, Avatar]:
        avatars = self._users.get(user_id)
        if avatars is None:
            raise ProblemError(404, "User not found")
        return avatars

    def _forget(self, avatar: Avatar) -> None:
        avatar.deleted = True
        del self._avatars[avatar.id]
        del self._users[avatar.user_id][avatar.id]

    def _new_id(self) -> UUID:
        return UUID(bytes=self._ids.randbytes(16), version=4)


def _whole(given: dict[str, Any]) -> dict[str, Any]:
    """Fill in null for what was left out, as the answers have it; fields that nobody knows are kept."""
    blank = dict.fromkeys(("age", "metadata", "bone_scale", "skin_tone_correction"))
    return {**blank, **given, "assets": {**dict.fromkeys(SLOTS), **given["assets"]}}
