"""Sessions: links that open the Avaturn UI for a user."""

from __future__ import annotations

import time

from ..http import codec, endpoints
from ..models import NewSessionRequest, NewSessionResponse, SessionConfig, as_uuid
from ..pending.base import read_token
from ..pending.context import PendingContext
from ..pending.jobs import PendingSession

__all__ = ["Sessions"]

#: Sessions whose users a client remembers.
_MAX_SESSIONS = 10_000


class Sessions:
    """``client.sessions``."""

    __slots__ = ("_context",)

    def __init__(self, context: PendingContext) -> None:
        self._context = context

    async def create(self, user_id: str, config: SessionConfig | None = None) -> NewSessionResponse:
        """Create a session. Its link is short-lived: create one for each use (contract).

        Each request creates another session, so it is retried only if nothing was sent, or on 429 and 503.

        Args:
            user_id: the user whose avatars the session shows or creates.
            config: what the link opens; default: the dashboard if the user has avatars, else the creation flow.
        """
        request = NewSessionRequest(user_id=user_id, config=config)
        response = await self._context.transport.request(endpoints.create_session(request))
        session, users = codec.load(response.body, NewSessionResponse), self._context.session_users
        users[session.id] = user_id
        if len(users) > _MAX_SESSIONS:
            del users[next(iter(users))]
        return session

    def pending(self, session: NewSessionResponse, *, user_id: str | None = None) -> PendingSession:
        """Return the avatar that a user makes in a session, to be awaited; nothing is sent until then.

        Start the wait before the user opens the link: avatars that exist at its first poll do not count.

        Args:
            session: the session, as `create` returned it.
            user_id: its user; needed only if another client created the session.

        Raises:
            ValueError: the session's user is not known.
        """
        user = user_id or self._context.session_users.get(session.id)
        if user is None:
            raise ValueError(f"this client did not create session {session.id}: pass user_id=")
        return PendingSession(self._context, session.id, user, created_at=time.time())

    def resume(self, token: str) -> PendingSession:
        """Return the pending session of a resume token; nothing is sent until it is awaited.

        Raises:
            ConfigurationError: the token belongs to another base_url.
            ValueError: it is not the resume token of a session.
        """
        fields = read_token(token, kind="session", base_url=self._context.transport.base_url)
        known = fields.get("known")
        if known is not None and not isinstance(known, list):
            raise ValueError("the known avatars in this resume token are not a list")
        return PendingSession(
            self._context,
            as_uuid(fields.get("session_id", ""), "the token's session_id"),
            str(fields.get("user_id", "")),
            created_at=fields["created"],
            known=None if known is None else [as_uuid(each, "a known avatar of the token") for each in known],
        )
