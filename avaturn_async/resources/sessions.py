"""Sessions: short-lived links that open the Avaturn UI for a user."""

from __future__ import annotations

from ..http import codec, endpoints
from ..http.transport import Transport
from ..models import NewSessionRequest, NewSessionResponse, SessionConfig

__all__ = ["Sessions"]


class Sessions:
    """``client.sessions``."""

    __slots__ = ("_transport",)

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, user_id: str, config: SessionConfig | None = None) -> NewSessionResponse:
        """Create a session. Its link is short-lived: create one for each use (contract).

        Each request creates another session, so it is retried only if nothing was sent, or on 429 and 503.

        Args:
            user_id: the user whose avatars the session shows or creates.
            config: what the link opens; default: the dashboard if the user has avatars, else the creation flow.
        """
        request = NewSessionRequest(user_id=user_id, config=config)
        response = await self._transport.request(endpoints.create_session(request))
        return codec.load(response.body, NewSessionResponse)
