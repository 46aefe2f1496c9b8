"""The two stages of each avatar in a batch: wait for its export, fetch its file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import attrs

from ..downloads.glb import whole_model
from ..errors import (
    AuthenticationError,
    AvaturnError,
    ClientClosedError,
    PaymentRequiredError,
    PermissionDeniedError,
    WaitTimeoutError,
)
from ..http.tasks import run_in_thread
from ..pending.results import Download
from .report import BatchOutcome

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from ..config import ClientDefault
    from ..pending.export import PendingExport
    from ..pending.results import Export
    from .journal import Entry, Journal, State
    from .progress import Meter

__all__ = ["Exporter", "Item", "Stages"]

#: So many 403 without a success between are about the token; fewer may be about avatars of somebody else.
_REFUSALS = 10
#: Ends of a wait after which the remote job still goes on.
_UNDECIDED = (WaitTimeoutError, ClientClosedError)


class Exporter(Protocol):
    """What a batch asks of ``client.exports``."""

    async def create(self, avatar_id: str | UUID) -> PendingExport:
        """Start an export."""

    def resume(self, token: str) -> PendingExport:
        """Go on with one."""


@attrs.define(eq=False)
class Item:
    """One avatar on its way.

    Attributes:
        avatar_id: the avatar.
        known: what earlier runs left in the journal.
        attempts: how often the export was asked for.
        export: the finished export.
        under_way: whether the meter counts it as pending.
    """

    avatar_id: UUID
    known: Entry | None = None
    attempts: int = 0
    export: Export | None = None
    under_way: bool = False


class Stages:
    """Take one avatar after another through both stages, and give each its outcome. No failure is raised.

    Args:
        exports: starts and resumes exports.
        folder: where files go; None for exports alone.
        journal: what earlier runs did, and where this one tells the next.
        timeout: seconds that each export is awaited.
        meter: counts what is under way.
    """

    def __init__(
        self,
        exports: Exporter,
        *,
        folder: Path | None,
        journal: Journal | None,
        timeout: float | ClientDefault | None,
        meter: Meter,
    ) -> None:
        self._exports = exports
        self._folder = folder
        self._journal = journal
        self._timeout = timeout
        self._meter = meter
        self._access = _Access()

    async def export(self, avatar_id: UUID) -> Item | BatchOutcome:
        """Export an avatar, and return what is to be downloaded, or the outcome."""
        item = await self._item(avatar_id)
        if (outcome := await self._earlier(item)) is not None:
            return outcome
        if (refused := self._access.refused()) is not None:
            return self._outcome(item, error=refused)
        try:
            await self._await_export(item)
        except Exception as error:  # noqa: BLE001 - one failure never stops the others
            return await self._failed(item, error)
        return item if self._folder is not None else await self._done(item, None)

    async def download(self, item: Item) -> BatchOutcome:
        """Fetch the file of a finished export."""
        try:
            return await self._done(item, await self._fetch(item))
        except Exception as error:  # noqa: BLE001 - one failure never stops the others
            return await self._failed(item, error)

    async def _item(self, avatar_id: UUID) -> Item:
        known = None if self._journal is None else await self._journal.read(avatar_id)
        return Item(avatar_id, known, 0 if known is None else known.attempts)

    async def _earlier(self, item: Item) -> BatchOutcome | None:
        """Return the outcome of what an earlier run did: a whole file, or where no files are wanted an export."""
        known, download = item.known, None
        if self._journal is None:
            return None
        if self._folder is not None:
            download = await run_in_thread(_whole_file, self._path(item), known)
        if download is None and (self._folder is not None or known is None or known.state != "done"):
            return None
        if known is not None and known.state == "done":
            return self._outcome(item, download=download)
        return await self._done(item, download)

    async def _await_export(self, item: Item) -> None:
        self._meter.began()
        item.under_way = True
        pending = await self._start(item)
        item.export = await pending.wait(timeout=self._timeout)

    async def _start(self, item: Item) -> PendingExport:
        known = item.known
        if known is not None and known.state == "pending" and known.resume_token is not None:
            return self._exports.resume(known.resume_token)
        item.attempts += 1
        pending = await self._exports.create(item.avatar_id)
        self._access.granted()
        if not pending.done():
            await self._note(item, "pending", resume_token=pending.resume_token)
        return pending

    async def _fetch(self, item: Item) -> Download:
        assert item.export is not None  # noqa: S101 - the first stage ended well
        so_far = 0

        def count(now: int, _: int | None) -> None:
            nonlocal so_far
            self._meter.bytes += now - so_far
            so_far = now

        return await item.export.download(self._path(item), overwrite=True, progress=count)

    async def _done(self, item: Item, download: Download | None) -> BatchOutcome:
        found = {}
        if download is not None:
            found = {"file": download.path.name, "size": download.size, "sha256": download.sha256}
        await self._note(item, "done", **found)
        return self._outcome(item, download=download)

    async def _failed(self, item: Item, error: Exception) -> BatchOutcome:
        self._access.note(error)
        token = error.resume_token if isinstance(error, _UNDECIDED) else None
        text = f"{type(error).__name__}: {error}"
        await self._note(item, "failed" if token is None else "pending", resume_token=token, error=text)
        # A report keeps thousands of these; the frames of those that are to be expected are of no use.
        return self._outcome(item, error=error.with_traceback(None) if isinstance(error, AvaturnError) else error)

    def _outcome(self, item: Item, **found: Any) -> BatchOutcome:
        if item.under_way:
            self._meter.ended()
        return BatchOutcome(avatar_id=item.avatar_id, export=item.export, attempts=item.attempts, **found)

    async def _note(self, item: Item, state: State, **found: Any) -> None:
        if self._journal is not None:
            await self._journal.write(item.avatar_id, state, item.attempts, **found)

    def _path(self, item: Item) -> Path:
        assert self._folder is not None  # noqa: S101 - asked only where files are wanted
        return self._folder / f"{item.avatar_id}.glb"


class _Access:
    """Whether the API would refuse whatever else a batch asks of it."""

    def __init__(self) -> None:
        self._refusal: AvaturnError | None = None
        self._in_a_row = 0

    def refused(self) -> AvaturnError | None:
        """Return the error that the next request would meet, or None."""
        return None if self._refusal is None else self._refusal.copy()

    def granted(self) -> None:
        """Take note of a request that went well."""
        self._in_a_row = 0

    def note(self, error: Exception) -> None:
        """Take note of one that did not."""
        if isinstance(error, PermissionDeniedError):
            self._in_a_row += 1
        if isinstance(error, AuthenticationError | PaymentRequiredError) or self._in_a_row >= _REFUSALS:
            self._refusal = self._refusal or _of_nobody(error)


def _of_nobody(error: Exception) -> AvaturnError | None:
    """Return a copy of an error that is everyone's, without what it says of one avatar."""
    if not isinstance(error, AvaturnError):
        return None
    copy = error.copy()
    copy.resume_token = copy.avatar_id = None
    return copy


def _whole_file(path: Path, known: Entry | None) -> Download | None:
    """Return the model that has its final name already, if it is whole and the one that is known."""
    found = whole_model(path)
    if found is None or (known is not None and known.sha256 not in (None, found[1])):
        return None
    return Download(path, *found)
