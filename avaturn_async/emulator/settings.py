"""The emulator's settings: durations, faults, and the seeded random draws that decide when a fault happens."""

import random
from typing import Any, get_args
from urllib.parse import urlsplit

import attrs
from attrs import validators as v

from .glb.tables import MAX_SIZE, Body, Models

__all__ = ["Body", "Faults", "Models", "Settings", "Timing", "forwarded"]

MAX_SECONDS = 365 * 24 * 60 * 60


def _number(most: int, kind: str) -> Any:
    def check(instance: Any, attribute: "attrs.Attribute[float]", value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{attribute.name} must be {kind}, not {value!r}")
        if not 0 <= value <= most:  # refuses NaN too
            raise ValueError(f"{attribute.name} must be {kind} from 0 to {most}, not {value!r}")

    return check


def _seconds(default: float = 0.0) -> Any:
    return attrs.field(default=default, validator=_number(MAX_SECONDS, "a number of seconds"))


def _probability(default: float = 0.0) -> Any:
    return attrs.field(default=default, validator=_number(1, "a probability"))


def _switch() -> Any:
    return attrs.field(default=False, validator=v.instance_of(bool))


@attrs.frozen(kw_only=True)
class Timing:
    """Durations in seconds, from 0 to a year.

    A `Timing` assigned to a running emulator applies to what starts afterwards. Raises `TypeError` or `ValueError`,
    naming the field, for an invalid value.
    """

    scan: float = _seconds(0.2)
    """From the last byte of the photos, or the end of an editor session, to the end of the scan."""

    export: float = _seconds(0.5)
    """From the first `POST exports/new` of a version to its model."""

    render: float = _seconds(0.3)
    """From `POST renders/new` to the image."""

    upload: float = _seconds()
    """From the last byte of the photos to the response."""

    url_ttl: float = _seconds(900.0)
    """Lifetime of a download url; with 0, urls are expired when they are issued."""

    jitter: float = _seconds()
    """Maximum of a random duration that is added to each scan, export and render."""


@attrs.frozen(kw_only=True)
class Faults:
    """The faults to inject: probabilities from 0 to 1, or seconds where the field says so.

    Each fault has its own random stream, derived from the emulator's seed: the same requests in the same order meet the
    same faults. The OpenAPI document is exempt. Raises `TypeError` or `ValueError`, naming the field, for an invalid
    value.
    """

    webhook_loss: float = _probability()
    """An event is never sent."""

    webhook_duplicates: float = _probability()
    """An event is sent twice."""

    webhook_delay: float = _seconds()
    """An event is sent up to this many seconds late."""

    webhook_delayed: float = _probability(1.0)
    """The probability that `webhook_delay` applies to an event."""

    webhook_early: float = _probability()
    """A job ends immediately, and its event is delivered before the response that still says pending."""

    webhook_reorder: float = _probability()
    """An event is held back until a later one has been sent, or for half a second."""

    rate_limited: float = _probability()
    """An API call is answered 429 with Retry-After and has no effect."""

    retry_after: int = attrs.field(default=1, validator=[v.instance_of(int), _number(MAX_SECONDS, "a whole number")])
    """Retry-After of a 429, in whole seconds."""

    retry_after_date: bool = _switch()
    """Send Retry-After as an HTTP date."""

    server_errors: float = _probability()
    """A request is answered 500, 502, 503 or 504; half of those not answered 503 take effect all the same."""

    resets: float = _probability()
    """A connection is reset, in half of the cases after the request took effect; for downloads always before."""

    broken_downloads: float = _probability()
    """A download's connection is closed at a random byte; the bytes before it arrive."""

    slow: float = _seconds()
    """A request waits up to this many seconds before it is processed."""

    job_failures: float = _probability()
    """A scan, export or render ends as failed."""

    restart_failed: bool = _switch()
    """A request for an export that failed starts a new task; otherwise the export stays failed."""


def _http_url(instance: Any, attribute: "attrs.Attribute[str | None]", value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{attribute.name} must be a str or None, not a {type(value).__name__}")
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        # The value is not quoted: a webhook url contains the receiver's secret.
        raise ValueError(f"{attribute.name} must be an absolute http or https url")


def _one_of(names: Any) -> Any:
    def check(instance: Any, attribute: "attrs.Attribute[str]", value: Any) -> None:
        if value not in get_args(names):
            raise ValueError(f"{attribute.name} must be {' or '.join(map(repr, get_args(names)))}, not {value!r:.80}")

    return check


@attrs.define(kw_only=True)
class Settings:
    """The settings that the parts of an emulator share. Assignments are validated, and take effect at once."""

    host: str = attrs.field(validator=v.instance_of(str))
    port: int = attrs.field(validator=[v.instance_of(int), v.ge(0), v.le(65_535)])
    seed: int = attrs.field(validator=v.instance_of(int))
    body: Body = attrs.field(validator=_one_of(Body))
    models: Models = attrs.field(validator=_one_of(Models))
    idle_clip: bool = attrs.field(validator=v.instance_of(bool))
    model_size: int | None = attrs.field(validator=v.optional([v.instance_of(int), v.ge(1), v.le(MAX_SIZE)]))
    model_variety: int | None = attrs.field(validator=v.optional([v.instance_of(int), v.ge(1)]))
    public_url: str | None = attrs.field(validator=_http_url)
    webhook_url: str | None = attrs.field(validator=_http_url, repr=False)
    timing: Timing = attrs.field(validator=v.instance_of(Timing))
    faults: Faults = attrs.field(validator=v.instance_of(Faults))
    _streams: dict[str, random.Random] = attrs.field(factory=dict, init=False, repr=False)

    def stream(self, kind: str) -> random.Random:
        """Return the random stream of one kind of draw, derived from the seed."""
        stream = self._streams.get(kind)
        if stream is None:
            stream = self._streams[kind] = random.Random(f"{self.seed}/{kind}")
        return stream

    def happens(self, fault: str) -> bool:
        """Draw whether a fault happens; also for probabilities 0 and 1, so that later draws do not depend on them."""
        probability: float = getattr(self.faults, fault)
        return self.stream(fault).random() < probability

    def up_to(self, kind: str, most: float) -> float:
        """Draw a number from 0 to `most`."""
        return self.stream(kind).random() * most


def forwarded(holder: str, name: str) -> Any:
    """Make a property that reads and assigns the attribute `name` of the object in the attribute `holder`."""
    return property(
        lambda self: getattr(getattr(self, holder), name),
        lambda self, value: setattr(getattr(self, holder), name, value),
    )
