"""What do uploads of three photos of 12 MB cost, and how long do they keep the event loop away from others?

A server in another process reads forms and answers each. The SDK checks photos and streams them from disk. Beside it
stands what a user writes by hand: an `aiohttp.FormData` with the three open files. A round is eight uploads, four at
once.

- rate: bytes a second over the loopback.
- memory: the highest resident size of a process of its own during 50 uploads at once, over that before them, for each.
- gap: the longest time in a round for which the loop ran nothing else, with 50 uploads at once, median over the rounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias, cast

import aiohttp

from avaturn_async import AvaturnClient, Photos

from .kit import LOOPS, Child, Gaps, Loop, Row, alternate, at_least, at_most, on, ratio, show, until_stdin_ends

SIZE = 12_000_000
UPLOADS = 8
AT_ONCE = 4
MANY = 50
ROUNDS = 5
RATE = 0.85
MEMORY = 2.0
"""MiB."""
GAP = 30.0
"""Milliseconds."""

Upload: TypeAlias = Callable[[], Awaitable[None]]
NAMES = {"sdk": "SDK", "by hand": "by hand, FormData of open files"}
FIELDS = ("image-frontal", "image-side-1", "image-side-2")


def run() -> list[Row]:
    """Measure on each loop."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, Child("uploads", "serve") as server:
        path = Path(folder) / "photo.jpg"
        path.write_bytes(photo())
        url = server.read()
        for loop in LOOPS:

            async def main(loop: Loop = loop) -> list[Row]:
                async with _ways(url, path) as ways:
                    walls = await alternate({name: _round(upload) for name, upload in ways.items()}, ROUNDS)
                rates = {name: f"{NAMES[name]}: {_rate(seconds):,.0f} MB/s" for name, seconds in walls.items()}
                value = ratio(walls["by hand"], walls["sdk"])
                setting = f"{loop}, {AT_ONCE} at once, 36 MB each"
                return [at_least("upload rate, loopback", setting, rates["sdk"], rates["by hand"], value, RATE)]

            rows += on(loop, main) + _of_many(loop, url, path)
    return rows


def _of_many(loop: Loop, url: str, path: Path) -> list[Row]:
    """Measure 50 uploads at once, in a process for each way."""
    found: dict[str, tuple[float, float]] = {}
    for name in NAMES:
        with Child("uploads", "many", name, loop, url, str(path)) as child:
            memory, gap = map(float, child.read().split())
            found[name] = memory, gap
    setting = f"{loop}, {MANY} at once, 36 MB each"
    memory, gap = found["sdk"]
    by_hand, other_gap = found["by hand"]
    hand = NAMES["by hand"]
    return [
        at_most("memory of one upload", setting, "", f"{hand}: {by_hand:.2f} MiB", memory, MEMORY, " MiB"),
        at_most("longest gap while uploading", setting, "", f"{hand}: {other_gap:.1f} ms", gap, GAP, " ms"),
    ]


def _round(upload: Upload) -> Callable[[], Awaitable[float]]:
    async def each(left: list[None]) -> None:
        while left:
            left.pop()
            await upload()

    async def take() -> float:
        left = [None] * UPLOADS
        begun = asyncio.get_running_loop().time()
        await asyncio.gather(*(each(left) for _ in range(AT_ONCE)))
        return asyncio.get_running_loop().time() - begun

    return take


def _rate(walls: list[float]) -> float:
    return UPLOADS * 3 * SIZE / 1e6 / statistics.median(walls)


@contextlib.asynccontextmanager
async def _ways(url: str, path: Path) -> AsyncIterator[dict[str, Upload]]:
    photos = Photos(path, path, path, body_type="female")
    async with AvaturnClient("token", base_url="http://127.0.0.1") as client, aiohttp.ClientSession() as session:

        async def sdk() -> None:
            await client.avatars.upload(url, photos)

        async def by_hand() -> None:
            form = aiohttp.FormData({"body-type": "female", "telephoto": "false"})
            with contextlib.ExitStack() as files:
                for field in FIELDS:
                    file = files.enter_context(path.open("rb"))
                    form.add_field(field, file, filename="photo.jpg", content_type="image/jpeg")
                async with session.post(url, data=form) as response:
                    response.raise_for_status()
                    await response.json()

        yield {"sdk": sdk, "by hand": by_hand}


def photo() -> bytes:
    """Return a JPEG of the usual size, as far as the SDK checks it."""
    noise = random.Random(1).randbytes(SIZE - 6).replace(b"\xff", b"\xfe")
    return b"\xff\xd8\xff\xda" + noise + b"\xff\xd9"


async def _many(name: str, url: str, path: Path) -> list[Row]:
    """Upload 50 times at once, in rounds; print the memory of each in MiB, and the median of the longest gaps in ms."""
    longest = []
    async with _ways(url, path) as ways:
        await asyncio.gather(*(ways[name]() for _ in range(AT_ONCE)))  # what is allocated once does not count
        before = highest = _resident()
        for _ in range(ROUNDS):
            work = asyncio.gather(*(ways[name]() for _ in range(MANY)))
            async with Gaps() as gaps:
                while not work.done():
                    await asyncio.wait([work], timeout=0.02)
                    highest = max(highest, _resident())
            longest.append(gaps.longest)
    print((highest - before) / MANY / 2**20, statistics.median(longest), flush=True)
    return []


def _resident() -> int:
    """Return the resident size of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


_ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 23\r\n\r\n{"status":"processing"}'


class _Server(asyncio.Protocol):
    """Reads forms without keeping them, and answers each."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # which uvloop's do not inherit from
        self._head = b""
        self._left = 0

    def data_received(self, data: bytes) -> None:
        if not self._left:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = b""
            chunked = b"chunked" in head.lower()
            assert not chunked, "a form has a length"
            self._left = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        self._left -= len(data)
        if not self._left:
            self._transport.write(_ANSWER)


async def _serve() -> list[Row]:
    """Serve until the parent hangs up."""
    server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/photos", flush=True)
    await until_stdin_ends()
    return []


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            on("uvloop", _serve)
        case ["many", name, "asyncio" | "uvloop" as loop, url, path]:
            on(loop, lambda: _many(name, url, Path(path)))
        case _:
            show(run())
