"""What the programs share: a row of the table, alternating rounds, the loop's gaps, and servers in other processes."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, Self

import attrs

ROUNDS = 7

#: asyncio receives into 256 KiB at a time, for which glibc asks the kernel, or not, as the heap happens to look: up to
#: 20 us a request by luck alone. In the other processes it never does.
_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 20),
    "MALLOC_TOP_PAD_": str(4 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 20),
}

Loop = Literal["asyncio", "uvloop"]
LOOPS: tuple[Loop, ...] = ("asyncio", "uvloop")


@attrs.frozen
class Row:
    """One line of the table.

    Attributes:
        what: the question.
        setting: the loop, the sizes.
        ours: what the SDK needed.
        reference: what it is held against, and what that needed.
        result: the figure that the goal is about.
        goal: what it should be; nothing where there is no goal.
        met: whether it is.
    """

    what: str
    setting: str
    ours: str
    reference: str
    result: str
    goal: str = ""
    met: bool | None = None


def at_most(
    what: str, setting: str, ours: str, reference: str, value: float, goal: float | None, unit: str = ""
) -> Row:
    """Make a row whose figure should be small."""
    return _row(what, setting, ours, reference, value, goal, unit, "<=")


def at_least(
    what: str, setting: str, ours: str, reference: str, value: float, goal: float | None, unit: str = ""
) -> Row:
    """Make a row whose figure should be large."""
    return _row(what, setting, ours, reference, value, goal, unit, ">=")


def _row(
    what: str, setting: str, ours: str, reference: str, value: float, goal: float | None, unit: str, sign: str
) -> Row:
    if goal is None:
        return Row(what, setting, ours, reference, f"{figure(value)}{unit}")
    met = value <= goal if sign == "<=" else value >= goal
    return Row(what, setting, ours, reference, f"{figure(value)}{unit}", f"{sign} {figure(goal)}{unit}", met)


def figure(value: float) -> str:
    """Write a number with three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@attrs.frozen
class Spent:
    """What a piece of work took, in seconds."""

    wall: float
    cpu: float


@contextmanager
def spending() -> Iterator[Callable[[], Spent]]:
    """Measure a block; the function that it yields tells what it took so far, of this process."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    yield lambda: Spent(time.perf_counter() - wall, time.process_time() - cpu)


def medians(rounds: Mapping[str, list[float]]) -> dict[str, float]:
    """Return the median of each."""
    return {name: statistics.median(values) for name, values in rounds.items()}


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Return the median of the ratios within each round: what disturbs a round disturbs both."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


async def alternate(
    works: Mapping[str, Callable[[], Awaitable[float]]], rounds: int = ROUNDS
) -> dict[str, list[float]]:
    """Run each work once a round, in turn and in both directions, after a round that doesn't count."""
    found: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    for number in range(rounds + 1):
        for name in names if number % 2 else reversed(names):
            gc.collect()
            value = await works[name]()
            if number:
                found[name].append(value)
    return found


def on(loop: Loop, main: Callable[[], Awaitable[list[Row]]]) -> list[Row]:
    """Run `main` on an event loop of that kind."""
    factory = None
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop

    async def call() -> list[Row]:
        return await main()

    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(call())


class Gaps:
    """How long the event loop was away: every millisecond it is asked to come back at once."""

    def __init__(self, every: float = 0.001) -> None:
        self._every = every
        self._task: asyncio.Task[None] | None = None
        self.seen: list[float] = []

    async def _watch(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(self._every)
            self.seen.append(time.perf_counter() - before - self._every)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(0.01)
        self.seen.clear()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(2 * self._every)
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait((self._task,))

    @property
    def longest(self) -> float:
        """Milliseconds."""
        return 1000 * max(self.seen)

    def percentile(self, percent: int) -> float:
        """Milliseconds that so many percent of the gaps stay below."""
        return 1000 * statistics.quantiles(self.seen, n=100)[percent - 1]


class Child:
    """A program of ours in another process; it talks in lines, and ends with its input."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **_MALLOC}
        )

    def read(self) -> str:
        """Return the next line that it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended early")
        return line.strip()

    def say(self, line: str) -> None:
        """Say a line to it."""
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)

    async def ask(self, line: str) -> str:
        """Say a line and wait for the answer, off the event loop."""
        self.say(line)
        return await asyncio.to_thread(self.read)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


async def until_stdin_ends() -> None:
    """Return when the parent hangs up."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        pass


def run_program(name: str) -> list[Row]:
    """Run the program of that name; here, where a new process finds it."""
    rows: list[Row] = importlib.import_module(f"benchmarks.{name}").run()
    return rows


def show(rows: list[Row]) -> None:
    """Print rows as a Markdown table."""
    print(table(rows))


def table(rows: list[Row]) -> str:
    """Return rows as a Markdown table."""
    head = ("what", "setting", "ours", "reference", "result", "goal", "met")
    lines = [head, ("---",) * len(head)]
    for row in rows:
        met = {True: "yes", False: "no", None: ""}[row.met]
        lines.append((row.what, row.setting, row.ours, row.reference, row.result, row.goal, met))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
