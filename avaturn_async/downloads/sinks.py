"""What it takes to save downloaded files elsewhere than in a folder: the protocol of sinks."""

from collections.abc import AsyncIterator
from typing import Protocol

import attrs

__all__ = ["Saved", "Sink"]


class Sink(Protocol):
    """A place for files, under names: the protocol that ``save`` and ``exports.batch(sink=)`` use."""

    async def put(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Store the bytes of `chunks` under `name`, replacing what is there, all or nothing.

        It must be atomic: if `chunks` raises, or this is cancelled, nothing may appear under `name`. The last chunk
        comes only once the whole file has arrived and was checked. After a failure of the source it may be called again
        with the same name. Calls with different names overlap.

        What it raises ends the save with a `DownloadError`, of which it is the cause.

        Args:
            name: a relative path with ``/`` between its parts, none of which is empty, ``.`` or ``..``.
            chunks: bytes of any length, in order; to be read to its end.
        """


@attrs.frozen
class Saved:
    """A file that was saved in a sink.

    Attributes:
        name: its name there.
        size: its length in bytes.
        sha256: its SHA-256, hexadecimal, if a checksum was asked for.
    """

    name: str
    size: int
    sha256: str | None = None
