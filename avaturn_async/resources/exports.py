"""Exports: avatars as GLB models."""

from __future__ import annotations

import os
from collections.abc import Callable
from uuid import UUID

from .. import batch as batches
from ..config import CLIENT_DEFAULT, ClientDefault
from ..downloads.sinks import Sink
from ..http import codec, endpoints
from ..models import NewExportResponse, as_uuid
from ..pending.base import read_token
from ..pending.context import PendingContext
from ..pending.jobs import PendingExport
from ..pending.results import Export

__all__ = ["Exports"]


class Exports:
    """``client.exports``."""

    __slots__ = ("_context",)

    def __init__(self, context: PendingContext) -> None:
        self._context = context

    async def create(self, avatar_id: str | UUID) -> PendingExport:
        """Start the export of an avatar in its current version, or join the one in progress.

        The request is idempotent for one version of an avatar (contract), so it is retried on transient failures. For
        an avatar made by direct upload it is undefined until a customization is set (contract).

        Returns:
            the export in progress, to be awaited for its result.
        """
        avatar, context = as_uuid(avatar_id, "avatar_id"), self._context
        position = await context.position("export", avatar)  # before the request: an event may beat its response
        response = await context.transport.request(endpoints.create_export(avatar))
        created, request_id = codec.load(response.body, NewExportResponse), response.headers.get("X-Request-Id")
        return PendingExport(context, avatar, created, position=position, request_id=request_id)

    async def create_and_wait(
        self, avatar_id: str | UUID, *, timeout: float | ClientDefault | None = CLIENT_DEFAULT
    ) -> Export:
        """Create an export and wait for its result, for `timeout` seconds."""
        return await (await self.create(avatar_id)).wait(timeout=timeout)

    def batch(
        self,
        avatar_ids: batches.AvatarIds,
        *,
        download_to: str | os.PathLike[str] | None = None,
        sink: Sink | None = None,
        name: Callable[[UUID], str] | None = None,
        max_pending: int = 256,
        max_downloads: int = 8,
        checksum: bool = False,
        journal: str | os.PathLike[str] | None = None,
        timeout: float | ClientDefault | None = CLIENT_DEFAULT,
        on_progress: Callable[[batches.BatchProgress], object] | None = None,
    ) -> batches.ExportBatch:
        """Return a batch of exports; ``async with`` it, then iterate over its outcomes or ``await batch.run()``.

        Every item has one outcome, and one failure never stops the others; an item that is no UUID fails with a
        ValueError. Items with the same id that are under way at the same time share one export and one download. An id
        that comes again after its outcome was taken is processed again.

        Args:
            avatar_ids: an iterable or async iterable, read lazily. What it raises ends the batch and is raised.
            download_to: a folder, created if missing, for the models. A file that exists is replaced, unless the
                journal recorded it: by name and size, and by checksum if one was computed.
            sink: a `Sink` for the models, instead of a folder.
            name: returns the path of an avatar's file below the folder, or its name in the sink, with ``/`` between its
                parts; the default is ``{avatar_id}.glb``. It must be different for each avatar, since a later file
                replaces one of the same name. If it is not a plain relative path, or another avatar under way has it,
                the item fails with a ValueError.
            max_pending: exports awaited concurrently.
            max_downloads: concurrent downloads.
            checksum: compute the SHA-256 of each file, which costs about as much CPU as receiving and writing it.
            journal: a SQLite file with which a later run skips what is done and resumes what was pending. It records a
                file once it is complete under its name, or the sink has returned. It holds resume tokens, and is
                trusted input: keep it where other users can't write, and use it with one folder or sink.
            timeout: seconds that each export is awaited; the default is the client's ``wait_timeout``, and None waits
                for ever.
            on_progress: called with a `BatchProgress` every 0.1 s and at the end. What it raises ends the batch.

        Raises:
            ConfigurationError: on entering; another batch uses the journal, or it is not one of this user and base_url.
            DownloadError: on entering; the folder can't be created.
        """
        return batches.ExportBatch(
            self,
            avatar_ids,
            download_to=download_to,
            sink=sink,
            name=name,
            max_pending=max_pending,
            max_downloads=max_downloads,
            checksum=checksum,
            journal=journal,
            base_url=self._context.transport.base_url,
            timeout=timeout,
            on_progress=on_progress,
            observers=self._context.observers,
        )

    def resume(self, token: str) -> PendingExport:
        """Return the export in progress of a resume token; nothing is sent until it is awaited.

        Raises:
            ConfigurationError: the token belongs to another base_url.
            ValueError: it is not the resume token of an export.
        """
        fields = read_token(token, kind="export", base_url=self._context.transport.base_url)
        return PendingExport(
            self._context,
            as_uuid(fields.get("avatar_id", ""), "the token's avatar_id"),
            position=fields.get("position"),
            created_at=fields["created"],
        )
