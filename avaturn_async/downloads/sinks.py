"""Where downloaded files go: the protocol of sinks, and a sink for object stores."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from ..errors import ConfigurationError
from .names import check_name

if TYPE_CHECKING:
    from obstore.store import ObjectStore
else:  # for typing.get_type_hints
    ObjectStore = Any

__all__ = ["ObjectStoreSink", "Saved", "Sink"]

_MAY_PASS = re.compile("Generic (?!LocalFileSystem)")
# S3 refuses smaller parts than 5 MiB but for the last one.
_MIN_PART = 5 * 2**20
# Parts being sent besides the one that fills up: an upload takes three parts of memory.
_CONCURRENT_PARTS = 2


class Sink(Protocol):
    """A place for files, under names: the protocol that ``save`` and ``exports.batch(sink=)`` use."""

    async def put(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Store the bytes of `chunks` under `name`, replacing what is there, all or nothing.

        It must be atomic: if `chunks` raises, or this is cancelled, nothing may appear under `name`. The last chunk
        comes only once the whole file has arrived and was checked. After a failure of the source it may be called again
        with the same name. Calls with different names overlap.

        An exception ends the save with a `DownloadError`, whose ``__cause__`` it is.

        Args:
            name: a relative path with ``/`` between its parts, none of which is empty, ``.`` or ``..``.
            chunks: bytes of any length, in order. Read them to the end.
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


class ObjectStoreSink:
    """Saves files in S3, Google Cloud Storage, Azure, a local folder or memory by means of obstore.

    A file that is longer than `part_size` is uploaded in parts, which the store joins at the end: an upload that fails
    or is cancelled is aborted, and a process that is killed leaves parts that are not visible as an object. Have the
    bucket remove these (S3: a lifecycle rule with AbortIncompleteMultipartUpload). Memory per upload is three parts.

    Needs the extra ``obstore``.

    Args:
        store: an obstore store, for example ``obstore.store.S3Store("bucket", region="eu-central-1")``.
        prefix: put before each name, with a ``/`` between them.
        part_size: bytes; at least 5 MiB, the least that S3 takes.

    Raises:
        ConfigurationError: obstore is not installed.
        TypeError: `store` is not a store of obstore.
        ValueError: `prefix` is not a plain relative path, or `part_size` is less than 5 MiB.
    """

    def __init__(self, store: ObjectStore, *, prefix: str = "", part_size: int = 8 * 2**20) -> None:
        try:
            from obstore import store as stores
        except ImportError:
            raise ConfigurationError("ObjectStoreSink needs obstore: pip install 'avaturn-async[obstore]'") from None
        given: object = store
        if not isinstance(given, stores.ObjectStore):
            example = "such as obstore.store.from_url('s3://bucket')"
            raise TypeError(f"store must be a store of obstore, {example}, not {type(given).__name__}")
        if isinstance(part_size, bool) or not isinstance(part_size, int) or part_size < _MIN_PART:
            raise ValueError(f"part_size must be a whole number of at least {_MIN_PART} bytes, not {part_size!r}")
        self._store = store
        self._prefix = check_name(prefix.removesuffix("/")) + "/" if prefix else ""
        self._part_size = part_size

    async def put(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Upload `chunks` as the object `name` below the prefix."""
        from obstore import exceptions, open_writer_async

        key, size = self._prefix + check_name(name), self._part_size
        try:
            async with open_writer_async(
                self._store, key, buffer_size=size, max_concurrency=_CONCURRENT_PARTS
            ) as writer:
                async for chunk in chunks:
                    await writer.write(chunk)
        except (exceptions.GenericError, OSError) as error:
            # Server errors and broken connections, after obstore's own attempts; those of the last part are an OSError.
            error.retryable = _MAY_PASS.match(str(error)) is not None  # type: ignore[union-attr]
            raise
