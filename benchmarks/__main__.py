"""Run the programs, each in a process of its own, and print one table: ``python -m benchmarks [NAME...] [--write]``."""

from __future__ import annotations

import argparse
import importlib.metadata
import multiprocessing
import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from .kit import Row, run_program, table

PROGRAMS = [
    "calls",
    "receiving",
    "pendings",
    "polls",
    "batches",
    "downloads",
    "uploads",
    "models",
    "imports",
    "workers",
]
RESULTS = Path(__file__).with_name("RESULTS.md")
LIBRARIES = [
    "aiohttp",
    "attrs",
    "cattrs",
    "tenacity",
    "orjson",
    "uvloop",
    "uvicorn",
    "redis",
    "typer",
    "rich",
    "pillow",
]


def header() -> str:
    """Say when and on what this was measured."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with {platform.python_implementation()} {platform.python_version()} "
        f"on {platform.system()} {platform.machine()}, {os.cpu_count()} cores ({processor()}); {versions}."
    )


def processor() -> str:
    """Name the processor, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def merged(text: str, rows: list[Row]) -> str:
    """Return the text of the results with `rows` in place of those that answer the same questions."""
    before, _, after = text.partition("## Results")
    new = table(rows).splitlines()
    old = [line for line in after.splitlines() if line.startswith("| ") and line not in new[:2]]
    asked = {row.what for row in rows}
    replaced = [number for number, line in enumerate(old) if line[2:].partition(" | ")[0] in asked]
    place = min(replaced, default=len(old))
    kept = (line for number, line in enumerate(old) if number > place and number not in replaced)
    return "\n".join([f"{before}## Results\n\n{header()}\n", *new[:2], *old[:place], *new[2:], *kept, ""])


def main() -> None:
    """Run what the command line names, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which: {', '.join(PROGRAMS)}; all if left out")
    parser.add_argument("--write", action="store_true", help=f"put the rows into {RESULTS.name} as well")
    options = parser.parse_args()
    if unknown := set(options.names) - set(PROGRAMS):
        parser.error(f"no such program: {', '.join(sorted(unknown))}")
    rows: list[Row] = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        for name in options.names or PROGRAMS:
            print(f"{name} ...", file=sys.stderr, flush=True)
            rows += pool.submit(run_program, name).result()
    print(f"{header()}\n\n{table(rows)}")
    if options.write:
        RESULTS.write_text(merged(RESULTS.read_text(), rows))


if __name__ == "__main__":
    main()
