"""Inspect a hostile model in a process of its own, and print its outcome, seconds of CPU time, and memory in MB."""

from __future__ import annotations

import itertools
import json
import os
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

MARKER = b"\xff\xd8" + b"\xff\xe0\x00\x02" * 63


def container(path: Path, text: bytes, data: bytes = b"") -> None:
    """Write a GLB with a JSON chunk, and a binary one."""
    text += b" " * (-len(text) % 4)
    data += bytes(-len(data) % 4)
    chunk = struct.pack("<II", len(data), 0x004E4942) + data if data else b""
    with path.open("wb") as file:
        file.write(struct.pack("<4s4I", b"glTF", 2, 20 + len(text) + len(chunk), len(text), 0x4E4F534A) + text + chunk)


def document(**lists: object) -> Callable[[Path], None]:
    """Make a writer of a document."""
    return lambda path: container(path, json.dumps(lists, separators=(",", ":")).encode())


def shared_images(path: Path) -> None:
    """So many images share one buffer view that has no frame."""
    view = {"buffer": 0, "byteLength": len(MARKER)}
    lists = {"images": [{"bufferView": 0}] * 1024, "bufferViews": [view], "buffers": [{"byteLength": len(MARKER)}]}
    container(path, json.dumps(lists).encode(), MARKER)


def slow_images(path: Path) -> None:
    """Each of as many images as are read has as many segments as are followed, 700 bytes apart."""
    one = b"\xff\xd8" + (b"\xff\xe0" + struct.pack(">H", 700) + bytes(698)) * 68
    views = [{"buffer": 0, "byteOffset": index * len(one), "byteLength": len(one)} for index in range(1024)]
    data = one * 1024
    lists = {"images": [{"bufferView": index} for index in range(1024)], "bufferViews": views}
    container(path, json.dumps({**lists, "buffers": [{"byteLength": len(data)}]}).encode(), data)


def sparse(path: Path, size: int, declared: int) -> None:
    """A file of nothing but zeros, after a header."""
    with path.open("wb") as file:
        file.write(struct.pack("<4s4I", b"glTF", 2, declared, 2**31, 0x4E4F534A))
        file.truncate(size)


def zeros(path: Path) -> None:
    """A valid document before a sparse buffer of 4 GB."""
    text = json.dumps({"buffers": [{"byteLength": 2**32 - 100}]}).encode()
    text += b" " * (-len(text) % 4)
    length = 2**32 - 4 - 28 - len(text)
    with path.open("wb") as file:
        file.write(struct.pack("<4s4I", b"glTF", 2, 2**32 - 4, len(text), 0x4E4F534A) + text)
        file.write(struct.pack("<II", length, 0x004E4942))
        file.truncate(2**32 - 4)


FILES: dict[str, Callable[[Path], None]] = {
    "300,000 nodes": document(nodes=[{}] * 300_000),
    "160,000 nodes": document(nodes=[{}] * 160_000),
    "100,000 images of one view": document(images=[{"bufferView": 0}] * 100_000, bufferViews=[{"buffer": 0}]),
    "1,024 images of one view": shared_images,
    "1,024 images of 64 segments": slow_images,
    "a mesh of 80,000 primitives": document(
        meshes=[{"primitives": [{"attributes": {"POSITION": 0}}] * 80_000}], accessors=[{"count": 3}]
    ),
    "a mesh of 200,000 targets": document(meshes=[{"primitives": [{"attributes": {}, "targets": [{}] * 200_000}]}]),
    "60,000 meshes of one accessor": document(
        meshes=[{"primitives": [{"attributes": {"POSITION": 0}}]}] * 60_000, accessors=[{"count": 3}]
    ),
    "a list in a list": lambda path: container(path, b'{"nodes":' + b"[" * 400_000 + b"]" * 400_000 + b"}"),
    "50 MB of lists": lambda path: container(path, b'{"nodes":[' + b"[]," * 16_000_000 + b"0]}"),
    "many keys": lambda path: container(
        path, b"{" + b",".join(f'"{number}":{{}}'.encode() for number in range(249_000)) + b"}"
    ),
    "many floats": lambda path: container(path, b'{"nodes":[' + b"1.5e-300," * 499_000 + b"0]}"),
    "a long name": lambda path: container(path, b'{"meshes":[{"primitives":[],"name":"' + b"x" * 16_000_000 + b'"}]}'),
    "a long data URI": lambda path: container(
        path, b'{"images":[{"uri":"data:image/png;base64,' + b"A" * 16_000_000 + b'"}]}'
    ),
    "a huge number": lambda path: container(
        path, b'{"meshes":[{"primitives":[{"indices":0}]}],"accessors":[{"count":' + b"9" * 4000 + b"}]}"
    ),
    "a sparse file of 6 GB": lambda path: sparse(path, 6 * 2**30, 100),
    "a sparse file with 2 GB of JSON": lambda path: sparse(path, 2**32 - 4, 2**32 - 4),
    "a sparse buffer of 4 GB": zeros,
}


def main(name: str, folder: str) -> None:
    """Write a file and inspect it."""
    path = Path(folder) / "hostile.glb"
    pid = os.fork()
    if pid == 0:  # so that writing the file counts for nothing
        FILES[name](path)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    from avaturn_async import glb
    from avaturn_async.errors import NotAModelError

    started = time.process_time()
    try:
        glb.inspect(path)
        outcome = "read"
    except NotAModelError as error:
        outcome = str(error).partition("it ")[2]
    taken = time.process_time() - started
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    memory = int(status["VmHWM"].split()[0]) / 1024  # the peak of this program; ru_maxrss is also the parent's
    print(json.dumps({"outcome": outcome, "seconds": taken, "megabytes": memory}))


if __name__ == "__main__":
    main(*itertools.islice(sys.argv, 1, 3))
