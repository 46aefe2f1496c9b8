"""Deadlines under one timer, on a clock that is set by hand."""

from __future__ import annotations

import asyncio

from avaturn_async.webhooks.deadlines import Deadlines


async def test_they_end_in_turn() -> None:
    """Each ends once, in the order in which it was set; who was lifted or set anew does not end before."""
    ended: list[str] = []
    over = asyncio.Event()

    def end(key: str) -> None:
        ended.append(key)
        if key == "last":
            over.set()

    deadlines = Deadlines(0.02, end)
    for key in ("a", "b", "c", "d"):
        deadlines.set(key)
    deadlines.lift("b")
    deadlines.lift("unknown")
    deadlines.set("a")
    await asyncio.sleep(0.005)
    deadlines.set("last")
    await over.wait()
    assert ["c", "d", "a", "last"] == ended
    assert (0, None) == (len(deadlines), deadlines._timer)


async def test_they_are_set_while_others_end() -> None:
    """What a deadline's end sets has its own time, and what it lifts does not end."""
    ended: list[str] = []
    over = asyncio.Event()

    def end(key: str) -> None:
        ended.append(key)
        if key == "first":
            deadlines.lift("second")
            deadlines.set("third")
        else:
            over.set()

    deadlines = Deadlines(0.01, end)
    deadlines.set("first")
    deadlines.set("second")
    await over.wait()
    assert ["first", "third"] == ended


async def test_nothing_is_left() -> None:
    """Cleared, they end no more, and can be set again."""
    ended: list[str] = []
    deadlines = Deadlines(0.005, ended.append)
    deadlines.clear()
    deadlines.set("a")
    deadlines.clear()
    assert (0, None) == (len(deadlines), deadlines._timer)
    deadlines.set("b")
    while not ended:
        await asyncio.sleep(0)
    assert ["b"] == ended
