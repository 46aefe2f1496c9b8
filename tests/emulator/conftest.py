"""A running emulator, a caller and a receiver for it."""

from collections.abc import AsyncIterator

import pytest

from avaturn_async.emulator import Emulator

from .kit import AT_ONCE, Caller, Receiver


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """Run an emulator whose jobs take no time."""
    async with Emulator(timing=AT_ONCE, models="small") as running:
        yield running


@pytest.fixture
async def caller(emulator: Emulator) -> AsyncIterator[Caller]:
    """Open a caller."""
    async with Caller(emulator) as opened:
        yield opened


@pytest.fixture
async def receiver(emulator: Emulator) -> AsyncIterator[Receiver]:
    """Run a receiver of the emulator's webhooks."""
    async with Receiver() as running:
        emulator.webhook_url = running.url
        yield running
