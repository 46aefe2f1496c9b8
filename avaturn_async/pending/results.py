"""The results of jobs, `Export` and `Render`, with the methods that download them."""

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import PurePosixPath
from typing import Literal, Protocol, TypeAlias
from uuid import UUID

import attrs

from ..downloads.downloader import Download, Downloader
from ..downloads.sinks import Saved, Sink
from ..downloads.stream import Link, Progress
from ..redact import without_query

__all__ = ["Download", "Export", "Progress", "Render", "ResolvedBy"]

ResolvedBy: TypeAlias = Literal["create", "webhook", "poll"]


class UrlSource(Protocol):
    """Requests another link to an export."""

    async def fresh_url(self, avatar_id: UUID) -> str:
        """Return a new link."""


@attrs.frozen(kw_only=True)
class _Result(ABC):
    url: str = attrs.field(repr=lambda url: repr(without_query(url)))
    resolved_by: ResolvedBy
    waited: float
    _downloader: Downloader = attrs.field(repr=False, eq=False)

    @abstractmethod
    def _link(self, max_bytes: int | None) -> Link: ...

    @abstractmethod
    def _default_name(self) -> str: ...

    async def download(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        checksum: bool = False,
        progress: Progress | None = None,
        max_bytes: int | None = None,
    ) -> Download:
        """Download the file to `path`, whole or not at all.

        It is streamed with constant memory, without the API token, into a temporary file beside the target, which is
        renamed at the end. A broken connection, or the partial file of an earlier call, is resumed if the host supports
        ranges and strong ETags. An expired link of an export is renewed.

        Args:
            path: the file to write; its folder must exist.
            overwrite: replace a file that exists.
            checksum: compute the SHA-256, which costs about as much CPU as receiving and writing the file.
            progress: called with the bytes so far, and the total or None. What it raises ends the download.
            max_bytes: a longer file is refused. An export also ends at the length that its header declares.

        Raises:
            DownloadError: the file could not be fetched or written; `UnsafeAddressError`, `IncompleteDownloadError` and
                (for an export) `NotAModelError` say more.
            AvaturnError: an export's link was refused and could not be renewed.
            ValueError: `path` has a NUL character or a lone surrogate in it, or is named like a partial file.
            TypeError: `progress` is async.
        """
        return await self._downloader.fetch(
            self._link(max_bytes), path, overwrite=overwrite, checksum=checksum, progress=progress
        )

    async def save(
        self,
        sink: Sink,
        name: str | None = None,
        *,
        checksum: bool = False,
        progress: Progress | None = None,
        max_bytes: int | None = None,
    ) -> Saved:
        """Save the file in `sink`, whole or not at all, with constant memory.

        The checks are those of `download`, and the last bytes reach the sink only after them. If the host can't resume
        the file, both the download and the upload start over.

        Args:
            sink: an `ObjectStoreSink` or another `Sink`.
            name: a relative path in the sink, with ``/`` between its parts. The default is ``{avatar_id}.glb`` for an
                export, and the id with the suffix of the link for a render.
            checksum: compute the SHA-256, which costs about as much CPU as receiving and writing the file.
            progress: called with the bytes so far, and the total or None. What it raises ends the save.
            max_bytes: a longer file is refused.

        Raises:
            ValueError: the name is not a plain relative path.
            DownloadError: the file could not be fetched, as in `download`, or the sink failed.
            AvaturnError: an export's link was refused and could not be renewed.
        """
        return await self._downloader.save(
            self._link(max_bytes),
            sink,
            self._default_name() if name is None else name,
            checksum=checksum,
            progress=progress,
        )

    async def read(self, max_bytes: int | None = 64 * 2**20) -> bytes:
        """Return the bytes of the file, with the checks of `download`.

        Args:
            max_bytes: a longer file is refused; None is no limit.

        Raises:
            DownloadError: the file could not be fetched, as in `download`.
            AvaturnError: an export's link was refused and could not be renewed.
        """
        return await self._downloader.read(self._link(max_bytes))

    def stream(self, *, max_bytes: int | None = None) -> AsyncGenerator[bytes, None]:
        """Iterate over the bytes of the file as they arrive; the last chunk comes after the checks of `download`.

        Use `contextlib.aclosing` if the loop may be left early. A broken connection is resumed; where that is not
        possible, `IncompleteDownloadError` is raised. The other errors are those of `read`.

        Args:
            max_bytes: a longer file is refused.
        """
        return self._downloader.stream(self._link(max_bytes))


@attrs.frozen(kw_only=True)
class Export(_Result):
    """A finished export: a GLB model behind a temporary link.

    Attributes:
        avatar_id: the avatar.
        url: the temporary link; do not store it (contract). The repr shows it without its query.
        resolved_by: what resolved the job: ``"create"``, ``"webhook"`` or ``"poll"``.
        waited: seconds from the creation of the export to its end.
        polls: number of polls.
    """

    avatar_id: UUID
    polls: int
    _source: UrlSource | None = attrs.field(default=None, repr=False, eq=False)

    def _link(self, max_bytes: int | None) -> Link:
        source = self._source
        fresh_url = None if source is None else partial(source.fresh_url, self.avatar_id)
        return Link(self.url, kind="glb", fresh_url=fresh_url, max_bytes=max_bytes, avatar_id=self.avatar_id)

    def _default_name(self) -> str:
        return f"{self.avatar_id}.glb"


@attrs.frozen(kw_only=True)
class Render(_Result):
    """A finished render: an image behind a link that expires after 15 minutes (contract).

    Attributes:
        id: the rendering task.
        avatar_id: the avatar.
        url: the temporary link. The repr shows it without its query.
        resolved_by: what resolved the job: ``"create"`` or ``"webhook"``.
        waited: seconds from the creation of the render to its end.
    """

    id: UUID
    avatar_id: UUID

    def _link(self, max_bytes: int | None) -> Link:
        return Link(self.url, max_bytes=max_bytes, avatar_id=self.avatar_id)

    def _default_name(self) -> str:
        return f"{self.id}{PurePosixPath(without_query(self.url)).suffix}"
