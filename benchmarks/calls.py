"""What does one API call cost in CPU, beside aiohttp used by hand and beside a client generated from the contract?

The generated client is made by openapi-python-client, in a temporary folder, from the contract that the package ships;
it uses httpx.
"""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from itertools import cycle
from pathlib import Path
from types import ModuleType
from uuid import UUID

import aiohttp

import avaturn_async
from avaturn_async import AvaturnClient

from .canned import AVATAR
from .kit import LOOPS, Child, Loop, Row, alternate, at_most, medians, on, ratio, show

# Many short rounds: background load changes slower than a round, so that it disturbs all works of one round alike.
ROUNDS = 40
CALLS = 96
# Distinct ids, as in production: a repeated url would be answered from yarl's cache.
AVATARS = cycle([UUID(int=AVATAR.int + number) for number in range(1_000)])
BY_HAND_GOAL, GENERATED_GOAL = 1.20, 0.25
CONTRACT = Path(avaturn_async.__file__).parent / "emulator" / "openapi.json"

Call = Callable[[], Awaitable[object]]


def cpu_of(call: Call, at_once: int) -> Callable[[], Awaitable[float]]:
    """Return a function that measures the microseconds of CPU of one call, with `at_once` calls under way."""

    async def caller() -> None:
        for _ in range(CALLS // at_once):
            await call()

    async def measure() -> float:
        before = time.process_time()
        await asyncio.gather(*(caller() for _ in range(at_once)))
        return (time.process_time() - before) / CALLS * 1e6

    return measure


def generate(folder: str) -> ModuleType:
    """Generate a client from the contract, and return its package."""
    command = ["openapi-python-client", "generate", "--path", str(CONTRACT), "--meta", "none", "--output-path"]
    subprocess.run([*command, f"{folder}/generated_client"], check=True, capture_output=True)
    sys.path.insert(0, folder)
    return importlib.import_module("generated_client")


async def measure(loop: Loop, origin: str, generated: ModuleType) -> list[Row]:
    """Measure two calls on one kind of loop, one at a time and eight at once."""
    create_user = importlib.import_module(f"{generated.__name__}.api.users.create_user").asyncio
    create_export = importlib.import_module(f"{generated.__name__}.api.exports.create_export").asyncio
    async with (
        aiohttp.ClientSession(headers={"Authorization": "Bearer token"}) as session,
        AvaturnClient("token", base_url=origin) as client,
        generated.AuthenticatedClient(base_url=origin, token="token") as other,
    ):

        async def user_by_hand() -> object:
            async with session.post(f"{origin}/api/v1/users/new") as response:
                return await response.json()

        async def export_by_hand() -> object:
            parameters = {"avatar_id": str(next(AVATARS))}
            async with session.post(f"{origin}/api/v1/exports/new", params=parameters) as response:
                return await response.json()

        calls: dict[str, tuple[Call, Call, Call]] = {
            "users.create": (client.users.create, user_by_hand, lambda: create_user(client=other)),
            "exports.create": (
                lambda: client.exports.create(next(AVATARS)),
                export_by_hand,
                lambda: create_export(client=other, avatar_id=next(AVATARS)),
            ),
        }
        return [
            row
            for name, (ours, by_hand, theirs) in calls.items()
            for at_once in (1, 8)
            for row in await compare(f"CPU of `{name}`", f"{loop}, {at_once} at once", ours, by_hand, theirs, at_once)
        ]


async def compare(what: str, setting: str, ours: Call, by_hand: Call, generated: Call, at_once: int) -> list[Row]:
    """Measure a call in the three ways, side by side."""
    works = {"ours": ours, "by hand": by_hand, "generated": generated}
    found = await alternate({name: cpu_of(call, at_once) for name, call in works.items()}, ROUNDS)
    cost = medians(found)
    return [
        at_most(
            what,
            setting,
            f"{cost['ours']:.0f} us",
            f"{reference} {cost[name]:.0f} us",
            ratio(found["ours"], found[name]),
            goal,
            "x",
        )
        for name, reference, goal in (
            ("by hand", "aiohttp by hand", BY_HAND_GOAL),
            ("generated", "a client generated from the contract, on httpx", GENERATED_GOAL),
        )
    ]


def run() -> list[Row]:
    """Measure on both kinds of loop."""
    with Child("canned") as server, tempfile.TemporaryDirectory() as folder:
        origin, generated = f"http://127.0.0.1:{server.read()}", generate(folder)
        return [row for loop in LOOPS for row in on(loop, lambda loop=loop: measure(loop, origin, generated))]


if __name__ == "__main__":
    show(run())
