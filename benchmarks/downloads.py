"""What do downloads of 14 MB models cost, and how long do they keep the event loop away from others?

A server in another process sends a GLB model from memory. The SDK resumes, checks, writes off the loop and renames.
Beside it stands what a user writes by hand in a session of aiohttp:
`async for chunk in response.content.iter_any(): file.write(chunk)`, as it is and with a SHA-256 of each chunk as well.
A round is eight downloads, one after another or all at once, into a temporary folder.

- rate: the link is paced by the kernel at 2.5 Gbit/s, which eight connections at once share. With a checksum it is not
  paced, for on a slow link nobody would see the difference.
- CPU: user and system time of the process per download, over the unpaced loopback.
- gap: the longest time in a round for which the loop did not run anything else, median over the rounds; once as it is,
  and once with a disk that takes 50 ms for each write. An idle loop beside the latter tells what the machine's other
  work adds.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import random
import socket
import socketserver
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeAlias
from unittest import mock

import aiohttp

from avaturn_async.config import Timeouts
from avaturn_async.downloads.downloader import Downloader
from avaturn_async.downloads.stream import Link
from avaturn_async.http.session import ClientSessions

from .kit import LOOPS, Child, Gaps, Loop, Row, alternate, at_least, at_most, on, ratio, show, spending

SIZE = 14_000_000
FILES = 8
ROUNDS = 7
AT_ONCE = (1, 8)
LINK = 2.5e9 / 8
"""Bytes a second."""
SLOW_WRITE = 0.05
"""Seconds."""
RATE = 0.95
CPU = {1: 2.3, 8: 1.5}
GAP = {1: 5.0, 8: 15.0}
"""Milliseconds. Both by downloads at once."""

Fetch: TypeAlias = Callable[[Path], Awaitable[None]]
NAMES = {
    "sdk": "SDK",
    "plain": "by hand, iter_any and a plain write",
    "checked": "SDK with checksum=True",
    "hashed": "by hand, iter_any, a plain write and SHA-256",
    "idle": "an idle loop for 1 s",
}


def run() -> list[Row]:
    """Measure on each loop, with one download at once and with eight."""
    rows = []
    with Child("downloads", "serve") as child:
        url = child.read()
        for loop, at_once in itertools.product(LOOPS, AT_ONCE):

            async def main(loop: Loop = loop, at_once: int = at_once) -> list[Row]:
                setting = f"{loop}, {at_once} at once, {SIZE // 10**6} MB each"
                paced = await _rates(f"{url}&rate={LINK / at_once:.0f}", at_once, "sdk", "plain")
                free = await _rates(url, at_once, "sdk", "plain")
                hashing = await _rates(url, at_once, "checked", "hashed")
                gap, slow = await _gaps(url, at_once, slow=False), await _gaps(url, at_once, slow=True)
                return [
                    paced.rate_row("download rate, 2.5 Gbit/s", setting, RATE),
                    free.rate_row("download rate, loopback", setting, None),
                    hashing.rate_row("download rate with SHA-256, loopback", setting, 1.0),
                    free.cpu_row("CPU per download, loopback", setting, CPU[at_once]),
                    paced.cpu_row("CPU per download, 2.5 Gbit/s", setting, None),
                    _gap_row("longest gap while downloading", setting, gap, GAP[at_once]),
                    _gap_row("longest gap, each write takes 50 ms", setting, slow, GAP[at_once]),
                ]

            rows += on(loop, main)
    return rows


class _Rates:
    """Two ways to download, in alternating rounds."""

    def __init__(self, ours: _Round, theirs: _Round, walls: dict[str, list[float]]) -> None:
        self._ours, self._theirs = ours, theirs
        self._walls = walls

    def rate_row(self, what: str, setting: str, goal: float | None) -> Row:
        """Compare bytes a second."""
        value = ratio(self._walls[self._theirs.name], self._walls[self._ours.name])
        return at_least(what, setting, self._shown(self._ours), self._shown(self._theirs), value, goal)

    def cpu_row(self, what: str, setting: str, goal: float | None) -> Row:
        """Compare CPU time."""
        value = ratio(self._ours.cpu[1:], self._theirs.cpu[1:])
        return at_most(what, setting, self._shown(self._ours), self._shown(self._theirs), value, goal)

    def _shown(self, one: _Round) -> str:
        rate = FILES * SIZE / 1e6 / statistics.median(self._walls[one.name])
        return f"{NAMES[one.name]}: {rate:,.0f} MB/s, CPU {1e3 * statistics.median(one.cpu[1:]):.1f} ms each"


async def _rates(url: str, at_once: int, ours: str, theirs: str) -> _Rates:
    async with _ways(url) as ways:
        rounds = {name: _Round(name, ways[name], at_once) for name in (ours, theirs)}
        walls = await alternate({name: one.take for name, one in rounds.items()}, ROUNDS)
    return _Rates(rounds[ours], rounds[theirs], walls)


async def _gaps(url: str, at_once: int, *, slow: bool) -> dict[str, list[float]]:
    """Return the longest gap of each round in milliseconds; a slow disk has one download in each place."""
    names, files = (("sdk", "idle"), at_once) if slow else (("sdk", "plain"), FILES)
    async with _ways(url) as ways:
        rounds = {name: _Round(name, ways[name], at_once, files).watch for name in names}
        with _slow_writes() if slow else contextlib.nullcontext():
            return await alternate(rounds, ROUNDS)


def _gap_row(what: str, setting: str, gaps: dict[str, list[float]], goal: float) -> Row:
    shown = {
        name: f"{NAMES[name]}: median {statistics.median(longest):.1f}, worst round {max(longest):.1f} ms"
        for name, longest in gaps.items()
    }
    reference = shown.get("plain") or shown["idle"]
    return at_most(what, setting, shown["sdk"], reference, statistics.median(gaps["sdk"]), goal, " ms")


@contextlib.contextmanager
def _slow_writes() -> Iterator[None]:
    write = os.write

    def slow(fd: int, data: bytes) -> int:
        if len(data) > 1024:  # not the loop's own wake-ups
            time.sleep(SLOW_WRITE)
        return write(fd, data)

    with mock.patch.object(os, "write", slow):
        yield


class _Round:
    """Downloads in one way, again and again; the first time does not count."""

    def __init__(self, name: str, fetch: Fetch, at_once: int, files: int = FILES) -> None:
        self.name = name
        self._files = files
        self.cpu: list[float] = []
        self._fetch = fetch
        self._at_once = at_once

    async def take(self) -> float:
        """Return the seconds of a round."""
        with tempfile.TemporaryDirectory() as folder, spending() as spent:
            await self._fetch_all(Path(folder))
            total = spent()
        self.cpu.append(total.cpu / self._files)
        return total.wall

    async def watch(self) -> float:
        """Return the longest gap of the loop in a round, in milliseconds."""
        with tempfile.TemporaryDirectory() as folder:
            async with Gaps() as gaps:
                await self._fetch_all(Path(folder))
        return gaps.longest

    async def _fetch_all(self, folder: Path) -> None:
        left = iter(range(self._files))
        await asyncio.gather(*(self._fetch_each(folder, left) for _ in range(self._at_once)))

    async def _fetch_each(self, folder: Path, left: Iterator[int]) -> None:
        for number in left:
            await self._fetch(folder / f"{number}.glb")


@contextlib.asynccontextmanager
async def _ways(url: str) -> AsyncIterator[dict[str, Fetch]]:
    sessions = ClientSessions(max_connections=100)
    downloader = Downloader(sessions, timeouts=Timeouts(), allow_private_hosts=True, allow_http=True)
    link = Link(url, kind="glb")
    async with aiohttp.ClientSession() as session, contextlib.aclosing(sessions):

        async def sdk(path: Path) -> None:
            done = await downloader.fetch(link, path)
            _check(done.size)

        async def checked(path: Path) -> None:
            done = await downloader.fetch(link, path, checksum=True)
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

        async def idle(_: Path) -> None:
            await asyncio.sleep(1)

        yield {"sdk": sdk, "checked": checked, "plain": plain, "hashed": hashed, "idle": idle}


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


SO_MAX_PACING_RATE = 47  # Linux; Python has no name for it


class _Handler(socketserver.StreamRequestHandler):
    """Answers each request of a connection with the model, in a thread, from memory, at the rate in the query."""

    disable_nagle_algorithm = True
    body = b""

    def handle(self) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: model/gltf-binary\r\nContent-Length: {len(self.body)}\r\n"
        answer = f'{head}ETag: "3f2a"\r\nAccept-Ranges: bytes\r\n\r\n'.encode()
        with contextlib.suppress(OSError):
            while target := self._target():
                _, _, rate = target.partition("rate=")
                if rate:
                    self.connection.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, int(rate))
                self.connection.sendall(answer)
                self.connection.sendall(self.body)

    def _target(self) -> str:
        """Read a request and return what it asks for."""
        line = self.rfile.readline()
        while self.rfile.readline() not in (b"", b"\r\n"):
            pass
        return line.decode().split(" ")[1] if line else ""


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
