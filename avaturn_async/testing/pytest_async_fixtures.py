"""The async side of the pytest plugin, loaded where pytest-asyncio is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..client import AvaturnClient
    from ..emulator import EmulatorThread

__all__ = ["avaturn_client"]

_Scope: TypeAlias = Literal["session", "package", "module", "class", "function"]
_NAME = "_avaturn_client_on_{}_loop"


@pytest.fixture
def avaturn_client(request: pytest.FixtureRequest) -> AvaturnClient:
    """Give a client of `avaturn_emulator` that polls quickly, and that is closed on the loop of the test."""
    client: AvaturnClient = request.getfixturevalue(_NAME.format(_loop_scope(request)))
    return client


def _loop_scope(request: pytest.FixtureRequest) -> str:
    """Return the scope of the loop that the test runs on, as pytest-asyncio's marker and setting have it."""
    mark = request.node.get_closest_marker("asyncio")
    asked: str | None = mark and (mark.kwargs.get("loop_scope") or mark.kwargs.get("scope"))
    return asked or str(request.config.getini("asyncio_default_test_loop_scope"))


def _client_on(scope: _Scope) -> Any:
    """Make the fixture whose setup and end run on the loop of this scope: a client belongs to one loop."""

    @pytest_asyncio.fixture(loop_scope=scope, name=_NAME.format(scope))
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


_on_function = _client_on("function")
_on_class = _client_on("class")
_on_module = _client_on("module")
_on_package = _client_on("package")
_on_session = _client_on("session")
