"""An emulator in a thread of its own, which commands in this process and in others can call."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from avaturn_async.emulator import Emulator, EmulatorThread, Timing
from avaturn_async.emulator.images import photo

drawn = cache(photo)


@pytest.fixture
def emulated() -> Iterator[EmulatorThread]:
    """Run an emulator whose jobs take no time."""
    with EmulatorThread(Emulator(timing=Timing(scan=0, export=0, render=0), models="small")) as running:
        yield running


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Write three photos of a face."""
    files = []
    for view in ("frontal", "side-1", "side-2"):
        files.append(tmp_path / f"{view}.jpg")
        files[-1].write_bytes(drawn(seed=1, view=view))
    return files
