"""What goes wrong on the emulator, and the dice that decide when."""

import random
from typing import Any

import attrs

from .timing import seconds

__all__ = ["Dice", "Faults"]


def _probability(instance: Any, attribute: "attrs.Attribute[float]", value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{attribute.name} must be a probability, not {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"{attribute.name} must be from 0 to 1, not {value!r}")


def _chance(default: float = 0.0) -> Any:
    return attrs.field(default=default, validator=_probability)


@attrs.frozen(kw_only=True)
class Faults:
    """Probabilities from 0 to 1, and seconds where it says so. Raise `TypeError` or `ValueError`, naming the field.

    Every kind of fault draws from dice of its own, which come from the emulator's seed: the same requests in the same
    order meet the same faults. The OpenAPI document is never hit.
    """

    webhook_loss: float = _chance()
    """An event is never sent."""

    webhook_duplicates: float = _chance()
    """An event is sent twice."""

    webhook_delay: float = attrs.field(default=0.0, validator=seconds)
    """An event is sent up to this many seconds late."""

    webhook_delayed: float = _chance(1.0)
    """The share of events that `webhook_delay` is for."""

    webhook_early: float = _chance()
    """A job ends at once: its event is received before the answer, still pending, to the request that started it."""

    webhook_reorder: float = _chance()
    """An event is held back until a later one was received, or for half a second."""

    rate_limited: float = _chance()
    """An API call is answered 429 with Retry-After, and does nothing."""

    retry_after: int = attrs.field(default=1)
    """The Retry-After of a 429, in whole seconds."""

    retry_after_date: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))
    """The Retry-After of a 429 is an HTTP date."""

    server_errors: float = _chance()
    """A request is answered 500, 502, 503 or 504; but for 503, half of them are carried out all the same."""

    resets: float = _chance()
    """A request's connection is reset, for half of them after the request was carried out; a download's at once."""

    broken_downloads: float = _chance()
    """A download's connection is closed somewhere in the middle; what was sent until then arrives."""

    slow: float = attrs.field(default=0.0, validator=seconds)
    """A request waits up to this many seconds before it is looked at."""

    job_failures: float = _chance()
    """A scan, an export or a render ends as failed."""

    restart_failed: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))
    """Exporting a version again after its export failed starts a new task; else the answer stays failed."""

    @retry_after.validator
    def _whole(self, attribute: "attrs.Attribute[int]", value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"retry_after must be a whole number of seconds, not {value!r}")
        if value < 0:
            raise ValueError(f"retry_after must not be negative, not {value!r}")


class Dice:
    """Random draws that come from a seed, a stream for each kind of question."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._streams: dict[str, random.Random] = {}

    def of(self, kind: str) -> random.Random:
        """Return the stream of one kind."""
        stream = self._streams.get(kind)
        if stream is None:
            stream = self._streams[kind] = random.Random(f"{self._seed}/{kind}")
        return stream

    def happens(self, kind: str, probability: float) -> bool:
        """Draw whether something happens. A draw is taken for every probability, also for 0 and 1."""
        return self.of(kind).random() < probability

    def upto(self, kind: str, most: float) -> float:
        """Draw a number from 0 to `most`."""
        return self.of(kind).random() * most
