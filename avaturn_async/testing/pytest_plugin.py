"""A pytest plugin for apps built on the SDK: an emulator for each test, and a client of it.

pytest loads it wherever the package is installed, so it imports nothing of the SDK until a test requests a fixture.
`avaturn_emulator` serves sync and async tests; `avaturn_client` needs pytest-asyncio.
"""

from __future__ import annotations

import json
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ..client import AvaturnClient
    from ..emulator import EmulatorThread

__all__ = ["avaturn_client_options", "avaturn_emulator"]

_MARKER = (
    "avaturn(*, timing, faults, seed, **options): options of the emulator behind `avaturn_emulator`; see "
    "avaturn_async.emulator.Emulator"
)
_DEFAULTS = {
    "seed": ("0", "the seed of the emulator's identifiers, models, images and faults: an integer"),
    "timing": ("", "the seconds that jobs take on the emulator, such as scan=0.2,export=1; default: 0"),
    "faults": ("", "the faults of the emulator, such as webhook_loss=0.3,server_errors=0.05; default: none"),
}
_AT_ONCE = {"scan": 0, "export": 0, "render": 0}
_LoopScope: TypeAlias = Literal["function", "class", "module", "package", "session"]
_SCOPES: tuple[_LoopScope, ...] = ("function", "class", "module", "package", "session")
_CLIENT_ON_LOOP = "_avaturn_client_on_{}_loop"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add an option and a setting for each default."""
    group = parser.getgroup("avaturn", "the Avaturn emulator behind the fixtures")
    for name, (default, meaning) in _DEFAULTS.items():
        group.addoption(f"--avaturn-{name}", metavar=name.upper(), help=meaning)
        parser.addini(f"avaturn_{name}", meaning, default=default)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and `avaturn_client` in the form that the installed pytest-asyncio allows."""
    config.addinivalue_line("markers", _MARKER)
    if _changed(config):
        _defaults(config)
    names = ("asyncio", "pytest_asyncio", "pytest_asyncio.plugin")
    installed = any(config.pluginmanager.hasplugin(name) for name in names)
    try:
        fixtures = _async_fixtures() if installed else _missing_fixtures()
    except TypeError:  # fixtures have no loop_scope before pytest-asyncio 0.24
        fixtures = _missing_fixtures()
    config.pluginmanager.register(fixtures, "avaturn_async_fixtures")


def pytest_report_header(config: pytest.Config) -> str | None:
    """Report the defaults that were changed, so that the run can be repeated."""
    changed = _changed(config)
    return f"avaturn: {', '.join(changed)}" if changed else None


@pytest.fixture
def avaturn_emulator(request: pytest.FixtureRequest) -> Iterator[EmulatorThread]:
    """Run an emulator in a thread, with `url`, `token` and `catalogue`; by default its jobs take no time."""
    from ..emulator import Emulator, EmulatorThread

    with EmulatorThread(Emulator(**_emulator_options(request))) as avaturn:
        yield avaturn


@pytest.fixture
def avaturn_client_options() -> dict[str, Any]:
    """Return further options of the client; override it, for example with ``{"webhooks": receiver}``."""
    return {}


def _missing_fixtures() -> ModuleType:
    """Make an `avaturn_client` that fails and says what it needs."""

    @pytest.fixture
    def avaturn_client() -> None:
        """Give a client of `avaturn_emulator`; this needs pytest-asyncio 0.24 or newer."""
        pytest.fail('avaturn_client needs pytest-asyncio 0.24 or newer: pip install "avaturn-async[testing]"', False)

    return _module(avaturn_client=avaturn_client)


def _async_fixtures() -> ModuleType:
    """Make `avaturn_client`, and the fixtures behind it: one for each scope of event loops."""

    @pytest.fixture
    def avaturn_client(request: pytest.FixtureRequest) -> AvaturnClient:
        """Give a client of `avaturn_emulator` that polls quickly, and is closed on the event loop of the test."""
        mark = request.node.get_closest_marker("asyncio")
        scope = mark and (mark.kwargs.get("loop_scope") or mark.kwargs.get("scope"))
        scope = scope or _setting(request.config, "asyncio_default_test_loop_scope") or "function"
        client: AvaturnClient = request.getfixturevalue(_CLIENT_ON_LOOP.format(scope))
        return client

    return _module(avaturn_client=avaturn_client, **{f"on_{scope}": _client_on(scope) for scope in _SCOPES})


def _module(**fixtures: Any) -> ModuleType:
    """Return fixtures as pytest finds them in a plugin."""
    module = ModuleType("avaturn_async_fixtures")
    vars(module).update(fixtures)
    return module


def _client_on(scope: _LoopScope) -> Any:
    """Make a fixture that runs on the loop of this scope, as a client belongs to one loop."""
    import pytest_asyncio

    @pytest_asyncio.fixture(loop_scope=scope, name=_CLIENT_ON_LOOP.format(scope))
    async def client(
        avaturn_emulator: EmulatorThread, avaturn_client_options: dict[str, Any]
    ) -> AsyncIterator[AvaturnClient]:
        from ..client import AvaturnClient
        from ..config import PollPolicy

        quick = PollPolicy(first=0.02, factor=1.5, cap=0.25, first_with_webhooks=0.25)
        options: dict[str, Any] = {"base_url": avaturn_emulator.url, "polling": quick, "wait_timeout": 30}
        options |= avaturn_client_options
        async with AvaturnClient(avaturn_emulator.token, **options) as opened:
            yield opened

    return client


def _setting(config: pytest.Config, name: str) -> str | None:
    """Return a setting, or None if the installed pytest-asyncio does not have it."""
    try:
        return str(config.getini(name))
    except (KeyError, ValueError):
        return None


def _emulator_options(request: pytest.FixtureRequest) -> dict[str, Any]:
    options = _defaults(request.config)
    for mark in reversed([*request.node.iter_markers("avaturn")]):
        if mark.args:
            raise pytest.UsageError(f"@pytest.mark.avaturn takes keyword arguments alone, not {mark.args[0]!r:.80}")
        options |= mark.kwargs
    return options


def _defaults(config: pytest.Config) -> dict[str, Any]:
    """Return the options of the emulator that the command line or the settings give, or raise UsageError."""
    from ..emulator import Faults, Timing

    made: dict[str, Any] = {"models": "small"}
    for name in _DEFAULTS:
        text = _given(config, name)
        try:
            if name == "seed":
                made[name] = _whole_number(text)
            elif name == "timing":
                made[name] = Timing(**_AT_ONCE | _numbers(text, Timing))
            else:
                made[name] = Faults(**_numbers(text, Faults))
        except (TypeError, ValueError) as error:
            raise pytest.UsageError(f"--avaturn-{name}={text}: {error}") from None
    return made


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("it must be a whole number") from None


def _numbers(text: str, kind: type[Any]) -> dict[str, Any]:
    """Read ``name=number,...``; the names are the fields of `kind`."""
    import attrs

    known = [field.name for field in attrs.fields(kind)]
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    for key, _, _ in pairs:
        if key.strip() not in known:
            raise ValueError(f"there is no {key.strip()!r}, but {', '.join(known)}")
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
