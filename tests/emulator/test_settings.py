"""The validation of settings, and the seeded draws."""

from typing import Any

import pytest

from avaturn_async.emulator import Emulator, Faults, Timing
from avaturn_async.emulator.settings import Settings


@pytest.mark.parametrize(
    ("kind", "field", "value", "error"),
    [
        (Timing, "scan", -1, ValueError),
        (Timing, "export", float("nan"), ValueError),
        (Timing, "render", float("inf"), ValueError),
        (Timing, "jitter", 1e308, ValueError),
        (Timing, "url_ttl", "1", TypeError),
        (Timing, "upload", True, TypeError),
        (Faults, "webhook_loss", 1.1, ValueError),
        (Faults, "resets", -0.1, ValueError),
        (Faults, "server_errors", "1", TypeError),
        (Faults, "job_failures", True, TypeError),
        (Faults, "webhook_delay", -1, ValueError),
        (Faults, "slow", None, TypeError),
        (Faults, "retry_after", -1, ValueError),
        (Faults, "retry_after", 10**12, ValueError),
        (Faults, "retry_after", 0.5, TypeError),
        (Faults, "retry_after_date", 1, TypeError),
        (Faults, "restart_failed", "no", TypeError),
        (Emulator, "host", None, TypeError),
        (Emulator, "port", "80", TypeError),
        (Emulator, "port", 65_536, ValueError),
        (Emulator, "timing", 0, TypeError),
        (Emulator, "seed", "0", TypeError),
        (Emulator, "body", "T3", ValueError),
        (Emulator, "models", "tiny", ValueError),
        (Emulator, "idle_clip", 1, TypeError),
        (Emulator, "model_size", 0, ValueError),
        (Emulator, "model_size", 2**30, ValueError),
        (Emulator, "model_variety", 0, ValueError),
        (Emulator, "webhook_url", "/hooks", ValueError),
        (Emulator, "webhook_url", 1, TypeError),
        (Emulator, "public_url", "avaturn.test", ValueError),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_bad_values_are_refused(kind: Any, field: str, value: object, error: type[Exception]) -> None:
    """The error names the field."""
    with pytest.raises(error, match=field):
        kind(**{field: value})


def test_assignments_are_validated() -> None:
    """A refused value changes nothing, and a url, which has a secret in it, is not quoted."""
    emulator = Emulator(webhook_url="http://localhost/x")
    for name, value in (("timing", None), ("faults", None), ("webhook_url", "ftp://secret")):
        before = getattr(emulator, name)
        with pytest.raises((TypeError, ValueError), match=name) as caught:
            setattr(emulator, name, value)
        assert "secret" not in str(caught.value)
        assert getattr(emulator, name) == before


def test_the_draws_of_one_kind_do_not_depend_on_others() -> None:
    """Each kind has a stream of its own, and probabilities of 0 and 1 are certain."""

    def settings(**faults: float) -> Settings:
        options = {"host": "", "port": 0, "body": "T2", "models": "small", "idle_clip": True}
        options |= {"model_size": None, "model_variety": None, "public_url": None}
        return Settings(**options, seed=1, webhook_url=None, timing=Timing(), faults=Faults(**faults))

    first, second = settings(webhook_loss=0.5), settings(webhook_loss=0.5, resets=1)
    assert all(second.happens("resets") for _ in range(100))
    assert not any(second.happens("slow") for _ in range(100))
    draws = [[each.happens("webhook_loss") for _ in range(50)] for each in (first, second)]
    assert draws[0] == draws[1]
    assert {True, False} == {*draws[0]}


@pytest.mark.parametrize(("name", "message"), [("body", "'T1' or 'T2'"), ("models", "")], ids=str)
def test_a_name_that_does_not_exist_is_quoted(name: str, message: str) -> None:
    """The message says what was given and what can be given."""
    with pytest.raises(ValueError, match=f"^{name} must be .*{message}.*, not 'T3'$"):
        Emulator(**{name: "T3"})
