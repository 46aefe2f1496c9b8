"""Sessions: short-lived links that open the Avaturn UI for a user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..http import codec, endpoints
from ..models import NewSessionRequest, NewSessionResponse, SessionConfig

if TYPE_CHECKING:
    from ..http.transport import Transport

__all__ = ["Sessions"]


class Sessions:
    """``client.sessions``."""

    __slots__ = ("_transport",)

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, user_id: str, config: SessionConfig | None = None) -> NewSessionResponse:
        """Create a session; links are short-lived, so make one for every use (contract).

        Args:
            user_id: whose avatars the session shows or makes.
            config: what opens; left out, the dashboard if the user has avatars, else the creation flow.
        """
        request = NewSessionRequest(user_id=user_id, config=config)
        answer = await self._transport.request(endpoints.create_session(request))
        return codec.load(answer.body, NewSessionResponse)
