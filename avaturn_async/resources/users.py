"""Users: one for each user of your app, which keeps the mapping."""

from __future__ import annotations

from ..errors import NotFoundError
from ..http import codec, endpoints
from ..http.transport import Transport
from ..models import NewUserResponse

__all__ = ["Users"]


class Users:
    """``client.users``."""

    __slots__ = ("_transport",)

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self) -> NewUserResponse:
        """Create an anonymous user.

        Each request creates another user, so it is retried only if nothing was sent, or on 429 and 503.
        """
        response = await self._transport.request(endpoints.create_user())
        return codec.load(response.body, NewUserResponse)

    async def delete(self, user_id: str, *, missing_ok: bool = False) -> None:
        """Delete a user with all photos, avatars and cached exports.

        Args:
            user_id: the user.
            missing_ok: succeed if the user does not exist.

        Raises:
            NotFoundError: the user does not exist.
        """
        try:
            await self._transport.request(endpoints.delete_user(user_id))
        except NotFoundError:
            if not missing_ok:
                raise
