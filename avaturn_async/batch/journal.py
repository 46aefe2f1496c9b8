"""The journal of a batch: what was started and what is done, so that a later run goes on where one ended."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import attrs

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

__all__ = ["Entry", "Journal", "State"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
State: TypeAlias = Literal["pending", "done", "failed"]

#: What tells our files from other SQLite files ("AVTN"), and the version of the tables.
_APPLICATION = 0x4156544E
_VERSION = 1
#: Seconds to wait for another process that has the file.
_PATIENCE = 1.0

_TABLES = (
    "CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE exports (avatar_id BLOB PRIMARY KEY, state TEXT NOT NULL, attempts INTEGER NOT NULL,"
    " resume_token TEXT, file TEXT, size INTEGER, sha256 TEXT, error TEXT) WITHOUT ROWID",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
)
_READ = "SELECT state, attempts, resume_token, file, size, sha256, error FROM exports WHERE avatar_id = ?"
_WRITE = "INSERT OR REPLACE INTO exports VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

_REASONS = {
    "SQLITE_BUSY": "another batch is using it",
    "SQLITE_NOTADB": "it is not a SQLite file",
}


@attrs.frozen
class Entry:
    """What a journal knows of one avatar.

    Attributes:
        state: ``"pending"``, ``"done"`` or ``"failed"``.
        attempts: how often its export was asked for, over all runs.
        resume_token: what the wait of a pending one goes on with.
        file: the name of the file that was downloaded.
        size: its length in bytes.
        sha256: its SHA-256, hexadecimal.
        error: what went wrong, as a sentence.
    """

    state: State
    attempts: int = 0
    resume_token: str | None = None
    file: str | None = None
    size: int | None = None
    sha256: str | None = None
    error: str | None = None


class Journal:
    """A SQLite file that one batch at a time works with, in a thread of its own.

    What is awaited of `write` is committed, together with whatever else came while the thread was busy. Once it is open
    it never stops a batch: an entry that can't be read or written is logged, and at worst a later run does something
    again.

    Args:
        path: the file; its folder must exist.
        base_url: where the exports are; a journal is of no use elsewhere.
    """

    def __init__(self, path: str | os.PathLike[str], base_url: str) -> None:
        self._path = Path(path)
        self._base_url = base_url
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="avaturn-journal")
        self._database: sqlite3.Connection | None = None
        self._unwritten: deque[tuple[Any, ...]] = deque()

    async def open(self) -> None:
        """Open the file, or make it; whatever happens, `aclose` is to be called.

        Raises:
            ConfigurationError: another batch is using it, it belongs to another base_url, a newer release made it, or
                it is something else.
        """
        try:
            problem = await self._off_loop(self._open)
        except sqlite3.Error as error:
            problem = _reason(error)
        if problem is not None:
            raise ConfigurationError(f"the journal {self._path} can't be used: {problem}")

    async def read(self, avatar_id: UUID) -> Entry | None:
        """Return what is known of an avatar."""
        return await self._off_loop(self._read, avatar_id.bytes)

    async def write(self, avatar_id: UUID, state: State, attempts: int, **found: Any) -> None:
        """Remember an `Entry` of these in place of what was known of an avatar; return once it is committed."""
        self._unwritten.append((avatar_id.bytes, *attrs.astuple(Entry(state, attempts, **found))))
        await self._off_loop(self._flush)

    async def aclose(self) -> None:
        """Commit what is left and close the file."""
        try:
            await self._off_loop(self._close)
        finally:
            self._thread.shutdown(wait=False)

    async def _off_loop(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    # In the thread.

    def _open(self) -> str | None:
        path = os.path.abspath(self._path)  # noqa: PTH100 - ":memory:" and "" are names like others
        database = self._database = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        problem = self._mismatch(database)
        if problem is None and not _tables(database):
            self._make_tables(database)
        database.execute("COMMIT")
        if problem is None:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
        return problem

    def _mismatch(self, database: sqlite3.Connection) -> str | None:
        if not _tables(database):
            return None
        if _pragma(database, "application_id") != _APPLICATION:
            return "it is a SQLite file, but not a journal"
        version = _pragma(database, "user_version")
        if version > _VERSION:
            return f"it is of version {version}, and this release knows up to {_VERSION}"
        (base_url,) = database.execute("SELECT value FROM about WHERE name = 'base_url'").fetchone()
        if base_url != self._base_url:
            return f"it belongs to {base_url!r:.200}, but the client's base_url is {self._base_url!r}"
        return None

    def _make_tables(self, database: sqlite3.Connection) -> None:
        for statement in _TABLES:
            database.execute(statement)
        database.execute("INSERT INTO about VALUES ('base_url', ?)", (self._base_url,))

    def _read(self, key: bytes) -> Entry | None:
        try:
            row = self._opened().execute(_READ, (key,)).fetchone()
        except sqlite3.Error as error:
            logger.warning("the journal %s can't be read: %s", self._path, _reason(error))
            return None
        return None if row is None else Entry(*row)

    def _flush(self) -> None:
        rows = [self._unwritten.popleft() for _ in range(len(self._unwritten))]
        if not rows:
            return  # an earlier call took them all
        try:
            self._commit(self._opened(), rows)
        except sqlite3.Error as error:
            logger.warning("the journal %s lacks %d entries: %s", self._path, len(rows), _reason(error))

    def _commit(self, database: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> None:
        database.execute("BEGIN")
        try:
            database.executemany(_WRITE, rows)
            database.execute("COMMIT")
        except sqlite3.Error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            raise sqlite3.ProgrammingError("it is not open")
        return self._database

    def _close(self) -> None:
        if self._database is None:
            return
        self._flush()
        try:
            self._database.close()
        except sqlite3.Error as error:
            logger.warning("the journal %s was not closed well: %s", self._path, _reason(error))
        self._database = None


def _tables(database: sqlite3.Connection) -> int:
    (count,) = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return int(count)


def _pragma(database: sqlite3.Connection, name: str) -> int:
    (value,) = database.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def _reason(error: sqlite3.Error) -> str:
    name: str = getattr(error, "sqlite_errorname", "")
    return _REASONS.get(name, f"SQLite says: {error}")
