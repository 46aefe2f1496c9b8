"""Users: one Avaturn user for each user of your app; your app keeps the mapping."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import NotFoundError
from ..http import codec, endpoints
from ..models import NewUserResponse

if TYPE_CHECKING:
    from ..http.transport import Transport

__all__ = ["Users"]


class Users:
    """``client.users``."""

    __slots__ = ("_transport",)

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self) -> NewUserResponse:
        """Create an anonymous user.

        It is sent again only while nothing was sent, or on 429 and 503, since each call makes another user.
        """
        answer = await self._transport.request(endpoints.create_user())
        return codec.load(answer.body, NewUserResponse)

    async def delete(self, user_id: str, *, missing_ok: bool = False) -> None:
        """Delete a user with all photos, avatars and cached exports.

        Args:
            user_id: the user.
            missing_ok: take a 404 for success.
        """
        try:
            await self._transport.request(endpoints.delete_user(user_id))
        except NotFoundError:
            if not missing_ok:
                raise
