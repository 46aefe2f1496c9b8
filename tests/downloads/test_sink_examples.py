"""Sinks of a user's own, in a few lines each."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import fsspec
import pytest

from avaturn_async.errors import DownloadError, NotAModelError

from .kit import Answer, model


class FsspecSink:
    """Any file system of fsspec, under another name until the file is whole: its own commit is not always atomic."""

    def __init__(self, fs: Any, root: str) -> None:
        self.fs, self.root = fs, root

    async def put(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        path = f"{self.root}/{name}"
        with await asyncio.to_thread(self.fs.open, f"{path}.part", "wb") as file:
            async for chunk in chunks:
                await asyncio.to_thread(file.write, chunk)
        await asyncio.to_thread(self.fs.mv, f"{path}.part", path)


class DatabaseSink:
    """A row for each model, in one transaction."""

    def __init__(self, path: str) -> None:
        self.path = path

    async def put(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        model = b"".join([chunk async for chunk in chunks])
        await asyncio.to_thread(self.insert, name, model)

    def insert(self, name: str, model: bytes) -> None:
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute(
                "INSERT INTO models VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET model = excluded.model",
                (name, model),
            )


class Files:
    """What a test reads of the folder that an `FsspecSink` writes to."""

    def __init__(self, fs: Any, root: str) -> None:
        self.sink = FsspecSink(fs, root)

    def read(self) -> dict[str, bytes]:
        fs, root = self.sink.fs, self.sink.root
        return {path.rpartition("/")[2]: fs.cat_file(path) for path in fs.find(root) if not path.endswith(".part")}


class Rows:
    """What a test reads of the table that a `DatabaseSink` writes to."""

    def __init__(self, path: str) -> None:
        self.sink = DatabaseSink(path)
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("CREATE TABLE models (name TEXT PRIMARY KEY, model BLOB NOT NULL)")

    def read(self) -> dict[str, bytes]:
        with closing(sqlite3.connect(self.sink.path)) as db:
            return dict(db.execute("SELECT name, model FROM models").fetchall())


@pytest.fixture(params=["local", "memory", "database"])
def place(request: pytest.FixtureRequest, tmp_path) -> Files | Rows:
    """Return a sink and what is in it."""
    if request.param == "database":
        return Rows(str(tmp_path / "models.db"))
    root = str(tmp_path / "models")
    fs = fsspec.filesystem("file" if request.param == "local" else "memory", skip_instance_cache=True)
    fs.makedirs(root, exist_ok=True)
    return Files(fs, root)


async def test_a_model_is_saved_and_replaced(place, server, downloads):
    """Twice under one name."""
    for seed in (1, 2):
        server.body = model(1_000_000, seed=seed)
        await downloads.save(server.url, place.sink, "m.glb", kind="glb")
        assert {"m.glb": server.body} == place.read()


async def test_what_fails_leaves_what_was_there(place, server, downloads):
    """Nothing of a file that breaks off, or is no model after all, is visible."""
    await downloads.save(server.url, place.sink, "m.glb", kind="glb")
    old = server.body
    server.body = model(1_000_000, seed=2)
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, cut=800_000))
    server.answers.extend([Answer(500)] * 5)
    with pytest.raises(DownloadError):
        await downloads.save(server.url, place.sink, "m.glb", kind="glb")
    server.answers.append(Answer(body=model(1_000_000, declared=1_000_001), chunked=True))
    with pytest.raises(NotAModelError):
        await downloads.save(server.url, place.sink, "m.glb", kind="glb")
    assert {"m.glb": old} == place.read()


async def test_a_cancelled_save_leaves_what_was_there(place, server, downloads):
    """In the middle of the file."""
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, stall=100_000))
    task = asyncio.create_task(downloads.save(server.url, place.sink, "m.glb", kind="glb"))
    await server.stalled.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert {} == place.read()
