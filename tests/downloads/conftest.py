"""A file server for each test."""

from collections.abc import AsyncIterator

import pytest

from .kit import Downloads, FileServer, downloader, model


@pytest.fixture
async def server() -> AsyncIterator[FileServer]:
    """Serve a model of 300,000 bytes."""
    async with FileServer(model(300_000)) as running:
        yield running


@pytest.fixture
async def downloads() -> AsyncIterator[Downloads]:
    """Download from anywhere, without waits between attempts."""
    made = downloader()
    yield made
    await made.aclose()
