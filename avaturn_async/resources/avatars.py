"""Avatars: made from photos or in a session, listed, customized, deleted."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from uuid import UUID

from ..errors import AvaturnError, JobFailedError, NotFoundError, ResponseFormatError
from ..http import codec, endpoints
from ..http.tasks import check_not_async
from ..http.upload import MultipartForm
from ..models import (
    AvatarListItem,
    ExternalAvatarCustomization,
    NewAvatarRequest,
    NewAvatarResponse,
    ScanStatus,
    as_uuid,
)
from ..pending.base import read_token
from ..pending.context import PendingContext
from ..pending.jobs import PendingAvatar
from ..redact import SecretUrl, mask_links
from .photos import Photos

__all__ = ["Avatars"]


class Avatars:
    """``client.avatars``."""

    __slots__ = ("_context", "_transport")

    def __init__(self, context: PendingContext) -> None:
        self._context = context
        self._transport = context.transport

    async def list(self, user_id: str, *, include_not_ready: bool = False) -> list[AvatarListItem]:
        """Return a user's avatars: those that were processed successfully or, with `include_not_ready`, all."""
        response = await self._transport.request(endpoints.list_avatars(user_id, include_not_ready=include_not_ready))
        return codec.load(response.body, list[AvatarListItem])

    async def create(self, user_id: str) -> NewAvatarResponse:
        """Create a provisional avatar, whose photos are uploaded to its upload_url.

        Each request creates another avatar, so it is retried only if nothing was sent, or on 429 and 503.
        """
        response = await self._transport.request(endpoints.create_avatar(NewAvatarRequest(user_id=user_id)))
        return codec.load(response.body, NewAvatarResponse)

    async def upload(
        self, upload_url: str, photos: Photos, *, progress: Callable[[int, int], object] | None = None
    ) -> ScanStatus:
        """Upload the photos of a provisional avatar; the API token is not sent there (contract).

        Photos are read and sent in small pieces. The upload is sent again only if it broke off, or on 429 and 503.

        Args:
            upload_url: as `create` returned it.
            photos: the photos; checked before anything is sent.
            progress: called with the bytes sent so far, and in all. What it raises ends the upload.

        Returns:
            the status in the response.

        Raises:
            OSError, ValueError, TypeError: a photo can't be read, or is not a complete JPEG.
            JobFailedError: the photos were rejected.
            AvaturnError: the upload failed; it carries ``upload_url``.
        """
        url = SecretUrl(upload_url)
        del upload_url
        try:
            _check_upload(photos, progress)
            async with self._opened(photos) as form:
                return await self._upload(url, form, progress)
        finally:
            del photos  # a kept exception must not keep the photos alive

    @asynccontextmanager
    async def _opened(self, photos: Photos) -> AsyncIterator[MultipartForm]:
        """Open photos once there is a slot for their upload: waiting ones hold no files."""
        try:
            async with self._transport.upload_slots:
                self._context.check_open()
                async with photos.open() as form:
                    yield form
        finally:
            del photos

    async def _upload(
        self, url: SecretUrl, form: MultipartForm, progress: Callable[[int, int], object] | None
    ) -> ScanStatus:
        try:
            response = await self._transport.upload(url, form, on_progress=progress)
            status = _upload_status(response.body)
            if status is ScanStatus.FAILED:
                raise JobFailedError(
                    "the photos were rejected: the response to the upload says failed", resolved_by="create"
                )
        except AvaturnError as error:
            error.upload_url = url
            raise
        return status

    async def create_from_photos(
        self,
        user_id: str,
        photos: Photos,
        *,
        customization: ExternalAvatarCustomization | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> PendingAvatar:
        """Create an avatar and upload its photos.

        Args:
            user_id: the avatar's user.
            photos: the photos; checked before anything is sent.
            customization: set once the scan is ready, before the wait ends. Renders and exports of an avatar made this
                way are undefined without one (contract).
            progress: as for `upload`.

        Returns:
            the scan in progress, to be awaited for its result.

        Raises:
            OSError, ValueError, TypeError: as for `upload`.
            AvaturnError: a call failed.

        Once the avatar exists, any exception has the attributes ``upload_url``, ``avatar_id`` and ``resume_token``: an
        AvaturnError, the OSError of a disk, what `progress` raises, a CancelledError. Call `upload` with that url, and
        then `resume` with the token or `pending` with the id. Other exceptions than AvaturnErrors say so in a note.
        """
        if customization is not None:
            _check(customization)
        pending = None
        try:
            _check_upload(photos, progress)
            async with self._opened(photos) as form:
                made = await self.create(user_id)
                # No event precedes the creation, so the mailbox need not be asked for the last one.
                pending = PendingAvatar(
                    self._context, made.avatar_id, user_id, customization=customization, position=""
                )
                await self._upload(SecretUrl(made.upload_url), form, progress)
        except BaseException as error:
            if pending is not None:
                _lead_on(error, SecretUrl(made.upload_url), pending)
            raise
        finally:
            del photos
        return pending

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
        """Return the scan in progress of a resume token; nothing is sent until it is awaited.

        Raises:
            ConfigurationError: the token belongs to another base_url.
            ValueError: it is not the resume token of an avatar.
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
        response = await self._transport.request(endpoints.get_customization(as_uuid(avatar_id, "avatar_id")))
        return codec.load(response.body, ExternalAvatarCustomization)

    async def set_customization(self, avatar_id: str | UUID, customization: ExternalAvatarCustomization) -> None:
        """Set the assets, body and other parameters of an avatar, which creates a new version of it.

        Raises:
            ConflictError: an asset does not fit its slot.
            GoneError: assets are no longer available; ``asset_ids`` has them.
        """
        _check(customization)
        await self._transport.request(endpoints.set_customization(as_uuid(avatar_id, "avatar_id"), customization))

    async def delete(self, user_id: str, avatar_id: str | UUID, *, missing_ok: bool = False) -> None:
        """Delete an avatar with its cached exports; with `missing_ok`, succeed if it does not exist."""
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


def _check_upload(photos: object, progress: object) -> None:
    if not isinstance(photos, Photos):
        raise TypeError(f"photos must be a Photos, not {type(photos).__name__}")
    check_not_async("progress", progress)


def _lead_on(error: BaseException, upload_url: SecretUrl, pending: PendingAvatar) -> None:
    """Give an exception what it takes to continue after it."""
    avatar_id = pending.avatar_id
    facts = {"upload_url": upload_url, "avatar_id": avatar_id, "resume_token": pending.resume_token}
    note = f"avatar {avatar_id} was created: continue with upload_url and resume_token of this exception"
    with suppress(Exception):  # an exception of the user's own may be immutable
        if not isinstance(error, AvaturnError):
            error.add_note(note)
        for name, value in facts.items():
            setattr(error, name, value)


def _upload_status(body: bytes) -> ScanStatus:
    """Return the status in the response to an upload: a JSON object with a status (contract, PhotoUpload)."""
    try:
        answer = mask_links(codec.parse_json(body))
        status = answer.get("status") if isinstance(answer, dict) else None
    except ValueError:
        status = None
    if not isinstance(status, str):
        raise ResponseFormatError("the response to the upload is not a JSON object with a status", where="$.status")
    return ScanStatus(status)
