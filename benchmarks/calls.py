"""What does one call of the API cost the client's CPU, beside aiohttp used by hand?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import cycle
from uuid import UUID

import aiohttp

from avaturn_async import AvaturnClient

from .canned import AVATAR
from .kit import LOOPS, Child, Loop, Row, alternate, at_most, medians, on, ratio, show

# Many short rounds: what else the machine does changes slower than a round, so it is the same for all in one.
ROUNDS = 60
CALLS = 100
# An id for each call, as in life: one alone would be asked for by a url that yarl has in its cache.
AVATARS = cycle([UUID(int=AVATAR.int + number) for number in range(1_000)])
GOALS: dict[Loop, float] = {"asyncio": 1.15, "uvloop": 1.20}


class Bare(asyncio.Protocol):
    """The floor: one request after another written by hand, the answer cut at its headers' end and not even parsed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand out the answer."""
        self._answer.set_result(data.partition(b"\r\n\r\n")[2])

    async def ask(self, request: bytes) -> bytes:
        """Send one request."""
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._transport.write(request)  # type: ignore[attr-defined]
        return await self._answer


def cpu_of(call: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[float]]:
    """Return what measures `call`: microseconds of CPU."""

    async def measure() -> float:
        before = time.process_time()
        for _ in range(CALLS):
            await call()
        return (time.process_time() - before) / CALLS * 1e6

    return measure


async def measure(loop: Loop, origin: str) -> list[Row]:
    """Measure two calls on one kind of loop."""
    _, bare = await asyncio.get_running_loop().create_connection(Bare, *origin.removeprefix("http://").split(":"))
    request = b"POST /api/v1/users/new HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer token\r\n\r\n"
    headers = {"Authorization": "Bearer token"}
    async with aiohttp.ClientSession(headers=headers) as session, AvaturnClient("token", base_url=origin) as client:

        async def user_by_hand() -> object:
            async with session.post(f"{origin}/api/v1/users/new") as response:
                return await response.json()

        async def export_by_hand() -> object:
            parameters = {"avatar_id": str(next(AVATARS))}
            async with session.post(f"{origin}/api/v1/exports/new", params=parameters) as response:
                return await response.json()

        found = await alternate(
            {
                "users.create": cpu_of(client.users.create),
                "user by hand": cpu_of(user_by_hand),
                "exports.create": cpu_of(lambda: client.exports.create(next(AVATARS))),
                "export by hand": cpu_of(export_by_hand),
                "bare": cpu_of(lambda: bare.ask(request)),
            },
            ROUNDS,
        )
    return rows(loop, found)


def rows(loop: Loop, found: dict[str, list[float]]) -> list[Row]:
    """Make rows of what was found."""
    cost = medians(found)
    floor = f"a bare Protocol {cost['bare']:.0f} us"
    return [
        at_most(
            f"CPU of `{call}`",
            loop,
            f"{cost[call]:.0f} us",
            f"aiohttp by hand {cost[by_hand]:.0f} us; {floor}",
            ratio(found[call], found[by_hand]),
            GOALS[loop],
            "x",
        )
        for call, by_hand in (("users.create", "user by hand"), ("exports.create", "export by hand"))
    ]


def run() -> list[Row]:
    """Measure on both kinds of loop."""
    with Child("canned") as server:
        origin = f"http://127.0.0.1:{server.read()}"
        return [row for loop in LOOPS for row in on(loop, lambda loop=loop: measure(loop, origin))]


if __name__ == "__main__":
    show(run())
