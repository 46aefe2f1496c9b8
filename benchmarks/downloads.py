"""How fast are downloads of 14 MB models, and how long do they keep the event loop away from others?

A server in another process sends a GLB model from memory. The SDK resumes, checks, hashes, writes off the loop and
renames. Beside it stands what a user writes by hand in a session of aiohttp,
`async for chunk in response.content.iter_any(): file.write(chunk)`, once as it is and once with a SHA-256 of each chunk
as well; and, as the floor, the same loop without a file. A round is eight downloads, one after another or all at once,
into a temporary folder; rates are of those rounds. The loop's gaps are measured in rounds of their own: the longest of
each round, of which the median counts, and the 99th percentile over all rounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import random
import socketserver
import statistics
import struct
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import aiohttp

from avaturn_async.config import RetryPolicy, Timeouts
from avaturn_async.downloads.downloader import Downloader

from .kit import LOOPS, Child, Gaps, Loop, Row, alternate, at_least, at_most, on, ratio, show, spending

SIZE = 14_000_000
FILES = 8
ROUNDS = 9
AT_ONCE = (1, 8)
RATE = 0.85
GAP = {1: 5.0, 8: 15.0}
"""Milliseconds, by downloads at once."""

Fetch: TypeAlias = Callable[[Path], Awaitable[None]]
NAMES = {
    "sdk": "SDK",
    "plain": "by hand, iter_any and a plain write",
    "hashed": "by hand, iter_any, a plain write and SHA-256",
    "floor": "floor, iter_any alone",
}


def run() -> list[Row]:
    """Measure on each loop, with one download at once and with eight."""
    rows = []
    with Child("downloads", "serve") as child:
        url = child.read()
        for loop in LOOPS:
            for at_once in AT_ONCE:

                async def main(loop: Loop = loop, at_once: int = at_once) -> list[Row]:
                    return await _rows(url, loop, at_once)

                rows += on(loop, main)
    return rows


async def _rows(url: str, loop: Loop, at_once: int) -> list[Row]:
    async with _ways(url) as ways:
        rounds = {name: _Round(fetch, at_once) for name, fetch in ways.items()}
        walls = await alternate({name: one.take for name, one in rounds.items()}, ROUNDS)
        watched = {name: _Round(fetch, at_once) for name, fetch in ways.items()}
        gaps = await alternate({name: one.watch for name, one in watched.items()}, ROUNDS)
    setting = f"{loop}, {at_once} at once, {SIZE // 10**6} MB each"
    return [*_rates(setting, rounds, walls), _gap(setting, watched, gaps, GAP[at_once])]


def _rates(setting: str, rounds: dict[str, _Round], walls: dict[str, list[float]]) -> list[Row]:
    shown = {name: f"{NAMES[name]}: {rounds[name].figures(walls[name])}" for name in walls}
    return [
        at_least("download rate", setting, shown["sdk"], shown[other], ratio(walls[other], walls["sdk"]), goal)
        for other, goal in (("plain", RATE), ("hashed", None), ("floor", None))
    ]


def _gap(setting: str, watched: dict[str, _Round], gaps: dict[str, list[float]], goal: float) -> Row:
    shown = {name: f"{NAMES[name]}: {watched[name].gaps(gaps[name])}" for name in gaps}
    reference = "; ".join(shown[name] for name in ("plain", "hashed", "floor"))
    longest = statistics.median(gaps["sdk"])
    return at_most("longest gap while downloading", setting, shown["sdk"], reference, longest, goal, " ms")


class _Round:
    """Eight downloads in one way, again and again; the first time does not count."""

    def __init__(self, fetch: Fetch, at_once: int) -> None:
        self._fetch = fetch
        self._at_once = at_once
        self._cpu: list[float] = []
        self._gaps: list[list[float]] = []

    async def take(self) -> float:
        """Return the seconds of a round."""
        with tempfile.TemporaryDirectory() as folder, spending() as spent:
            await self._fetch_all(Path(folder))
            total = spent()
        self._cpu.append(total.cpu)
        return total.wall

    async def watch(self) -> float:
        """Return the longest gap of the loop in a round, in milliseconds."""
        with tempfile.TemporaryDirectory() as folder:
            async with Gaps() as gaps:
                await self._fetch_all(Path(folder))
        self._gaps.append(gaps.seen)
        return gaps.longest

    async def _fetch_all(self, folder: Path) -> None:
        left = iter(range(FILES))
        await asyncio.gather(*(self._fetch_each(folder, left) for _ in range(self._at_once)))

    async def _fetch_each(self, folder: Path, left: Iterator[int]) -> None:
        for number in left:
            await self._fetch(folder / f"{number}.glb")

    def figures(self, walls: list[float]) -> str:
        """Tell rate and CPU time, medians of the rounds."""
        cpu = statistics.median(self._cpu[1:]) / FILES
        return f"{FILES * SIZE / 1e6 / statistics.median(walls):,.0f} MB/s, CPU {1e3 * cpu:.1f} ms each"

    def gaps(self, longest: list[float]) -> str:
        """Tell the gaps of the loop: of all rounds, the median of their longest, and the longest of all."""
        p99 = 1000 * statistics.quantiles(itertools.chain(*self._gaps[1:]), n=100)[98]
        return f"p99 {p99:.1f}, max {statistics.median(longest):.1f}, worst round {max(longest):.1f} ms"


@contextlib.asynccontextmanager
async def _ways(url: str) -> AsyncIterator[dict[str, Fetch]]:
    downloader = Downloader(
        timeouts=Timeouts(), retry=RetryPolicy(attempts=5), allow_private_hosts=True, allow_http=True
    )
    async with aiohttp.ClientSession() as session, contextlib.aclosing(downloader):

        async def sdk(path: Path) -> None:
            done = await downloader.fetch(url, path, kind="glb")
            _check(done.size)

        async def plain(path: Path) -> None:
            async with session.get(url) as response:
                response.raise_for_status()
                with path.open("wb") as file:
                    async for chunk in response.content.iter_any():
                        file.write(chunk)
            _check(path.stat().st_size)

        async def hashed(path: Path) -> None:
            digest = hashlib.sha256()
            async with session.get(url) as response:
                response.raise_for_status()
                with path.open("wb") as file:
                    async for chunk in response.content.iter_any():
                        digest.update(chunk)
                        file.write(chunk)
            digest.hexdigest()
            _check(path.stat().st_size)

        async def floor(path: Path) -> None:
            size = 0
            async with session.get(url) as response:
                response.raise_for_status()
                async for chunk in response.content.iter_any():
                    size += len(chunk)
            _check(size)

        yield {"sdk": sdk, "plain": plain, "hashed": hashed, "floor": floor}


def _check(size: int) -> None:
    if size != SIZE:
        raise RuntimeError(f"a download has {size} bytes, not {SIZE}")


def model(size: int) -> bytes:
    """Return a GLB 2.0 model of `size` bytes: a chunk of JSON and one of random bytes."""
    length = size - 12 - 8 - 8
    scene = json.dumps({"asset": {"version": "2.0"}, "buffers": [{"byteLength": length}]}).encode()
    scene += b" " * (-len(scene) % 4)
    binary = random.Random(1).randbytes(length - len(scene))
    parts = struct.pack("<I4s", len(scene), b"JSON"), scene, struct.pack("<I4s", len(binary), b"BIN\0"), binary
    return struct.pack("<4sII", b"glTF", 2, size) + b"".join(parts)


class _Handler(socketserver.StreamRequestHandler):
    """Answers each request of a connection with the model, in a thread, from memory."""

    disable_nagle_algorithm = True
    body = b""

    def handle(self) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: model/gltf-binary\r\nContent-Length: {len(self.body)}\r\n"
        answer = f'{head}ETag: "3f2a"\r\nAccept-Ranges: bytes\r\n\r\n'.encode()
        with contextlib.suppress(OSError):
            while self._asked():
                self.connection.sendall(answer)
                self.connection.sendall(self.body)

    def _asked(self) -> bool:
        line = self.rfile.readline()
        while line not in (b"", b"\r\n"):
            line = self.rfile.readline()
        return bool(line)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128


def _serve() -> None:
    """Serve until the parent hangs up."""
    _Handler.body = model(SIZE)
    with _Server(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://127.0.0.1:{server.server_address[1]}/model.glb?signature=1", flush=True)
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        _serve()
    else:
        show(run())
