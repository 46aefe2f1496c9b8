"""What a job ends with: an Export or a Render, and the way to its bytes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import attrs

from ..downloads.downloader import Download, Downloader
from ..redact import without_query

if TYPE_CHECKING:
    import os
    from uuid import UUID

    from ..downloads.downloader import FreshUrl

__all__ = ["Download", "Export", "Progress", "Render", "ResolvedBy"]

ResolvedBy: TypeAlias = Literal["create", "webhook", "poll"]
Progress: TypeAlias = Callable[[int, int | None], object]


class UrlSource(Protocol):
    """Who can ask for the link of an export again."""

    async def fresh_url(self, avatar_id: UUID) -> str:
        """Return a link that has just been made."""


@attrs.frozen(kw_only=True)
class _Result:
    url: str = attrs.field(repr=lambda url: repr(without_query(url)))
    resolved_by: ResolvedBy
    waited: float
    _downloader: Downloader = attrs.field(repr=False, eq=False)

    def _kind(self) -> Literal["glb", "file"]:
        return "file"

    def _renewal(self) -> FreshUrl | None:
        return None

    async def download(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        checksum: bool = False,
        progress: Progress | None = None,
    ) -> Download:
        """Fetch the file to `path`, whole or not at all.

        It is streamed with constant memory through a session without the token, into a temporary file beside the
        target that is renamed at the end. A broken connection is resumed; an export's url that was refused is asked
        for anew.

        Args:
            path: where the file goes; its folder must exist.
            overwrite: replace an existing file.
            checksum: compute the SHA-256.
            progress: called with the bytes so far, and the bytes in all or None.

        Raises:
            DownloadError: the file could not be fetched or written; `UnsafeAddressError`, `IncompleteDownloadError` and
                (for an export) `NotAModelError` say more.
            AvaturnError: an export's link was refused, and asking for another failed as this says.
        """
        return await self._downloader.fetch(
            self.url, path, overwrite=overwrite, progress=progress, fresh_url=self._renewal(), kind=self._kind()
        )

    def stream(self) -> AsyncGenerator[bytes, None]:
        """Iterate over the file's bytes as they come, with the checks of `download` except the atomic file."""
        return self._downloader.stream(self.url, fresh_url=self._renewal(), kind=self._kind())


@attrs.frozen(kw_only=True)
class Export(_Result):
    """A finished export: a GLB model behind a temporary link.

    Attributes:
        avatar_id: the avatar.
        url: the temporary link; not to be stored (contract). The repr shows it without its query.
        resolved_by: what ended the wait: ``"create"``, ``"webhook"`` or ``"poll"``.
        waited: seconds from the creation of the export to its end.
        polls: how often the export was read again.
    """

    avatar_id: UUID
    polls: int
    _source: UrlSource | None = attrs.field(default=None, repr=False, eq=False)

    def _kind(self) -> Literal["glb", "file"]:
        return "glb"

    def _renewal(self) -> FreshUrl | None:
        return None if self._source is None else partial(self._source.fresh_url, self.avatar_id)


@attrs.frozen(kw_only=True)
class Render(_Result):
    """A finished render: an image behind a link that is to be fetched within 15 minutes (contract).

    Attributes:
        id: the rendering task.
        avatar_id: the avatar.
        url: the temporary link. The repr shows it without its query.
        resolved_by: what ended the wait: ``"create"`` or ``"webhook"``.
        waited: seconds from the creation of the render to its end.
    """

    id: UUID
    avatar_id: UUID
