"""What do `inspect` and `shrink` of the emulator's default T2 model take, and how small does it become?

Each work is done once in each of several processes, whose peak memory is then that of the work; for the same reason
this process, of which Linux passes the peak on to its children, imports nothing large. A goal is set for `inspect`
alone.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .kit import Row, at_least, show

BUILD = """\
import pathlib, sys
from avaturn_async.emulator.glb.model import build_glb
pathlib.Path(sys.argv[1]).write_bytes(build_glb(body="T2"))
"""
ROUNDS = 5
INSPECT_GOAL = 100.0
SHRINKS: dict[str, dict[str, Any]] = {
    "to 1024 px": {"max_texture": 1024},
    "to 512 px": {"max_texture": 512},
    "to 512 px, no visemes and no clip": {"max_texture": 512, "drop_morphs": ["viseme_*"], "drop_animations": True},
}


def run() -> list[Row]:
    """Measure `inspect`, and each way to shrink."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t2.glb")
        subprocess.run([sys.executable, "-c", BUILD, path], check=True)
        size = path.stat().st_size
        setting = f"a T2 of {size / 1e6:.2f} MB"
        runs = _repeat("inspect", str(path))
        seconds = _median(runs, "wall")
        ours = f"{1e3 * seconds:.1f} ms, peak memory {_median(runs, 'peak') / 1e6:.0f} MB"
        rows = [at_least("`glb.inspect`", setting, ours, "", size / 1e6 / seconds, INSPECT_GOAL, " MB/s")]
        for how, options in SHRINKS.items():
            runs = _repeat("shrink", str(path), f"{folder}/small.glb", json.dumps(options))
            cpu, peak = _median(runs, "cpu"), _median(runs, "peak")
            ours = f"{_median(runs, 'size') / 1e6:.2f} MB; {cpu:.2f} s of CPU, peak memory {peak / 1e6:.0f} MB"
            share = _median(runs, "size") / size
            rows.append(Row(f"`glb.shrink` {how}", setting, ours, "", f"{share:.2f} of the size"))
    return rows


def _repeat(*arguments: str) -> list[dict[str, float]]:
    command = [sys.executable, "-m", "benchmarks.models", *arguments]
    return [json.loads(subprocess.check_output(command)) for _ in range(ROUNDS)]


def _median(runs: list[dict[str, float]], name: str) -> float:
    return statistics.median(each[name] for each in runs)


def _work(name: str, source: str, target: str = "", options: str = "{}") -> dict[str, float]:
    """Do one work and say what it took; run in a process of its own."""
    from avaturn_async import glb

    if name == "shrink":
        import PIL.Image  # noqa: F401 - loaded before the clock starts

    wall, cpu = time.perf_counter(), time.process_time()
    if name == "inspect":
        size = glb.inspect(source).size
    else:
        size = asyncio.run(glb.shrink(source, target, **json.loads(options))).size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak": peak, "size": size}


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(_work(*sys.argv[1:])))
    else:
        show(run())
