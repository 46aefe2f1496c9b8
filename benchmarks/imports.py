"""How long do ``import avaturn_async`` and ``avaturn --help`` take, beside the interpreter and the libraries alone?"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from collections.abc import Awaitable, Callable

from .kit import Row, alternate, at_most, medians, ratio, show

ROUNDS = 15
PROGRAMS = {
    "nothing": ["-c", "pass"],
    "import avaturn_async": ["-c", "import avaturn_async"],
    "import typer, rich": ["-c", "import typer, rich"],
    "avaturn --help": ["-m", "avaturn_async", "--help"],
    "import aiohttp": ["-c", "import aiohttp"],
    "from avaturn_async import AvaturnClient": ["-c", "from avaturn_async import AvaturnClient"],
}


def cpu_of(arguments: list[str]) -> Callable[[], Awaitable[float]]:
    """Return what measures a Python program: milliseconds of CPU, which on an idle machine are those on the clock."""

    async def measure() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)

    return measure


async def measure() -> list[Row]:
    """Measure them in turn."""
    found = await alternate({name: cpu_of(arguments) for name, arguments in PROGRAMS.items()}, ROUNDS)
    cost = medians(found)
    more = [mine - bare for mine, bare in zip(found["import avaturn_async"], found["nothing"], strict=True)]
    return [
        at_most(
            "`import avaturn_async`",
            "CPU",
            f"{cost['import avaturn_async']:.0f} ms",
            f"the interpreter alone {cost['nothing']:.0f} ms",
            medians({"more": more})["more"],
            50,
            " ms more",
        ),
        at_most(
            "`from avaturn_async import AvaturnClient`",
            "CPU",
            f"{cost['from avaturn_async import AvaturnClient']:.0f} ms",
            f"`import aiohttp` {cost['import aiohttp']:.0f} ms",
            ratio(found["from avaturn_async import AvaturnClient"], found["import aiohttp"]),
            1.20,
            "x",
        ),
        at_most(
            "`avaturn --help`",
            "CPU",
            f"{cost['avaturn --help']:.0f} ms",
            f"`import typer, rich` {cost['import typer, rich']:.0f} ms",
            ratio(found["avaturn --help"], found["import typer, rich"]),
            1.5,
            "x",
        ),
    ]


def run() -> list[Row]:
    """Measure."""
    return asyncio.run(measure())


if __name__ == "__main__":
    show(run())
