"""A pytest plugin for apps built on the SDK: an Avaturn of their own for each test, and a client of it.

It is loaded by itself wherever the package is installed, and loads nothing of the SDK until a test asks for a fixture.
`avaturn_emulator` is for sync and async tests; `avaturn_client` is there where pytest-asyncio is.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..emulator import EmulatorThread

__all__ = ["avaturn_client_options", "avaturn_emulator"]

_MARKER = (
    "avaturn(*, timing, faults, seed, **options): how the emulator behind `avaturn_emulator` is made; the options are "
    "those of avaturn_async.emulator.Emulator"
)
_DEFAULTS = {
    "seed": ("0", "what the emulator draws identifiers, models, images and faults from: a whole number"),
    "timing": ("", "how long jobs take on the emulator, in seconds, such as scan=0.2,export=1; else no time"),
    "faults": ("", "what goes wrong on the emulator, such as webhook_loss=0.3,server_errors=0.05; else nothing"),
}
_AT_ONCE = {"scan": 0, "export": 0, "render": 0}
_ASYNCIO_PLUGIN = ("asyncio", "pytest_asyncio", "pytest_asyncio.plugin")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add an option and a setting for each default."""
    group = parser.getgroup("avaturn", "the Avaturn emulator behind the fixtures")
    for name, (default, meaning) in _DEFAULTS.items():
        group.addoption(f"--avaturn-{name}", metavar=name.upper(), help=meaning)
        parser.addini(f"avaturn_{name}", meaning, default=default)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and the async fixture where something runs it."""
    config.addinivalue_line("markers", _MARKER)
    if _changed(config):
        _defaults(config)
    if any(config.pluginmanager.hasplugin(name) for name in _ASYNCIO_PLUGIN):
        from . import pytest_async_fixtures

        config.pluginmanager.register(pytest_async_fixtures)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say with which defaults a run differs from others, so that it can be repeated."""
    changed = _changed(config)
    return f"avaturn: {', '.join(changed)}" if changed else None


@pytest.fixture
def avaturn_emulator(request: pytest.FixtureRequest) -> Iterator[EmulatorThread]:
    """Run an Avaturn in a thread of its own, with `url`, `token` and `catalogue`; jobs take no time unless told to."""
    from ..emulator import Emulator, EmulatorThread

    with EmulatorThread(Emulator(**_emulator_options(request))) as avaturn:
        yield avaturn


@pytest.fixture
def avaturn_client_options() -> dict[str, Any]:
    """Return further options of the client; to be overridden, such as by ``{"webhooks": receiver}``."""
    return {}


def _emulator_options(request: pytest.FixtureRequest) -> dict[str, Any]:
    options = _defaults(request.config)
    for mark in reversed([*request.node.iter_markers("avaturn")]):
        if mark.args:
            raise pytest.UsageError(f"@pytest.mark.avaturn takes keyword arguments alone, not {mark.args[0]!r:.80}")
        options |= mark.kwargs
    return options


def _defaults(config: pytest.Config) -> dict[str, Any]:
    from ..emulator import Faults, Timing

    return {
        "seed": _made(int, config, "seed"),
        "timing": _made(lambda text: Timing(**_AT_ONCE | _numbers(text)), config, "timing"),
        "faults": _made(lambda text: Faults(**_numbers(text)), config, "faults"),
    }


def _made(make: Callable[[str], object], config: pytest.Config, name: str) -> object:
    """Make a default of its text, or say in one line what is wrong with it."""
    text = _given(config, name)
    try:
        return make(text)
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"--avaturn-{name}={text}: {error}") from None


def _numbers(text: str) -> dict[str, Any]:
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    try:
        return {key.strip(): json.loads(value) for key, _, value in pairs}
    except ValueError:
        raise ValueError("it must be NAME=NUMBER,...") from None


def _given(config: pytest.Config, name: str) -> str:
    option: str | None = config.getoption(f"avaturn_{name}")
    setting: str = config.getini(f"avaturn_{name}")
    return option or setting


def _changed(config: pytest.Config) -> list[str]:
    return [f"{name}={text}" for name in _DEFAULTS if (text := _given(config, name)) != _DEFAULTS[name][0]]
