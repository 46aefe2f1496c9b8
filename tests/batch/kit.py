"""A client, an emulator and avatars to export; and an exporter that needs neither."""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from avaturn_async import AvaturnClient, BatchOutcome, Export, PollPolicy
from avaturn_async.emulator import Emulator, Timing

QUICK = PollPolicy(first=0.05, factor=1.5, cap=0.3)
AT_ONCE = Timing(scan=0, export=0)


@asynccontextmanager
async def avatars(
    count: int, *, seed: int = 0, timing: Timing = AT_ONCE, **options: Any
) -> AsyncIterator[tuple[Emulator, AvaturnClient, list[UUID]]]:
    """Run an emulator with so many avatars that can be exported, and a client that polls quickly."""
    emulator = Emulator(seed=seed, timing=timing, model_variety=4, body="T1")
    async with emulator as avaturn:
        async with AvaturnClient(avaturn.token, base_url=avaturn.url, **{"polling": QUICK, **options}) as client:
            user = await client.users.create()
            made = []
            for _ in range(count):
                session = await client.sessions.create(user.id)
                made.append(await avaturn.complete_session(session.id))
            await avaturn.settled()
            yield avaturn, client, made


async def failed_exports(client: AvaturnClient, ids: list[UUID]) -> list[UUID]:
    """Return the avatars whose export has failed, as the API reports them."""
    return [avatar_id for avatar_id in ids if (await client.exports.create(avatar_id)).status == "failed"]


async def run_batch(client: AvaturnClient, ids: Any, folder: Path, **options: Any) -> list[BatchOutcome]:
    """Run a batch with its files and its journal in `folder`, and return the outcomes in the order of the input."""
    options = {"download_to": folder / "models", "journal": folder / "journal.db", **options}
    async with client.exports.batch(ids, **options) as batch:
        return (await batch.run()).outcomes


def is_whole(path: Path) -> bool:
    """Say whether a file is a GLB of the length that it declares."""
    content = path.read_bytes()
    return (b"glTF", 2, len(content)) == struct.unpack("<4sII", content[:12])


def is_right(outcome: BatchOutcome) -> bool:
    """Say whether an outcome's file is whole and has the size and the hash that the outcome says."""
    download = outcome.download
    assert download is not None
    content = download.path.read_bytes()
    found = len(content), hashlib.sha256(content).hexdigest()
    return is_whole(download.path) and found == (download.size, download.sha256)


def exported(avaturn: Emulator) -> list[UUID]:
    """Return the avatar of each request for an export, in their order."""
    return [
        UUID(request.query.removeprefix("avatar_id="))
        for request in avaturn.requests
        if request.operation == "create_export"
    ]


def downloaded(avaturn: Emulator) -> list[UUID]:
    """Return the avatar of each request for a file, in their order."""
    return [UUID(request.path.split("/")[2]) for request in avaturn.requests if request.operation == "download_file"]


class Ready:
    """An export that is ready at once, or after some seconds."""

    resume_token = "a token"
    downloader: Any = None

    def __init__(self, avatar_id: UUID, seconds: float = 0.0) -> None:
        self.avatar_id = avatar_id
        self.seconds = seconds

    def done(self) -> bool:
        return not self.seconds

    async def wait(self, *, timeout: object = None) -> Export:
        await asyncio.sleep(self.seconds)
        return Export(
            avatar_id=self.avatar_id,
            url="https://x/",
            resolved_by="poll",
            waited=1.0,
            polls=1,
            downloader=self.downloader,
        )


class Instant:
    """An exporter without an API; `seconds` is what an export takes."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.now = self.most = 0
        self.created: list[UUID] = []

    async def create(self, avatar_id: Any) -> Any:
        self.created.append(avatar_id)
        return Ready(avatar_id, self.seconds)

    def resume(self, token: str) -> Any:
        raise NotImplementedError
