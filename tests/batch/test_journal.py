"""The journal: what it keeps, what it refuses, and what it does when its disk fails."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from avaturn_async import ConfigurationError
from avaturn_async.batch.journal import Entry, Journal

API = "https://api.example"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a journal."""
    return tmp_path / "journal.db"


async def refusal(path: Path, base_url: str = API) -> str:
    """Open a journal that can't be opened, and return what is said."""
    journal = Journal(path, base_url)
    with pytest.raises(ConfigurationError) as caught:
        await journal.open()
    await journal.aclose()
    assert f"the journal {path} can't be used: " in str(caught.value)
    return str(caught.value)


async def make(path: Path) -> None:
    """Make an empty journal."""
    journal = Journal(path, API)
    await journal.open()
    await journal.aclose()


async def test_entries_are_kept(path: Path) -> None:
    """What was written is read by the next one, the last entry of each avatar."""
    journal, avatar_id, other = Journal(path, API), uuid4(), uuid4()
    await journal.open()
    assert await journal.read(avatar_id) is None
    await journal.write(avatar_id, "pending", 1, resume_token="{}")
    await journal.write(avatar_id, "done", 2, file="a.glb", size=12, sha256="ab")
    await journal.write(other, "failed", 3, error="so it goes")
    await journal.aclose()
    journal = Journal(path, API)
    await journal.open()
    assert Entry("done", 2, None, "a.glb", 12, "ab", None) == await journal.read(avatar_id)
    assert Entry("failed", 3, error="so it goes") == await journal.read(other)
    await journal.aclose()
    assert [path] == list(path.parent.iterdir())


async def test_many_writes_share_a_commit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes while the thread is busy is committed together, and each writer goes on after its commit."""
    journal, ids = Journal(path, API), [uuid4() for _ in range(500)]
    commits = []
    await journal.open()
    whole = journal._commit
    monkeypatch.setattr(journal, "_commit", lambda database, rows: (commits.append(len(rows)), whole(database, rows)))
    await asyncio.gather(*(journal.write(avatar_id, "done", 1) for avatar_id in ids))
    assert 500 == sum(commits)
    assert len(commits) < 250
    assert all([await journal.read(avatar_id) for avatar_id in ids])
    await journal.aclose()


async def test_a_write_that_was_cancelled_is_kept_all_the_same(path: Path) -> None:
    """It is committed with the next one, or at the end."""
    journal, avatar_id = Journal(path, API), uuid4()
    await journal.open()
    writes = [asyncio.create_task(journal.write(each, "done", 1)) for each in (uuid4(), avatar_id)]
    await asyncio.sleep(0)
    for write in writes:
        write.cancel()
    await asyncio.wait(writes)
    await journal.aclose()
    with closing(sqlite3.connect(path)) as database:
        assert (2,) == database.execute("SELECT count(*) FROM exports").fetchone()


async def test_one_batch_at_a_time(path: Path) -> None:
    """A second one is told so, and can have the journal afterwards."""
    journal = Journal(path, API)
    await journal.open()
    assert "another batch is using it" in await refusal(path)
    await journal.write(uuid4(), "done", 1)
    await journal.aclose()
    await make(path)


async def test_another_api_is_refused(path: Path) -> None:
    """Both are named."""
    await make(path)
    said = await refusal(path, "https://other.example")
    assert API in said
    assert "https://other.example" in said


async def test_a_newer_release_is_refused(path: Path) -> None:
    """By the version of its tables."""
    await make(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 9")
    assert "version 9" in await refusal(path)


async def test_what_is_no_journal_is_refused_and_left_alone(path: Path) -> None:
    """Another program's SQLite file, another file, a folder, a folder that is not there."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE about (name TEXT)")
    before = path.read_bytes()
    assert "but not a journal" in await refusal(path)
    assert before == path.read_bytes()
    path.write_text("no database, " * 100)
    assert "not a SQLite file" in await refusal(path)
    assert "no database, " * 100 == path.read_text()
    path.unlink()
    path.mkdir()
    assert "SQLite says" in await refusal(path)
    assert "SQLite says" in await refusal(path / "none" / "journal.db")


async def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    """As one made by `mktemp` is."""
    path.touch()
    await make(path)
    assert path.stat().st_size


async def test_memory_is_a_name_like_others(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite would keep that journal nowhere."""
    monkeypatch.chdir(path.parent)
    await make(Path(":memory:"))
    assert (path.parent / ":memory:").is_file()


class Broken:
    """A database whose disk is full."""

    in_transaction = True

    def __init__(self) -> None:
        self.said: list[str] = []

    def execute(self, statement: str, *_: Any) -> Any:
        self.said.append(statement)
        if statement.startswith("SELECT"):
            raise sqlite3.OperationalError("disk I/O error")

    def executemany(self, *_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    def close(self) -> None:
        self.said.append("close")
        raise sqlite3.OperationalError("disk I/O error")


async def test_a_journal_whose_disk_fails_never_stops_a_batch(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It says what is lost, and that is all: the files themselves are found by a later run."""
    journal, broken = Journal(path, API), Broken()
    journal._database = broken  # type: ignore[assignment]
    await journal.write(uuid4(), "done", 1)
    assert await journal.read(uuid4()) is None
    broken.in_transaction = False
    await journal.write(uuid4(), "done", 1)
    await journal.aclose()
    assert ["BEGIN", "ROLLBACK", "BEGIN", "close"] == [said for said in broken.said if not said.startswith("SELECT")]
    assert [
        f"the journal {path} lacks 1 entries: SQLite says: database or disk is full",
        f"the journal {path} can't be read: SQLite says: disk I/O error",
        f"the journal {path} lacks 1 entries: SQLite says: database or disk is full",
        f"the journal {path} was not closed well: SQLite says: disk I/O error",
    ] == caplog.messages


async def test_a_journal_that_is_not_open_says_so(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As an entry that can't be read."""
    journal = Journal(path, API)
    assert await journal.read(uuid4()) is None
    await journal.aclose()
    assert "it is not open" in caplog.text
