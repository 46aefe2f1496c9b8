"""A file that gets its name once it is whole. Everything here blocks and runs in threads."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs

from ..errors import DownloadError
from .glb import CHECKED
from .session import STRONG_ETAG

fcntl: Any = None
with contextlib.suppress(ImportError):  # not on Windows
    fcntl = import_module("fcntl")

__all__ = ["PartFile", "ResumeInfo"]

_SHARED_NAMES = 8
_MAX_STEM = 200  # bytes: a longer name is replaced, which leaves room for what is added
_MAX_INFO = 64 * 1024
_BLOCK = 1024 * 1024
# O_NONBLOCK: a FIFO in the way must not block the thread.
_SAFE = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))

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
class ResumeInfo:
    """What a later run needs to resume a partial file.

    Attributes:
        source: the url without its query: an ETag tells versions of one resource apart, not resources.
        etag: the strong ETag of the version.
        total: the length of the whole file in bytes, or None if unknown.
    """

    source: str
    etag: str
    total: int | None


class PartFile:
    """The partial file of one download: ``.NAME.part`` beside the target, with ``.NAME.part.json``, a `ResumeInfo`.

    It is locked, so that no two downloads share it: further downloads of the same target take ``.NAME.1.part`` and so
    on. A later download adopts or removes what a killed process has left under these names. Where there are no locks,
    the name is random and a killed process leaves its partial file behind.

    Anybody who can write to the folder may have put something else under these names. Nothing is followed, waited for
    or written to but regular files of this user that have no other name, and a new ResumeInfo is always a new file.

    Nothing is synced: a process may be killed at any moment without harm, and after a power cut today's file systems
    have the renamed file either whole or short, which its reader checks anyway.

    Attributes:
        size: bytes written so far.
        head: after `open`, the first bytes that an earlier download left.
        info: after `open`, what an earlier download left, or None.
        keep: whether `close` leaves a file that can be resumed.
    """

    def __init__(self, target: Path, *, overwrite: bool) -> None:
        self.size: int = 0
        self.head: bytes = b""
        self.info: ResumeInfo | None = None
        self.keep: bool = True
        self._target = target
        self._overwrite = overwrite
        self._path = target
        self._fd = -1
        self._exists = False
        self._locked = False
        self._saved: ResumeInfo | None = None

    def open(self, source: str, update_digest: Callable[[bytes], object] | None = None) -> None:
        """Open a partial file, and adopt what an earlier download of the same source has left in it.

        `update_digest` is called with all that is adopted.
        """
        with self._explained():
            if self._target.is_dir():
                raise IsADirectoryError(errno.EISDIR, "is a directory")
            if not self._overwrite and os.path.lexists(self._target):
                raise FileExistsError(errno.EEXIST, "exists")
            self._claim()
            self._adopt(source, update_digest)

    def write(self, chunks: Iterable[bytes], info: ResumeInfo | None = None) -> None:
        """Append `chunks`, and save `info` for a later download unless the file is whole."""
        with self._explained():
            for chunk in chunks:
                written = os.write(self._fd, chunk)
                while written < len(chunk):
                    written += os.write(self._fd, memoryview(chunk)[written:])
                self.size += len(chunk)
        if self._locked and self.size and info is not None and info != self._saved and self.size != info.total:
            with contextlib.suppress(OSError):  # only a later download misses it
                self._save_info(info)

    def rewind(self) -> None:
        """Drop everything that was written."""
        with self._explained():
            self._drop_info()
            # ext4 flushes a file at its close once it was truncated, even if it was empty.
            if os.fstat(self._fd).st_size:
                os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
        self.size, self.head, self.info = 0, b"", None

    def publish(self) -> None:
        """Give the file its name, atomically, and close it."""
        with self._explained():
            # NFS and quotas report some errors at close: get them before the rename, while the lock keeps others out.
            os.close(os.dup(self._fd))
            if not self._locked:
                self._close_fd()  # Windows, which has no locks, does not rename open files
            self._drop_info()
            if self._overwrite:
                self._path.replace(self._target)
            else:
                _rename_new(self._path, self._target)
            self._exists = False
            self._close_fd()
        for path in self._shared_paths():
            if path != self._path and not _remove_abandoned(path):
                break

    def close(self) -> None:
        """Close the file. Unless it was published or a later download can resume it, remove it."""
        if self._exists and not (self.keep and self._saved):
            self._drop_info()
            if not self._locked:
                self._close_fd()
            with contextlib.suppress(OSError):
                self._path.unlink()
        with contextlib.suppress(OSError):
            self._close_fd()

    def _shared_paths(self) -> Iterator[Path]:
        if fcntl is not None:
            name = os.fsencode(self._target.name)
            stem = self._target.name if len(name) <= _MAX_STEM else hashlib.sha256(name).hexdigest()[:32]
            for number in range(_SHARED_NAMES):
                yield self._target.parent / (f".{stem}.{number}.part" if number else f".{stem}.part")

    def _claim(self) -> None:
        for path in self._shared_paths():
            with contextlib.suppress(OSError):
                self._fd = _open_locked(path, os.O_RDWR | os.O_CREAT)
                self._path, self._locked, self._exists = path, True, True
                return
        self._path = self._target.parent / f".{secrets.token_hex(16)}.part"
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFE, 0o666)
        self._exists = True

    def _adopt(self, source: str, update_digest: Callable[[bytes], object] | None) -> None:
        size = os.fstat(self._fd).st_size
        info = self._read_info() if self._locked and size else None
        if info is not None and info.total is not None:
            size = min(size, info.total - 1)  # the last byte is requested again, so that the server confirms the rest
        if info is None or info.source != source or size <= 0:
            self.rewind()
            return
        os.ftruncate(self._fd, size)
        self.head = os.read(self._fd, CHECKED)
        if update_digest is not None:
            update_digest(self.head)
            while block := os.read(self._fd, _BLOCK):
                update_digest(block)
        self.size = os.lseek(self._fd, size, os.SEEK_SET)
        self.info = self._saved = info

    def _read_info(self) -> ResumeInfo | None:
        try:
            fd = os.open(_info_path(self._path), os.O_RDONLY | _SAFE)
            with os.fdopen(fd, "rb") as file:
                info = ResumeInfo(**json.loads(file.read(_MAX_INFO)))
                valid = STRONG_ETAG.fullmatch(info.etag) and isinstance(info.total, int | None)
                return info if valid and _is_own_file(fd, _info_path(self._path)) else None
        except (OSError, ValueError, TypeError, RecursionError):
            return None

    def _save_info(self, info: ResumeInfo) -> None:
        self._drop_info()
        fd = os.open(_info_path(self._path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(attrs.asdict(info), file)
        self._saved = info

    def _drop_info(self) -> None:
        self._saved = None
        if self._locked:
            with contextlib.suppress(OSError):
                _info_path(self._path).unlink()

    def _close_fd(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.keep = False
            reason = _REASONS.get(error.errno or 0, error.strerror or type(error).__name__)
            message = f"{self._target} could not be written: {reason}"
            raise DownloadError(message, path=str(self._target)) from error


def _info_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _open_locked(path: Path, flags: int) -> int:
    """Open and lock a partial file, or raise OSError if another download has it or it is not ours."""
    fd = os.open(path, flags | _SAFE, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_own_file(fd, path):
            raise FileExistsError(errno.EEXIST, "another file")
    except OSError:
        os.close(fd)
        raise
    return fd


def _is_own_file(fd: int, path: Path) -> bool:
    """Say whether `fd` is what `path` names now (its owner may have renamed it), and a file of this user alone."""
    opened = os.fstat(fd)
    plain = stat.S_ISREG(opened.st_mode) and opened.st_nlink == 1 and opened.st_uid == os.geteuid()
    return plain and os.path.samestat(opened, path.lstat())


def _remove_abandoned(path: Path) -> bool:
    """Remove a partial file that a killed process has left, and say whether there was any under this name."""
    try:
        fd = _open_locked(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    with contextlib.suppress(OSError):
        _info_path(path).unlink(missing_ok=True)
        path.unlink()
    os.close(fd)
    return True


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
