"""When each of many waits is to look next: one timer for all of them."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from typing import Final, Protocol

__all__ = ["NO_TIME", "Timed", "Timetable"]

#: When who is not on the timetable is to be called.
NO_TIME: Final = math.inf
#: Seconds by which a timer may come early, for clocks and floats are not exact.
_EARLY = 1e-6
#: Seconds to wait where the timer came early and nobody is due yet: uvloop rounds to milliseconds, so that a shorter
#: time would be none, again and again.
_TICK = 0.001
#: Calls within one turn of the loop: each starts a look, and the loop has others to serve.
_MOST = 8
#: Slots a second.
_SLOTS = 4


class Timed(Protocol):
    """Who can be put on the timetable; `due` is the timetable's own note, at first `NO_TIME`."""

    due: float

    def on_time(self) -> None:
        """Do what was to be done now."""


class Timetable:
    """Calls `on_time` of who was put on it, once, when it is time; a crowd is called a few at a time.

    Who is due later is kept in the set of a quarter of a second, from which he is taken back at no cost; a heap puts
    in order only those of the quarter that has come. (In one heap, what was taken back would pile up until it is sifted
    out, and for 100,000 that stops the loop for 40 ms.)

    It belongs to the loop that is running when somebody is put on it. Empty, it has no timer.
    """

    def __init__(self) -> None:
        self._soon: list[tuple[float, int, Timed]] = []  # also those that were taken back: their `due` differs
        self._later: dict[int, set[Timed]] = {}
        self._slots: list[int] = []  # a heap of the keys of `_later`
        self._live = 0
        self._serial = itertools.count()
        self._timer: asyncio.Handle | None = None
        self._wakes_at = NO_TIME

    def put(self, who: Timed, when: float) -> None:
        """Call `who`, who is not on it, at `when` in seconds of the monotonic clock, or soon if that has passed."""
        who.due = when
        self._live += 1
        slot = int(when * _SLOTS)
        if slot <= time.monotonic() * _SLOTS:
            heapq.heappush(self._soon, (when, next(self._serial), who))
        elif slot in self._later:
            self._later[slot].add(who)
        else:
            self._later[slot] = {who}
            heapq.heappush(self._slots, slot)
        if when < self._wakes_at:
            self._wake_at(self._next())

    def cancel(self, who: Timed) -> None:
        """Take `who` back, if he is on it."""
        if who.due == NO_TIME:
            return
        slot = self._later.get(int(who.due * _SLOTS))
        if slot is not None:
            slot.discard(who)
        who.due = NO_TIME
        self._live -= 1
        if not self._live:
            self._soon.clear()
            self._later.clear()
            self._slots.clear()
            self._wake_at(NO_TIME)

    def __len__(self) -> int:
        return self._live

    def _next(self) -> float:
        soon = self._soon[0][0] if self._soon else NO_TIME
        return min(soon, self._slots[0] / _SLOTS) if self._slots else soon

    def _wake_at(self, when: float, at_least: float = 0.0) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wakes_at = when
        if when != NO_TIME:
            loop, delay = asyncio.get_running_loop(), max(at_least, when - time.monotonic())
            if delay > 0:
                self._timer = loop.call_later(delay, self._call_due)
            else:
                self._timer = loop.call_soon(self._call_due)

    def _call_due(self) -> None:
        self._timer, self._wakes_at = None, -math.inf  # whoever is put on it meanwhile need not set the timer
        now, idle = time.monotonic() + _EARLY, False
        try:
            idle = self._open_slots(now) + self._call_some(now) == 0
        finally:
            self._wake_at(self._next(), _TICK if idle else 0.0)

    def _call_some(self, now: float) -> int:
        for called in range(_MOST):
            if not self._soon or self._soon[0][0] > now:
                return called
            self._call(*heapq.heappop(self._soon))
        return _MOST

    def _open_slots(self, now: float) -> int:
        opened = 0
        while self._slots and self._slots[0] <= now * _SLOTS:
            come = self._later.pop(heapq.heappop(self._slots))
            self._soon += [(who.due, next(self._serial), who) for who in come]
            heapq.heapify(self._soon)
            opened += 1
        return opened

    def _call(self, when: float, _: int, who: Timed) -> None:
        if who.due == when:
            who.due = NO_TIME
            self._live -= 1
            who.on_time()
