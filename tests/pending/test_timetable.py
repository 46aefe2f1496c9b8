"""A timetable calls each once, in time and in order, in virtual time."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import weakref

from hypothesis import given, strategies as st

from avaturn_async.pending.timetable import NO_TIME, Timetable

from .world import run


class Train:
    """Somebody who is called."""

    def __init__(self, name: object = None, log: list[object] | None = None) -> None:
        self.due = NO_TIME
        self.name = name
        self.called: list[float] = []
        self._log = log

    def on_time(self) -> None:
        """Note when."""
        assert self.due == NO_TIME
        self.called.append(asyncio.get_running_loop().time())
        if self._log is not None:
            self._log.append(self.name)


def now() -> float:
    return asyncio.get_running_loop().time()


@given(st.lists(st.floats(-1, 20), max_size=40), st.randoms(use_true_random=False))
def test_each_is_called_once_when_it_is_time(delays: list[float], rng: random.Random) -> None:
    """Whatever the order in which they are put down; who is taken back is not called, who is moved is called then."""

    async def story() -> None:
        timetable, start, log = Timetable(), now(), list[object]()
        trains = {Train(delay, log): delay for delay in delays}
        for train, delay in trains.items():
            timetable.put(train, start + delay)
        expected = {}
        for train, delay in trains.items():
            fate = rng.choice(["kept", "taken back", "moved"])
            if fate != "kept":
                timetable.cancel(train)
            if fate == "moved":
                timetable.put(train, start + 20 - delay)
            if fate != "taken back":
                expected[train] = delay if fate == "kept" else 20 - delay
        assert len(expected) == len(timetable)
        await asyncio.sleep(30)
        assert 0 == len(timetable)
        for train in trains:
            assert len(train.called) == (train in expected)
            if train in expected:
                assert -0.001 <= train.called[0] - max(start, start + expected[train]) <= 0.001

    run(story())


def test_they_are_called_in_order() -> None:
    """Those of the same moment one after another."""

    async def story() -> None:
        log: list[object] = []
        timetable, start = Timetable(), now()
        for name, delay in enumerate([3, 1, 1, 2, 1, 0.1]):
            timetable.put(Train(name, log), start + delay)
        await asyncio.sleep(5)
        assert 5 == log[0]
        assert {1, 2, 4} == set(log[1:4])
        assert [3, 0] == log[4:]

    run(story())


def test_a_crowd_lets_others_in() -> None:
    """Thousands who are due at once are called in many turns of the loop."""

    async def story() -> None:
        timetable, log = Timetable(), list[object]()
        for name in range(1000):
            timetable.put(Train(name, log), now() + 1)
        seen = []
        while len(log) < 1000:
            await asyncio.sleep(0 if log else 0.5)
            seen.append(len(log))
        assert max(after - before for before, after in itertools.pairwise(seen)) <= 8

    run(story())


def test_who_is_called_may_change_the_timetable() -> None:
    """It takes another back, puts itself on it again, and all goes on."""

    async def story() -> None:
        timetable, start = Timetable(), now()
        victim, again = Train(), Train()

        class Busy(Train):
            def on_time(self) -> None:
                super().on_time()
                timetable.cancel(victim)
                if len(self.called) < 3:
                    timetable.put(self, now() + 1)

        busy = Busy()
        timetable.put(busy, start + 1)
        timetable.put(victim, start + 1.2)
        timetable.put(again, start + 2)
        await asyncio.sleep(10)
        assert [1, 2, 3] == [round(moment - start) for moment in busy.called]
        assert ([], 1, 0) == (victim.called, len(again.called), len(timetable))

    run(story())


def test_one_that_raises_stops_nobody() -> None:
    """The loop hears of it, and the others are called."""

    async def story() -> None:
        heard: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context["exception"]))

        class Broken(Train):
            def on_time(self) -> None:
                raise RuntimeError

        timetable, other = Timetable(), Train()
        timetable.put(Broken(), now() + 1)
        timetable.put(other, now() + 1)
        await asyncio.sleep(2)
        assert (1, 1) == (len(heard), len(other.called))

    run(story())


def test_a_timer_that_comes_early_comes_again_a_moment_later() -> None:
    """Not at once and again and again: some loops know milliseconds only."""

    async def story() -> None:
        timetable, train, start = Timetable(), Train(), now()
        timetable.put(train, start)
        timetable.cancel(train)
        timetable.put(train, start + 0.0004)
        timetable._open_slots(start + 1)
        timetable._call_due()
        assert isinstance(timetable._timer, asyncio.TimerHandle)
        assert 0.0009 <= timetable._timer.when() - start <= 0.0011
        await asyncio.sleep(0.01)
        assert 1 == len(train.called)

    run(story())


def test_empty_it_keeps_nothing() -> None:
    """When the last is taken back there is no timer, and nobody is held."""

    async def story() -> None:
        timetable = Timetable()
        trains = [Train() for _ in range(3)]
        for delay, train in enumerate(trains):
            timetable.put(train, now() + delay)
        for train in (*trains, Train()):
            timetable.cancel(train)
            timetable.cancel(train)
        assert (0, None, NO_TIME) == (len(timetable), timetable._timer, timetable._wakes_at)
        left = [weakref.ref(train) for train in trains]
        del train, trains
        gc.collect()
        assert [None] * 3 == [each() for each in left]

    run(story())


def test_who_was_taken_back_is_not_held_for_long() -> None:
    """Others stay on it; those who left are let go when their quarter of a second has come at the latest."""

    async def story() -> None:
        timetable, staying = Timetable(), Train()
        timetable.put(staying, now() + 100)
        for delay in (0, 0.1, 50):
            train = Train()
            timetable.put(train, now() + delay)
            timetable.cancel(train)
            left = weakref.ref(train)
            del train
            await asyncio.sleep(1)
            gc.collect()
            assert left() is None
        timetable.cancel(staying)

    run(story())
