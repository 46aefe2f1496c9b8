"""Postgres goes away, comes back, hangs, or drops its connections: waits go on."""

from __future__ import annotations

from ..stores import OutageContract


class TestOutages(OutageContract):
    """The outages that every store is tried with."""
