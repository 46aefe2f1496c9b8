"""Avatars to export on an emulator, and exports that need neither an API nor time."""

from __future__ import annotations

import asyncio
import hashlib
import selectors
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from uuid import UUID

from avaturn_async import AvaturnClient, BatchOutcome, Download, PollPolicy, Saved
from avaturn_async.batch.export_batch import ExportBatch
from avaturn_async.emulator import Emulator, RequestRecord, Timing

QUICK = PollPolicy(first=0.05, factor=1.5, cap=0.3)
AT_ONCE = Timing(scan=0, export=0)

T = TypeVar("T")


@asynccontextmanager
async def avatars(
    count: int, *, seed: int = 0, timing: Timing = AT_ONCE, **options: Any
) -> AsyncIterator[tuple[Emulator, AvaturnClient, list[UUID]]]:
    """Run an emulator with `count` avatars ready for export, and a client that polls quickly."""
    async with Emulator(seed=seed, timing=timing, model_variety=4, body="T1", models="small") as avaturn:
        async with AvaturnClient(avaturn.token, base_url=avaturn.url, **{"polling": QUICK, **options}) as client:
            user = await client.users.create()
            made = []
            for _ in range(count):
                session = await client.sessions.create(user.id)
                made.append(await avaturn.complete_session(session.id))
            await avaturn.settled()
            avaturn.requests.clear()
            yield avaturn, client, made


async def run_batch(client: AvaturnClient, ids: Any, folder: Path, **options: Any) -> list[BatchOutcome]:
    """Run a batch with its files and its journal in `folder`, and return the outcomes in input order."""
    options = {"download_to": folder / "models", "journal": folder / "journal.db", **options}
    async with client.exports.batch(ids, **options) as batch:
        return (await batch.run()).outcomes


def is_whole(path: Path) -> bool:
    """Say whether a file is a GLB of the length that it declares."""
    return is_model(path.read_bytes())


def is_model(content: bytes) -> bool:
    """Say whether these bytes are a GLB of the length that it declares."""
    return (b"glTF", 2, len(content)) == struct.unpack("<4sII", content[:12])


def is_right(outcome: BatchOutcome) -> bool:
    """Say whether an outcome's file is complete and has the size, and the hash if one was taken, of the outcome."""
    download = outcome.download
    assert isinstance(download, Download)
    content = download.path.read_bytes()
    hashes = (None, hashlib.sha256(content).hexdigest())
    return is_whole(download.path) and len(content) == download.size and download.sha256 in hashes


def exported(requests: Any) -> list[UUID]:
    """Return the avatar of each request for an export, in order."""
    return [
        UUID(request.query.removeprefix("avatar_id=")) for request in requests if request.operation == "create_export"
    ]


def downloaded(requests: Any) -> list[UUID]:
    """Return the avatar of each request for a file, in order."""
    return [UUID(request.path.split("/")[2]) for request in requests if request.operation == "download_file"]


class Recorder:
    """Collects the emulator's requests, of which it keeps the last ten thousand only."""

    def __init__(self, avaturn: Emulator) -> None:
        self._avaturn = avaturn
        self._kept: list[RequestRecord] = []

    @property
    def requests(self) -> list[RequestRecord]:
        """All requests so far."""
        while self._avaturn.requests:
            self._kept.append(self._avaturn.requests.popleft())
        return self._kept


class FakeExports:
    """Stands for ``client.exports``: every export takes `seconds`, every download `download_seconds`.

    Attributes:
        errors: what `create` raises, in turn, over and over; None is a success.
        created: the avatars of the calls of `create`.
        fetched: the name of each file that was downloaded, with the number of exports created by then.
        awaited, most_awaited: exports awaited now, and the most at once.
        downloads, most_downloads: the same for downloads.
    """

    def __init__(
        self, seconds: float = 0.0, *, download_seconds: float = 0.0, errors: tuple[Exception | None, ...] = (None,)
    ) -> None:
        self.seconds = seconds
        self.download_seconds = download_seconds
        self.errors = errors
        self.created: list[UUID] = []
        self.keep_created = True
        self.fetched: list[tuple[str, int]] = []
        self.awaited = self.most_awaited = self.downloads = self.most_downloads = self.creations = 0

    async def create(self, avatar_id: Any) -> Any:
        error = self.errors[self.creations % len(self.errors)]
        self.creations += 1
        if self.keep_created:
            self.created.append(avatar_id)
        await asyncio.sleep(0)
        if error is not None:
            raise error
        return FakePending(self, avatar_id)

    def resume(self, token: str) -> Any:
        raise ValueError("not a token")


class FakePending:
    """Stands for a `PendingExport`."""

    resume_token = "a token"

    def __init__(self, exports: FakeExports, avatar_id: UUID) -> None:
        self.exports = exports
        self.avatar_id = avatar_id

    def done(self) -> bool:
        return not self.exports.seconds

    async def wait(self, *, timeout: object = None) -> Any:
        exports = self.exports
        exports.awaited += 1
        exports.most_awaited = max(exports.most_awaited, exports.awaited)
        try:
            await asyncio.sleep(exports.seconds)
        finally:
            exports.awaited -= 1
        return FakeExport(exports, self.avatar_id)


class FakeExport:
    """Stands for an `Export`."""

    resolved_by = "poll"
    waited = 1.0
    polls = 1

    def __init__(self, exports: FakeExports, avatar_id: UUID) -> None:
        self.exports = exports
        self.avatar_id = avatar_id

    async def download(self, path: Path, *, progress: Callable[[int, int], object], **_: Any) -> Download:
        await self._fetch(path.name)
        progress(10, 10)
        return Download(path, 10)

    async def save(self, sink: Any, name: str, *, progress: Callable[[int, int], object], **_: Any) -> Saved:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"0123456789"

        await self._fetch(name)
        await sink.put(name, chunks())
        progress(10, 10)
        return Saved(name, 10)

    async def _fetch(self, name: str) -> None:
        exports = self.exports
        exports.downloads += 1
        exports.most_downloads = max(exports.most_downloads, exports.downloads)
        exports.fetched.append((name, len(exports.created)))
        await asyncio.sleep(exports.download_seconds)
        exports.downloads -= 1


class MemorySink:
    """A sink that keeps files, and fails for the names in `failing`."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.failing: dict[str, BaseException] = {}

    async def put(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        self.puts.append(name)
        content = b"".join([chunk async for chunk in chunks])
        if name in self.failing:
            raise self.failing[name]
        self.files[name] = content


def new_batch(exports: Any, ids: Any, **options: Any) -> ExportBatch:
    """Create a batch without a client."""
    return ExportBatch(exports, ids, **options)


def uuids(count: int) -> Iterator[UUID]:
    """Generate ids lazily."""
    rng = Random(count)
    return (UUID(int=rng.getrandbits(128), version=4) for _ in range(count))


async def turns(count: int = 20) -> None:
    """Let the loop run `count` iterations."""
    for _ in range(count):
        await asyncio.sleep(0)


class _JumpingSelector(selectors.DefaultSelector):
    now = 0.0
    threads = 0  # at work: time stands still for them

    def select(self, timeout: float | None = None) -> list[Any]:
        if self.threads:
            return super().select(10 if timeout != 0 else 0)
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing will ever happen on this loop"
            self.now += max(timeout, 0)
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        def ended(_: object) -> None:
            self._jumping.threads -= 1

        future = super().run_in_executor(executor, func, *args)
        self._jumping.threads += 1
        future.add_done_callback(ended)
        return future

    async def shutdown_default_executor(self, *timeout: Any) -> None:
        self._jumping.threads += 1
        await super().shutdown_default_executor(*timeout)


def run_virtual(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on a loop that jumps to its next timer instead of sleeping, and check that it leaves no task."""

    async def checked() -> T:
        result = await work
        await turns(5)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(checked())
