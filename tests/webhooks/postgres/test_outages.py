"""Postgres goes away, comes back, hangs, or drops its connections: waits go on."""

from __future__ import annotations

import pytest
from asyncpg import __version__ as asyncpg_version

from ..stores import OutageContract

if tuple(map(int, asyncpg_version.split(".")[:2])) < (0, 32):
    # It leaves the transport of a connection that failed to the garbage collector.
    pytestmark = pytest.mark.filterwarnings(r"ignore:[\s\S]*unclosed transport:pytest.PytestUnraisableExceptionWarning")


class TestOutages(OutageContract):
    """The outages that every store is tried with."""
