"""A file that gets its name once it is whole. Everything here blocks: it is run in threads."""

import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs

from ..errors import DownloadError

__all__ = ["Note", "PartFile"]

_LOCKS = importlib.util.find_spec("fcntl") is not None
_BLOCK = 1024 * 1024
_HEAD = 12
_FLAGS = (
    os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
)

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOENT: "its folder does not exist",
    errno.ENOTDIR: "its folder is not a folder",
    errno.EISDIR: "it is a directory",
    errno.EEXIST: "it exists already, and overwrite is not set",
    errno.ENAMETOOLONG: "its name is too long",
}


@attrs.frozen
class Note:
    """What a later run needs to know to go on with a partial file.

    Attributes:
        source: the url without its query: a validator tells versions of one resource apart, not resources.
        validator: what If-Range names.
        total: the length of the whole file in bytes, or None.
    """

    source: str
    validator: str
    total: int | None


class PartFile:
    """The partial file of one download: ``.name.part`` beside the target, and a note on it in ``.name.part.json``.

    The partial file is locked, so that it is never shared: a second download of the same target, and a system without
    `fcntl`, get a file of a random name, which no later run goes on with.

    Nothing is synced to the disk: a process may be killed at any moment without harm, and after a power cut the file
    systems in use today have the renamed file either whole or short, which its reader checks anyway.

    Attributes:
        size: bytes written so far.
        head: the first bytes of them.
        note: what is known about the file, or None where it can't be resumed.
        keep: whether a partial file that can be resumed is left for a later run by `close`.
    """

    def __init__(self, target: Path, *, overwrite: bool) -> None:
        self.size: int = 0
        self.head: bytes = b""
        self.note: Note | None = None
        self.keep: bool = True
        self._target = target
        self._overwrite = overwrite
        self._hash = hashlib.sha256()
        self._path = target.parent / f".{_short(target.name)}.part"
        self._fd = -1
        self._shared = False
        self._present = False
        self._noted = False

    @property
    def sha256(self) -> str:
        """The hexadecimal SHA-256 of what was written so far."""
        return self._hash.hexdigest()

    def open(self, source: str) -> None:
        """Open the partial file, and take up what an earlier run has left of the same source."""
        with self._explained():
            self._check_target()
            if not self._claim():
                self._open_private()
            self._adopt(source)

    def write(self, chunk: bytes) -> None:
        """Append `chunk`."""
        try:
            self._append(chunk)
        except OSError as error:
            raise self._failure(error) from error

    def save_note(self) -> None:
        """Write the note down, unless there is nothing left to resume."""
        if self._noted or self.note is None or self.size == self.note.total:
            return
        with self._explained():
            self._save_note()

    def rewind(self) -> None:
        """Forget everything that was written."""
        with self._explained():
            self._drop_note()
            # ext4 writes a file to the disk at its close once it was truncated, also where it was empty.
            if os.fstat(self._fd).st_size:
                os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
        self.size, self.head, self.note = 0, b"", None
        self._hash = hashlib.sha256()

    def publish(self) -> None:
        """Give the file its name, atomically."""
        with self._explained():
            # Errors that a file system puts off until close (NFS, quotas) are wanted before the rename. The file itself
            # stays open where it is locked: the lock keeps other downloads from taking it up.
            os.close(os.dup(self._fd))
            self._let_go()
            self._drop_note()
            self._rename()
        self._present = False

    def close(self, rest: Iterable[bytes] = ()) -> None:
        """Close the file. Unless it was published, remove it, or write `rest` and leave it to be resumed."""
        if self._present and not self._left_for_later(rest):
            self._remove()
        with contextlib.suppress(OSError):
            self._close_file()

    def _check_target(self) -> None:
        if self._target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a directory")
        try:
            self._target.lstat()
        except FileNotFoundError:
            return
        if not self._overwrite:
            raise FileExistsError(errno.EEXIST, "exists")

    def _claim(self) -> bool:
        if not _LOCKS:
            return False
        try:
            fd = os.open(self._path, _FLAGS, 0o666)
        except OSError:
            return False
        if not (_lock(fd) and _is_ours(fd, self._path)):
            os.close(fd)
            return False
        self._fd, self._shared, self._present = fd, True, True
        return True

    def _open_private(self) -> None:
        self._path = self._path.with_suffix(f".{secrets.token_hex(8)}.part")
        self._fd = os.open(self._path, _FLAGS | os.O_EXCL, 0o666)
        self._present = True

    def _adopt(self, source: str) -> None:
        note = self._read_note() if self._shared else None
        size = os.fstat(self._fd).st_size
        if note is not None and note.total is not None:
            # The last byte is always asked for again, so that the server confirms the rest.
            size = min(size, note.total - 1)
        if note is None or note.source != source or size <= 0:
            self.rewind()
            return
        os.ftruncate(self._fd, size)
        while block := os.read(self._fd, _BLOCK):
            self._count(block)
        self.note, self._noted = note, True

    def _append(self, chunk: bytes) -> None:
        self._count(chunk)  # first, so that what is written comes from this core's cache
        written = os.write(self._fd, chunk)
        while written < len(chunk):
            written += os.write(self._fd, memoryview(chunk)[written:])

    def _count(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        if self.size < _HEAD:
            self.head += chunk[: _HEAD - self.size]
        self.size += len(chunk)

    def _left_for_later(self, rest: Iterable[bytes]) -> bool:
        if not (self.keep and self._shared and self.note is not None):
            return False
        try:
            for chunk in rest:
                self._append(chunk)
            self._save_note()
        except OSError:
            return False
        return self.size > 0

    def _rename(self) -> None:
        if self._overwrite:
            self._path.replace(self._target)
        else:
            _rename_new(self._path, self._target)

    def _remove(self) -> None:
        self._drop_note()
        self._let_go()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _let_go(self) -> None:
        # Windows, which has no locks, neither renames nor removes a file that is open.
        if not self._shared:
            self._close_file()

    def _close_file(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    @property
    def _note_path(self) -> Path:
        return self._path.with_name(f"{self._path.name}.json")

    def _save_note(self) -> None:
        if not self._shared or self._noted or self.note is None:
            return
        # A note that is cut short by a crash is not valid JSON, and does not count.
        fd = os.open(self._note_path, _FLAGS | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(attrs.asdict(self.note), file)
        self._noted = True

    def _read_note(self) -> Note | None:
        try:
            return _note(json.loads(self._note_path.read_bytes()))
        except (OSError, ValueError, RecursionError):
            return None

    def _drop_note(self) -> None:
        self._noted = False
        if self._shared:
            with contextlib.suppress(OSError):
                self._note_path.unlink()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> DownloadError:
        self.keep = False
        reason = _REASONS.get(error.errno or 0, error.strerror or type(error).__name__)
        return DownloadError(f"{self._target} could not be written: {reason}", path=str(self._target))


def _note(found: Any) -> Note | None:
    """Return the note that was read from a file, or None where it is none of ours."""
    try:
        note = Note(**found)
    except TypeError:
        return None
    texts = isinstance(note.source, str) and isinstance(note.validator, str) and note.validator.isprintable()
    return note if texts and (note.total is None or type(note.total) is int) else None


def _lock(fd: int) -> bool:
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _short(name: str) -> str:
    """Return `name`, or a digest of it where a longer one would be longer than file systems allow."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= 200 else hashlib.sha256(encoded).hexdigest()[:32]


def _is_ours(fd: int, path: Path) -> bool:
    """Say whether `fd` is what `path` names now (its last owner may have renamed it), and nobody else's work."""
    opened = os.fstat(fd)
    try:
        named = path.lstat()
    except OSError:
        return False
    plain = stat.S_ISREG(opened.st_mode) and opened.st_nlink == 1 and opened.st_uid == os.geteuid()
    return plain and os.path.samestat(opened, named)


def _rename_new(path: Path, target: Path) -> None:
    """Rename `path` to `target`, which must not exist."""
    try:
        os.link(path, target)
    except FileExistsError:
        raise
    except OSError:
        # No hard links here. Windows refuses to rename to a name that exists; elsewhere a moment is left unguarded.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "exists") from None
        path.rename(target)
    else:
        path.unlink()
