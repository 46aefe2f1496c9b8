"""Renders: images of avatars in scenes."""

from __future__ import annotations

import re
import time
from typing import Literal, get_args
from uuid import UUID

from ..config import CLIENT_DEFAULT, ClientDefault
from ..http import codec, endpoints
from ..models import RenderResult, as_uuid
from ..pending.base import read_token
from ..pending.context import PendingContext
from ..pending.jobs import PendingRender
from ..pending.results import Render

__all__ = ["ImageFormat", "Renders"]

ImageFormat = Literal["jpg", "png", "webp"]

_SCENE = r"[a-zA-Z0-9_/]+"


class Renders:
    """``client.renders``."""

    __slots__ = ("_context",)

    def __init__(self, context: PendingContext) -> None:
        self._context = context

    async def create(
        self, avatar_id: str | UUID, scene: str = "common/preview", *, format: ImageFormat = "jpg"
    ) -> PendingRender:
        """Start a render. To await it, the client needs ``webhooks=``.

        Each request starts a new task (contract), so it is retried only if nothing was sent, or on 429 and 503.

        Args:
            avatar_id: the avatar.
            scene: ``common/preview``, ``common/forest_half_body``, another documented scene, or one of your own.
            format: ``jpg``, ``png`` or ``webp``.
        """
        avatar = as_uuid(avatar_id, "avatar_id")
        if not isinstance(scene, str) or not re.fullmatch(_SCENE, scene):
            raise ValueError(f"scene must be letters, digits, '_' and '/', such as common/preview, not {scene!r:.80}")
        if format not in get_args(ImageFormat):
            raise ValueError(f"format must be one of {', '.join(get_args(ImageFormat))}, not {format!r:.80}")
        response = await self._context.transport.request(endpoints.create_render(avatar, scene, format))
        created, request_id = codec.load(response.body, RenderResult), response.headers.get("X-Request-Id")
        return PendingRender(self._context, avatar, created.id, created, request_id=request_id)

    async def create_and_wait(
        self,
        avatar_id: str | UUID,
        scene: str = "common/preview",
        *,
        format: ImageFormat = "jpg",
        timeout: float | ClientDefault | None = CLIENT_DEFAULT,
    ) -> Render:
        """Create a render and wait for its result, for `timeout` seconds."""
        return await (await self.create(avatar_id, scene, format=format)).wait(timeout=timeout)

    def pending(self, avatar_id: str | UUID, render_id: str | UUID) -> PendingRender:
        """Return the render in progress with an id that was stored; nothing is sent.

        Its event is found as long as the mailbox keeps it, 15 minutes by default.
        """
        avatar, render = as_uuid(avatar_id, "avatar_id"), as_uuid(render_id, "render_id")
        return PendingRender(self._context, avatar, render, created_at=time.time())

    def resume(self, token: str) -> PendingRender:
        """Return the render in progress of a resume token; nothing is sent.

        Its event is found as long as the mailbox keeps it, 15 minutes by default.

        Raises:
            ConfigurationError: the token belongs to another base_url.
            ValueError: it is not the resume token of a render.
        """
        fields = read_token(token, kind="render", base_url=self._context.transport.base_url)
        return PendingRender(
            self._context,
            as_uuid(fields.get("avatar_id", ""), "the token's avatar_id"),
            as_uuid(fields.get("id", ""), "the token's id"),
            created_at=fields["created"],
        )
