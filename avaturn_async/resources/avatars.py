"""Avatars: made from photos or in a session, listed, customized, deleted."""

from __future__ import annotations

import time
from uuid import UUID

import aiohttp

from ..errors import AvaturnError, NotFoundError
from ..http import codec, endpoints
from ..models import (
    AvatarListItem,
    ExternalAvatarCustomization,
    NewAvatarRequest,
    NewAvatarResponse,
    PhotoUpload,
    as_uuid,
)
from ..pending.avatar import PendingAvatar
from ..pending.context import PendingContext
from ..pending.resume_token import read_token
from .photos import Photos

__all__ = ["Avatars"]


class Avatars:
    """``client.avatars``."""

    __slots__ = ("_context", "_transport")

    def __init__(self, context: PendingContext) -> None:
        self._context = context
        self._transport = context.transport

    async def list(self, user_id: str, *, include_not_ready: bool = False) -> list[AvatarListItem]:
        """Return a user's avatars; only those successfully processed unless `include_not_ready`."""
        answer = await self._transport.request(endpoints.list_avatars(user_id, include_not_ready=include_not_ready))
        return codec.load(answer.body, list[AvatarListItem])

    async def create(self, user_id: str) -> NewAvatarResponse:
        """Create a provisional avatar that awaits three photos at its upload_url."""
        answer = await self._transport.request(endpoints.create_avatar(NewAvatarRequest(user_id=user_id)))
        return codec.load(answer.body, NewAvatarResponse)

    async def upload(self, upload_url: str, photos: Photos) -> None:
        """Upload the photos of a provisional avatar; the API token is not sent there (contract).

        It is sent again only while nothing was sent, or on 429 and 503.

        Raises:
            OSError, ValueError: a photo can't be read or is no JPEG; nothing was sent.
            AvaturnError: it carries ``upload_url``.
        """
        await self._upload(upload_url, await photos.read())

    async def _upload(self, upload_url: str, photos: PhotoUpload) -> None:
        try:
            await self._transport.upload(upload_url, lambda: _form(photos))
        except AvaturnError as error:
            error.upload_url = upload_url
            raise

    async def create_from_photos(
        self, user_id: str, photos: Photos, *, customization: ExternalAvatarCustomization | None = None
    ) -> PendingAvatar:
        """Create an avatar and upload its photos; await what this returns for the end of the scan.

        Args:
            user_id: whose avatar it will be.
            photos: checked before anything is sent.
            customization: set when the scan is ready, before the wait ends. Renders and exports of an avatar made
                this way are undefined without (contract).

        Raises:
            AvaturnError: where the upload failed it carries ``avatar_id`` and ``upload_url``.
        """
        if customization is not None:
            _check(customization)
        form = await photos.read()
        made = await self.create(user_id)
        position = await self._context.position(f"avatar:{made.avatar_id}")
        try:
            await self._upload(made.upload_url, form)
        except AvaturnError as error:
            error.avatar_id = made.avatar_id
            raise
        return PendingAvatar(
            self._context,
            made.avatar_id,
            user_id,
            customization=customization,
            position=position,
        )

    def pending(
        self, user_id: str, avatar_id: str | UUID, *, customization: ExternalAvatarCustomization | None = None
    ) -> PendingAvatar:
        """Return the scan of an avatar that was created elsewhere; nothing is sent until it is awaited.

        Args:
            user_id: the avatar's user.
            avatar_id: the avatar.
            customization: as for `create_from_photos`; set once the scan is ready unless the avatar has it already.
        """
        if customization is not None:
            _check(customization)
        avatar = as_uuid(avatar_id, "avatar_id")
        return PendingAvatar(self._context, avatar, user_id, customization=customization, created_at=time.time())

    def resume(self, token: str) -> PendingAvatar:
        """Return the pending avatar of a resume token; nothing is sent until it is awaited.

        Raises:
            ConfigurationError: the token belongs to another base_url.
            ValueError: it is no token of an avatar.
        """
        fields = read_token(token, kind="avatar", base_url=self._transport.base_url)
        wanted = fields.get("customization")
        return PendingAvatar(
            self._context,
            as_uuid(fields.get("avatar_id", ""), "the token's avatar_id"),
            str(fields.get("user_id", "")),
            customization=None if wanted is None else _customization_of(wanted),
            position=fields.get("position"),
            created_at=fields["created"],
        )

    async def get_customization(self, avatar_id: str | UUID) -> ExternalAvatarCustomization:
        """Return the assets, body and other parameters applied to an avatar."""
        answer = await self._transport.request(endpoints.get_customization(as_uuid(avatar_id, "avatar_id")))
        return codec.load(answer.body, ExternalAvatarCustomization)

    async def set_customization(self, avatar_id: str | UUID, customization: ExternalAvatarCustomization) -> None:
        """Set the assets, body and other parameters of an avatar; this makes a new version of it.

        Raises:
            ConflictError: an asset does not fit its slot.
            GoneError: assets are no longer available; ``asset_ids`` has them.
        """
        _check(customization)
        await self._transport.request(endpoints.set_customization(as_uuid(avatar_id, "avatar_id"), customization))

    async def delete(self, user_id: str, avatar_id: str | UUID, *, missing_ok: bool = False) -> None:
        """Delete one avatar of a user, with its cached exports; `missing_ok` takes a 404 for success."""
        try:
            await self._transport.request(endpoints.delete_avatar(user_id, as_uuid(avatar_id, "avatar_id")))
        except NotFoundError:
            if not missing_ok:
                raise


def _customization_of(wanted: object) -> ExternalAvatarCustomization:
    problem = ""
    try:
        return codec.structure(wanted, ExternalAvatarCustomization)
    except codec.MismatchError as error:
        problem = error.where
    raise ValueError(f"this resume token's customization is wrong at {problem}")


def _check(customization: object) -> None:
    if not isinstance(customization, ExternalAvatarCustomization):
        raise TypeError(f"customization must be an ExternalAvatarCustomization, not {type(customization).__name__}")


def _form(photos: PhotoUpload) -> aiohttp.FormData:
    form = aiohttp.FormData()
    for name in ("image_frontal", "image_side_1", "image_side_2"):
        field = name.replace("_", "-")
        form.add_field(field, getattr(photos, name), filename=f"{field}.jpg", content_type="image/jpeg")
    form.add_field("body-type", photos.body_type)
    form.add_field("telephoto", "true" if photos.telephoto else "false")
    return form
