"""The journal of a batch: a SQLite file with which a later run continues an earlier one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import stat
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args
from uuid import UUID

import attrs

from ..errors import ConfigurationError
from ..http.tasks import run_in_thread
from ..redact import without_queries

__all__ = ["Entry", "Journal", "State"]

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")
State: TypeAlias = Literal["pending", "done", "saved", "failed"]

#: Identify our files among SQLite files ("AVTN"), and the version of the tables.
_APPLICATION_ID = 0x4156544E
_VERSION = 1
#: Seconds to wait for another process that uses the file.
_BUSY_TIMEOUT = 1.0
#: Bytes of a value, and the largest number: no entry of ours comes near either.
_MAX_LENGTH = 100_000
_MAX_NUMBER = 2**53
#: Characters of an error that are kept.
_MAX_ERROR = 500

_SCHEMA = {
    "about": "CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "exports": "CREATE TABLE exports (avatar_id BLOB PRIMARY KEY, state TEXT NOT NULL, attempts INTEGER NOT NULL,"
    " resume_token TEXT, file TEXT, size INTEGER, sha256 TEXT, error TEXT) WITHOUT ROWID",
}
_READ = "SELECT state, attempts, resume_token, file, size, sha256, error FROM exports WHERE avatar_id = ?"
_READ_UNFINISHED = "SELECT avatar_id, file FROM exports WHERE state IN ('failed', 'pending')"
_WRITE = "INSERT OR REPLACE INTO exports VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

_REASONS = {
    "SQLITE_BUSY": "another batch is using it",
    "SQLITE_NOTADB": "it is not a SQLite file",
}


class _RefusedError(Exception):
    """The file can't be used as a journal, or an entry is invalid."""


@attrs.frozen
class Entry:
    """The entry of one avatar.

    Attributes:
        state: ``"pending"``; ``"done"``: exported, and downloaded if `file` is set; ``"saved"``: given to a sink, which
            returned; or ``"failed"``.
        attempts: number of times that its export was created, over all runs.
        resume_token: the token by which a pending export is resumed.
        file: the name of the file that was downloaded or saved, or would have been.
        size: its length in bytes.
        sha256: its SHA-256, hexadecimal, if one was taken.
        error: why it failed.
    """

    state: State
    attempts: int = 0
    resume_token: str | None = None
    file: str | None = None
    size: int | None = None
    sha256: str | None = None
    error: str | None = None


class Journal:
    """A SQLite file that one batch at a time uses, in a thread of its own.

    Awaiting a write commits it, together with all writes requested while the thread was busy. Once the journal is
    open, its failures never stop a batch: each kind is logged once, and at worst a later run repeats work.

    The file is created with mode 0600, and is refused unless it and SQLite's files beside it are regular files of this
    user without further links. Its folder is not checked: use one that other users can't write to.

    Args:
        path: the file; its folder must exist.
        base_url: the API that its exports belong to.
        kind: the kind of its entries; a file holds one kind.
    """

    def __init__(self, path: str | os.PathLike[str], base_url: str, *, kind: str = "exports") -> None:
        self._path = Path(path)
        self._base_url = base_url
        self._kind = kind
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="avaturn-journal")
        self._database: sqlite3.Connection | None = None
        self._unwritten: deque[tuple[Any, ...]] = deque()
        self._logged: set[str] = set()

    async def open(self) -> None:
        """Open the file, or create it. `aclose` must be called even if this raises.

        Raises:
            ConfigurationError: another batch uses it, it belongs to another base_url or user, a newer release made it,
                or it is not a journal.
        """
        try:
            await run_in_thread(self._open, executor=self._thread)
        except _RefusedError as error:
            reason = str(error)
        except (sqlite3.Error, OSError) as error:
            reason = _reason(error)
        else:
            return
        raise ConfigurationError(f"the journal {self._path} can't be used: {reason}")

    async def read(self, avatar_id: UUID) -> Entry | None:
        """Return the entry of an avatar, or None."""
        return await self._attempt("can't be read", self._read, avatar_id.bytes)

    async def unfinished(self) -> list[tuple[UUID, str | None]]:
        """Return the avatars that failed or are pending, and the names of their files if known."""
        return await self._attempt("can't be read", self._read_unfinished) or []

    async def write(self, avatar_id: UUID, state: State, attempts: int, **fields: Any) -> None:
        """Replace the entry of an avatar by one with these fields; return once it is committed."""
        entry = Entry(state, attempts, **fields)
        if entry.error is not None:
            text = without_queries(entry.error)[:_MAX_ERROR].encode("utf-8", "replace").decode()
            entry = attrs.evolve(entry, error=text)
        self._unwritten.append((avatar_id.bytes, *attrs.astuple(entry)))
        await self._attempt("lacks entries", self._flush)

    async def aclose(self) -> None:
        """Commit the remaining writes and close the file."""
        try:
            await self._attempt("was not closed properly", self._close)
        finally:
            self._thread.shutdown(wait=False)

    async def _attempt(self, problem: str, work: Callable[..., T], *arguments: Any) -> T | None:
        """Run `work` in the thread; if it fails, log the problem unless it was logged before, and return None."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        except Exception as error:  # noqa: BLE001 - a failing journal never stops the batch
            if problem not in self._logged:
                self._logged.add(problem)
                logger.warning("the journal %s %s: %s", self._path, problem, _reason(error))
            return None

    # The rest runs in the thread.

    def _open(self) -> None:
        path = os.path.abspath(self._path)  # noqa: PTH100 - ":memory:" and "" are ordinary names
        _claim(path)
        database = self._database = sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None)
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_LENGTH)
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        try:
            self._check_or_create(database)
            database.execute("COMMIT")
        finally:
            if database.in_transaction:
                database.execute("ROLLBACK")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")

    def _check_or_create(self, database: sqlite3.Connection) -> None:
        found = database.execute("SELECT type, name, sql FROM sqlite_schema").fetchall()
        if not found:
            for statement in _SCHEMA.values():
                database.execute(statement)
            database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {_VERSION}")
            rows = [("base_url", self._base_url), ("kind", self._kind)]
            database.executemany("INSERT INTO about VALUES (?, ?)", rows)
            return
        if database.execute("PRAGMA application_id").fetchone() != (_APPLICATION_ID,):
            raise _RefusedError("it is a SQLite file, but not a journal")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise _RefusedError(f"it is of version {version}, and this release knows up to {_VERSION}")
        if sorted(found) != [("table", name, sql) for name, sql in _SCHEMA.items()]:
            raise _RefusedError("its tables are not those of a journal; start a new one")
        about: dict[str, str] = dict(database.execute("SELECT name, value FROM about").fetchall())
        if "base_url" not in about:
            raise _RefusedError("it does not say which base_url it belongs to; start a new one")
        base_url, mine = about["base_url"], self._base_url
        if base_url != mine:
            raise _RefusedError(f"it belongs to {base_url!r:.200}, but the client's base_url is {mine!r}")
        kind = about.get("kind", "exports")  # release 0.1.0 did not write it
        if kind != self._kind:
            raise _RefusedError(f"it is a journal of {kind!r:.80}, not of {self._kind}")

    def _read(self, key: bytes) -> Entry | None:
        row = self._opened().execute(_READ, (key,)).fetchone()
        if row is None:
            return None
        entry = Entry(*row)
        texts = (entry.resume_token, entry.file, entry.sha256, entry.error)
        numbers = (entry.attempts, entry.size or 0)
        if (
            entry.state not in get_args(State)
            or not all(text is None or isinstance(text, str) for text in texts)
            or not all(type(number) is int and 0 <= number < _MAX_NUMBER for number in numbers)
        ):
            raise _RefusedError(f"the entry of avatar {UUID(bytes=key)} is not one that a batch writes")
        return entry

    def _read_unfinished(self) -> list[tuple[UUID, str | None]]:
        return [(UUID(bytes=key), file) for key, file in self._opened().execute(_READ_UNFINISHED)]

    def _flush(self) -> None:
        rows = [self._unwritten.popleft() for _ in range(len(self._unwritten))]
        if not rows:
            return  # an earlier call took them all
        database = self._opened()
        database.execute("BEGIN")
        try:
            database.executemany(_WRITE, rows)
            database.execute("COMMIT")
        finally:
            if database.in_transaction:
                database.execute("ROLLBACK")

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            raise sqlite3.ProgrammingError("it is not open")
        return self._database

    def _close(self) -> None:
        if self._database is not None:
            try:
                self._flush()
            finally:
                self._database.close()
                self._database = None


def _claim(path: str) -> None:
    """Create the file if it does not exist, and refuse files that others may have prepared.

    An existing file is never opened here: closing it would drop the locks that another batch of this process has on it.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, flags, 0o600))
    for each in (path, f"{path}-wal", f"{path}-shm", f"{path}-journal"):
        try:
            found = os.lstat(each)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(found.st_mode):
            raise _RefusedError(f"{each} is not a regular file")
        if found.st_nlink != 1:
            raise _RefusedError(f"{each} has another name (a hard link)")
        if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
            raise _RefusedError(f"{each} belongs to another user")
        if stat.S_IMODE(found.st_mode) & 0o077 and os.name == "posix":
            with contextlib.suppress(OSError):  # file systems without modes
                Path(each).chmod(0o600)  # release 0.1.0 left it to the umask


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    name: str = getattr(error, "sqlite_errorname", "")
    return _REASONS.get(name, f"SQLite says: {error}" if isinstance(error, sqlite3.Error) else str(error))
