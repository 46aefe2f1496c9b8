"""A sink for object stores, by means of obstore."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from .names import check_name

if TYPE_CHECKING:
    import obstore
    from obstore import exceptions
    from obstore.store import ObjectStore
else:
    try:
        import obstore
        from obstore import exceptions
        from obstore.store import ObjectStore
    except ImportError:
        obstore, ObjectStore = None, Any

__all__ = ["ObjectStoreSink"]

# S3 refuses smaller parts than 5 MiB but for the last one.
_MIN_PART = 5 * 2**20
# Parts under way besides the one that fills up; so an upload takes three parts of memory.
_CONCURRENT_PARTS = 2


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
        TypeError, ValueError: an argument is not what it should be.
    """

    def __init__(self, store: ObjectStore, *, prefix: str = "", part_size: int = 8 * 2**20) -> None:
        if obstore is None:
            raise ConfigurationError("ObjectStoreSink needs obstore: pip install 'avaturn-async[obstore]'")
        given: object = store
        if not isinstance(given, ObjectStore):
            example = "such as obstore.store.from_url('s3://bucket')"
            raise TypeError(f"store must be a store of obstore, {example}, not {type(given).__name__}")
        if isinstance(part_size, bool) or not isinstance(part_size, int) or part_size < _MIN_PART:
            raise ValueError(f"part_size must be a whole number of at least {_MIN_PART} bytes, not {part_size!r}")
        self._store = store
        self._prefix = check_name(prefix.removesuffix("/")) + "/" if prefix else ""
        self._part_size = part_size

    async def put(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Upload `chunks` as the object `name` below the prefix."""
        writer = obstore.open_writer_async(
            self._store,
            self._prefix + check_name(name),
            buffer_size=self._part_size,
            max_concurrency=_CONCURRENT_PARTS,
        )
        try:
            async with writer:
                async for chunk in chunks:
                    await writer.write(chunk)
        except (exceptions.GenericError, OSError) as error:
            # Server errors and broken connections, after obstore's own attempts; those of the last part are an OSError.
            error.retryable = str(error).startswith("Generic ")  # type: ignore[union-attr]
            raise
