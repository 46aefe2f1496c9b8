"""The journal of a batch: what was started, what is done, so that a later run goes on where one ended."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from .errors import AvaturnError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

__all__ = ["Entry", "Journal", "JournalError"]

T = TypeVar("T")


class JournalError(AvaturnError):
    """A journal that could not be read or written while a batch ran, such as on a full disk."""


_VERSION = "1"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS exports (
    avatar_id BLOB PRIMARY KEY,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    resume_token TEXT,
    size INTEGER,
    sha256 TEXT,
    error TEXT
) WITHOUT ROWID;
"""
_WRITE = "INSERT OR REPLACE INTO exports VALUES (?, ?, ?, ?, ?, ?, ?)"
_READ = "SELECT state, attempts, resume_token, size, sha256, error FROM exports WHERE avatar_id = ?"


@attrs.frozen
class Entry:
    """What a journal knows of one avatar.

    Attributes:
        state: ``"pending"``, ``"done"`` or ``"failed"``.
        attempts: how often its export was tried, over all runs.
        resume_token: what the wait of a pending one goes on with.
        size: bytes of the file that was downloaded.
        sha256: its SHA-256, hexadecimal.
        error: what went wrong, as a sentence.
    """

    state: str
    attempts: int = 0
    resume_token: str | None = None
    size: int | None = None
    sha256: str | None = None
    error: str | None = None


class Journal:
    """A SQLite file that one batch at a time writes to, in a thread of its own.

    Every change is committed before the batch goes on, so that a killed process loses nothing that it was told.
    """

    def __init__(self, path: str | os.PathLike[str], base_url: str) -> None:
        self._path = os.fspath(path)
        self._base_url = base_url
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="avaturn-journal")
        self._database: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open or make the file.

        Raises:
            ConfigurationError: it is another batch's at this moment, belongs to another base_url, was made by a newer
                release, or is no journal.
        """
        problem: str | None = None
        try:
            problem = await self._off_loop(self._open)
        except sqlite3.Error as error:
            problem = "another batch is writing to it" if "locked" in str(error) else f"SQLite says: {error}"
        except asyncio.CancelledError:  # the thread goes on, and must not keep the lock
            self._thread.submit(self._close)
            self._thread.shutdown(wait=False)
            raise
        if problem is not None:
            await self.aclose()
            raise ConfigurationError(f"the journal {self._path} can't be used: {problem}")

    async def read(self, avatar_id: UUID) -> Entry | None:
        """Return what is known of an avatar; a JournalError says that the file can't be read."""
        return await self._guarded(self._read, avatar_id)

    async def write(self, avatar_id: UUID, entry: Entry) -> None:
        """Remember this of an avatar; a JournalError says that the file can't be written."""
        await self._guarded(self._write, avatar_id, entry)

    async def aclose(self) -> None:
        """Close the file; what was written is kept. Calling it again does nothing."""
        try:
            with suppress(RuntimeError, sqlite3.Error):  # the thread has ended already, or the disk is full
                await self._off_loop(self._close)
        finally:
            self._thread.shutdown(wait=False)

    async def _guarded(self, work: Callable[..., T], *arguments: Any) -> T:
        problem = ""
        try:
            return await self._off_loop(work, *arguments)
        except sqlite3.Error as error:
            problem = str(error)
        raise JournalError(f"the journal {self._path} failed: SQLite says: {problem}")

    async def _off_loop(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _open(self) -> str | None:
        database = self._database = sqlite3.connect(self._path, timeout=0.5, isolation_level=None)
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("BEGIN EXCLUSIVE")
        for statement in filter(str.strip, _SCHEMA.split(";")):
            database.execute(statement)
        about = dict(database.execute("SELECT name, value FROM about"))
        problem = self._mismatch(about)
        if problem is None and not about:
            database.executemany("INSERT INTO about VALUES (?, ?)", [("v", _VERSION), ("base_url", self._base_url)])
        database.execute("COMMIT" if problem is None else "ROLLBACK")
        return problem

    def _mismatch(self, about: dict[str, str]) -> str | None:
        if about and about.get("v") != _VERSION:
            return f"it is of version {about.get('v')!r:.20}, this release writes {_VERSION!r}"
        if about and about.get("base_url") != self._base_url:
            return f"it belongs to {about.get('base_url')!r:.200}, the client's base_url is {self._base_url!r}"
        return None

    def _read(self, avatar_id: UUID) -> Entry | None:
        row = self._connected().execute(_READ, (avatar_id.bytes,)).fetchone()
        return None if row is None else Entry(*row)

    def _write(self, avatar_id: UUID, entry: Entry) -> None:
        self._connected().execute(_WRITE, (avatar_id.bytes, *attrs.astuple(entry)))

    def _connected(self) -> sqlite3.Connection:
        if self._database is None:
            raise ConfigurationError(f"the journal {self._path} is closed")
        return self._database

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
