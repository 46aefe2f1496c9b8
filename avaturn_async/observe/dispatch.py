"""Tell observers what happens, at next to no cost where there are none."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from types import TracebackType
from typing import Any, Final, Self

from .logs import LogObserver, logger as log
from .observer import Observer

__all__ = ["UNOBSERVED", "Observers", "Scope", "new_number", "tell_once", "valid_traceparent"]

logger: logging.Logger = logging.getLogger(__name__)

#: The scope where nobody observes.
UNOBSERVED: Final[nullcontext[None]] = nullcontext()
_TRACEPARENT: Final = "00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
_LOG: Final = LogObserver()
_numbers = itertools.count(1)


class Observers:
    """The observers of a client or receiver, and the log.

    Attributes:
        members: the observers.
        wants: returns whether anybody is told of what is logged at a level of `logging`; called first, so that a call
            that nobody observes does nothing else for observers.

    Raises:
        TypeError: one is not an `Observer`, or a method of it is async.
    """

    __slots__ = ("__weakref__", "_failed", "members", "wants")

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self.members: tuple[Observer, ...] = tuple(observers)
        self.wants: Callable[[int], bool] = (lambda _: True) if self.members else log.isEnabledFor
        self._failed: set[int] = set()
        for observer in self.members:
            if not isinstance(observer, Observer):
                raise TypeError(f"observers must be instances of Observer, not {type(observer).__name__}")
            for name in vars(Observer):
                if inspect.iscoroutinefunction(getattr(observer, name)):
                    raise TypeError(f"{type(observer).__name__}.{name} must be a plain function, not async")

    def tell(self, what: str, info: Any) -> None:
        """Call the method `what` of each observer."""
        for observer in (*self.members, _LOG):
            self.call(observer, what, info)

    def traceparent(self) -> str | None:
        """Return the first valid trace context that an observer names for the event being processed."""
        for observer in self.members:
            if found := valid_traceparent(self.call(observer, "traceparent")):
                return found
        return None

    def scope(self, started: str, ended: str, make: Callable[..., Any]) -> Scope:
        """Return a context manager that tells its start and its end.

        `make` returns the info, with further facts that are given by name.
        """
        return Scope(self, started, ended, make)

    def call(self, observer: Observer, what: str, *info: Any) -> Any:
        """Call the method `what` of one observer, and log the first exception that it raises."""
        try:
            return getattr(observer, what)(*info)
        except (Exception, asyncio.CancelledError):
            if id(observer) not in self._failed:
                self._failed.add(id(observer))
                logger.exception("an observer raised in %s; this is logged once", what)
        return None


class Scope:
    """Tells the start and the end of a block, and what happens between them."""

    __slots__ = ("_began", "_ended", "_facts", "_make", "_observers", "_started")

    def __init__(self, observers: Observers, started: str, ended: str, make: Callable[..., Any]) -> None:
        self._observers, self._started, self._ended, self._make = observers, started, ended, make
        self._facts: dict[str, Any] = {}

    def note(self, facts: Mapping[str, Any]) -> None:
        """Add facts for the end of the block."""
        self._facts.update(facts)

    def tell(self, what: str, **facts: Any) -> None:
        """Tell that something happened within the block."""
        self._observers.tell(what, self._make(**facts))

    def within(self, started: str, ended: str, **facts: Any) -> Scope:
        """Return the scope of a block within this one."""
        return Scope(self._observers, started, ended, lambda **more: self._make(**facts | more))

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        self.tell(self._started)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        failure = {} if error is None else {"error": type(error).__name__}
        self.tell(self._ended, seconds=time.perf_counter() - self._began, **self._facts | failure)


def new_number() -> int:
    """Return a number that is unique in this process."""
    return next(_numbers)


def valid_traceparent(value: object) -> str | None:
    """Return a trace context in the form of the W3C's version 00, or None for anything else."""
    return value if isinstance(value, str) and re.fullmatch(_TRACEPARENT, value) else None


def tell_once(groups: Iterable[Observers], what: str, info: Any) -> None:
    """Call the method `what` of each observer once, also of one that is in several groups."""
    told: set[int] = set()
    for group in groups:
        for observer in group.members:
            if id(observer) not in told:
                told.add(id(observer))
                group.call(observer, what, info)
