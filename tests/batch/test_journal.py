"""The journal: what it keeps, which files it refuses, and how little its failures matter."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from avaturn_async import ConfigurationError
from avaturn_async.batch.journal import Entry, Journal

from .kit import FakeExports, new_batch, uuids

API = "https://api.example"
#: The tables of release 0.1.0.
RELEASE_0_1_0 = (
    "CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE exports (avatar_id BLOB PRIMARY KEY, state TEXT NOT NULL, attempts INTEGER NOT NULL,"
    " resume_token TEXT, file TEXT, size INTEGER, sha256 TEXT, error TEXT) WITHOUT ROWID",
    "PRAGMA application_id = 1096176718",
    "PRAGMA user_version = 1",
    f"INSERT INTO about VALUES ('base_url', '{API}')",
    "PRAGMA journal_mode = WAL",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a journal."""
    return tmp_path / "journal.db"


async def refusal(path: Path, base_url: str = API) -> str:
    """Open a journal that is refused, and return the message."""
    journal = Journal(path, base_url)
    with pytest.raises(ConfigurationError) as caught:
        await journal.open()
    await journal.aclose()
    assert f"the journal {path} can't be used: " in str(caught.value)
    return str(caught.value)


async def make(path: Path) -> None:
    """Create an empty journal."""
    journal = Journal(path, API)
    await journal.open()
    await journal.aclose()


async def read(path: Path, avatar_id: Any) -> Entry | None:
    """Return what a journal has of an avatar."""
    journal = Journal(path, API)
    await journal.open()
    entry = await journal.read(avatar_id)
    await journal.aclose()
    return entry


def execute(path: Path, *statements: str) -> None:
    """Change a journal by other means."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)


async def test_entries_are_kept(path: Path) -> None:
    """The last entry of each avatar; only the journal's own file is left when it is closed."""
    journal, avatar_id, other = Journal(path, API), uuid4(), uuid4()
    await journal.open()
    assert await journal.read(avatar_id) is None
    await journal.write(avatar_id, "pending", 1, resume_token="{}")
    await journal.write(avatar_id, "done", 2, file="a.glb", size=12, sha256="ab")
    await journal.write(other, "failed", 3, error="so it goes")
    await journal.aclose()
    assert Entry("done", 2, None, "a.glb", 12, "ab", None) == await read(path, avatar_id)
    assert Entry("failed", 3, error="so it goes") == await read(path, other)
    assert [path] == list(path.parent.iterdir())


async def test_concurrent_writes_are_committed(path: Path) -> None:
    """All of them, each before its writer goes on."""
    journal, ids = Journal(path, API), [uuid4() for _ in range(500)]
    await journal.open()
    await asyncio.gather(*(journal.write(avatar_id, "done", 1) for avatar_id in ids))
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


async def test_a_journal_of_release_0_1_0_is_read(path: Path) -> None:
    """Its tables are those of today; its file was readable by everybody, and is no more."""
    avatar_id = uuid4()
    execute(path, *RELEASE_0_1_0)
    execute(path, f"INSERT INTO exports VALUES (x'{avatar_id.hex}', 'done', 1, NULL, 'a.glb', 12, 'ab', NULL)")
    path.chmod(0o644)
    assert Entry("done", 1, None, "a.glb", 12, "ab", None) == await read(path, avatar_id)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


class TestRefusedFiles:
    """Files that are no journal, or that somebody else may have prepared. They are left as they were."""

    async def test_one_batch_at_a_time(self, path: Path) -> None:
        """A second one is refused, and can have the journal afterwards; the first one keeps its locks."""
        journal = Journal(path, API)
        await journal.open()
        for _ in range(2):
            assert "another batch is using it" in await refusal(path)
        with closing(sqlite3.connect(path, timeout=0)) as database, pytest.raises(sqlite3.OperationalError):
            database.execute("BEGIN EXCLUSIVE")
        await journal.write(uuid4(), "done", 1)
        await journal.aclose()
        await make(path)

    async def test_another_api(self, path: Path) -> None:
        """Both are named."""
        await make(path)
        message = await refusal(path, "https://other.example")
        assert API in message
        assert "https://other.example" in message

    async def test_a_newer_release(self, path: Path) -> None:
        """By the version of its tables."""
        await make(path)
        execute(path, "PRAGMA user_version = 9")
        assert "version 9" in await refusal(path)

    async def test_other_files(self, path: Path) -> None:
        """Another program's SQLite file, a text, a folder, a folder that does not exist."""
        execute(path, "CREATE TABLE about (name TEXT)")
        before = path.read_bytes()
        assert "but not a journal" in await refusal(path)
        assert before == path.read_bytes()
        path.write_text("no database, " * 100)
        assert "not a SQLite file" in await refusal(path)
        assert "no database, " * 100 == path.read_text()
        path.unlink()
        path.mkdir()
        assert "not a regular file" in await refusal(path)
        assert "No such file" in await refusal(path / "none" / "journal.db")

    @pytest.mark.parametrize(
        ("statement", "reason"),
        [
            ("DELETE FROM about", "does not say which base_url"),
            ("UPDATE about SET value = x'00'", "it belongs to b'"),
            ("CREATE TRIGGER t AFTER INSERT ON exports BEGIN DELETE FROM exports; END", "tables are not those"),
            ("CREATE VIEW v AS SELECT 1", "tables are not those"),
            ("CREATE INDEX i ON exports (state)", "tables are not those"),
            ("ALTER TABLE exports ADD COLUMN more TEXT", "tables are not those"),
            ("DROP TABLE exports", "tables are not those"),
        ],
        ids=["base-url", "base-url-type", "trigger", "view", "index", "column", "table"],
    )
    async def test_a_journal_that_was_changed(self, statement: str, reason: str, path: Path) -> None:
        """A trigger would run within our transactions; other tables are those of another program."""
        await make(path)
        execute(path, statement)
        before = path.read_bytes()
        assert reason in await refusal(path)
        assert before == path.read_bytes()

    @pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"], ids=["itself", "wal", "shm", "journal"])
    @pytest.mark.parametrize("kind", ["symlink", "dangling", "hardlink", "fifo", "folder"])
    async def test_links_and_irregular_files(self, suffix: str, kind: str, path: Path) -> None:
        """SQLite would follow, read or replay what they lead to. Neither hangs nor is changed."""
        other = path.parent / "other"
        await make(other)
        if suffix:
            await make(path)
        before = other.read_bytes()
        planted = Path(f"{path}{suffix}")
        planters: dict[str, Callable[[], object]] = {
            "symlink": lambda: planted.symlink_to(other),
            "dangling": lambda: planted.symlink_to(path.parent / "nowhere"),
            "hardlink": lambda: planted.hardlink_to(other),
            "fifo": lambda: os.mkfifo(planted),
            "folder": planted.mkdir,
        }
        planters[kind]()
        message = await refusal(path)
        assert f"{planted} " in message
        assert ("hard link" if kind == "hardlink" else "not a regular file") in message
        assert before == other.read_bytes()
        assert not (path.parent / "nowhere").exists()

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
    @pytest.mark.parametrize("suffix", ["", "-wal"], ids=["itself", "wal"])
    async def test_files_of_another_user(self, suffix: str, path: Path) -> None:
        """A planted -wal would rewrite the journal."""
        await make(path)
        planted = Path(f"{path}{suffix}")
        planted.touch()
        os.chown(planted, 12345, -1)
        assert f"{planted} belongs to another user" in await refusal(path)


async def test_the_file_is_private(path: Path) -> None:
    """So are those that SQLite puts beside it."""
    before = os.umask(0)
    try:
        journal = Journal(path, API)
        await journal.open()
        await journal.write(uuid4(), "done", 1)
        assert {0o600} == {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
        await journal.aclose()
    finally:
        os.umask(before)


async def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    """As one made by `mktemp` does, or left by a process that was killed before it wrote the tables."""
    path.touch()
    await make(path)
    assert path.stat().st_size


async def test_memory_is_an_ordinary_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite would keep that journal nowhere."""
    monkeypatch.chdir(path.parent)
    await make(Path(":memory:"))
    assert (path.parent / ":memory:").is_file()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("state", "'over'"),
        ("state", "x'646f6e65'"),
        ("attempts", "-1"),
        ("attempts", "9223372036854775807"),
        ("attempts", "'many'"),
        ("resume_token", "x'7b7d'"),
        ("file", "x'00'"),
        ("size", "1.5"),
        ("size", "'big'"),
        ("sha256", "x'00'"),
        ("error", "x'00'"),
        ("error", "zeroblob(1000000)"),
    ],
    ids=lambda each: each.replace("'", ""),
)
async def test_an_entry_that_no_batch_writes_is_not_used(
    column: str, value: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, its avatar is exported afresh, and the entries of others are written as ever."""
    await make(path)
    one, two = uuids(2)
    execute(path, f"INSERT INTO exports VALUES (x'{one.hex}', 'done', 1, NULL, NULL, NULL, NULL, NULL)")
    execute(path, f"UPDATE exports SET {column} = {value}")
    async with new_batch(exports := FakeExports(), [one, two], journal=path, base_url=API) as batch:
        report = await batch.run()
    assert [1, 1] == [outcome.attempts for outcome in report.succeeded]
    assert [one, two] == exports.created
    assert 1 == len(caplog.messages)
    assert f"the journal {path} can't be read: " in caplog.messages[0]
    assert ("done", 1) == ((entry := await read(path, one)) and (entry.state, entry.attempts))
    assert ("done", 1) == ((entry := await read(path, two)) and (entry.state, entry.attempts))


class Failing(sqlite3.Connection):
    """A database whose disk fails for a while."""

    problem: Exception | None = None

    def execute(self, statement: str, *arguments: Any) -> Any:  # type: ignore[override]
        if self.problem and statement.startswith("SELECT state"):
            raise self.problem
        return super().execute(statement, *arguments)

    def executemany(self, *arguments: Any) -> Any:
        if self.problem:
            raise self.problem
        return super().executemany(*arguments)


@pytest.mark.parametrize(
    "problem",
    [
        sqlite3.OperationalError("database or disk is full"),
        OSError(5, "Input/output error"),
        OverflowError("too large"),
    ],
    ids=["sqlite", "disk", "value"],
)
async def test_a_journal_that_fails_never_stops_a_batch(
    problem: Exception, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It logs each kind of failure once, rolls back, and goes on when it can."""
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: connect(*args, **kwargs, factory=Failing))
    ids = list(uuids(20))
    async with new_batch(FakeExports(), ids, journal=path, base_url=API, max_pending=1) as batch:
        assert (await anext(batch)).ok
        monkeypatch.setattr(Failing, "problem", problem)
        for _ in range(10):
            assert (await anext(batch)).ok
        monkeypatch.setattr(Failing, "problem", None)
        assert 9 == len((await batch.run()).succeeded)
    monkeypatch.undo()
    problems = [message.removeprefix(f"the journal {path} ").split(":")[0] for message in caplog.messages]
    assert ["can't be read", "lacks entries"] == sorted(problems)
    entries = [await read(path, avatar_id) for avatar_id in ids]
    assert all(entries[:1] + entries[13:])
    assert not all(entries)


async def test_text_that_is_no_unicode_does_not_stop_a_batch(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A lone surrogate in an API's status comes into a message; it is replaced, and the entry is kept."""
    (avatar_id,) = uuids(1)
    exports = FakeExports(errors=(ValueError("last seen \ud800"),))
    async with new_batch(exports, [avatar_id], journal=path, base_url=API) as batch:
        assert not (await anext(batch)).ok
    assert [] == caplog.messages
    assert Entry("failed", 1, file=f"{avatar_id}.glb", error="ValueError: last seen ?") == await read(path, avatar_id)


async def test_no_query_of_a_signed_link_is_kept(path: Path) -> None:
    """Messages may quote links, whole or cut; errors are cut to a bounded length as well."""
    avatar_id = uuid4()
    links = "https://user:sesame@files.example/m.glb?signature=sesame#sesame"
    text = f'{links} and "url":"{links} and /m.glb?a=sesame ' + "x" * 10_000
    journal = Journal(path, API)
    await journal.open()
    await journal.write(avatar_id, "failed", 1, error=text)
    kept = await journal.read(avatar_id)
    await journal.aclose()
    assert kept is not None
    assert kept.error is not None
    assert kept.error.startswith('https://files.example/m.glb and "url":"https://files.example/m.glb and /m.glb xxx')
    assert len(kept.error) <= 500
    assert b"sesame" not in path.read_bytes()


async def test_a_journal_that_is_not_open_says_so(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As an entry that can't be read."""
    journal = Journal(path, API)
    assert await journal.read(uuid4()) is None
    await journal.aclose()
    assert "it is not open" in caplog.text


async def test_a_file_that_vanishes_under_a_batch_does_not_stop_it(path: Path) -> None:
    """Somebody cleaned up."""
    async with new_batch(FakeExports(), uuids(50), journal=path, max_pending=1) as batch:
        await anext(batch)
        shutil.rmtree(path.parent)
        assert 49 == len((await batch.run()).succeeded)
