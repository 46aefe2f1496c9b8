"""A file server for each test."""

from collections.abc import AsyncIterator, Iterator

import pytest

from .kit import S3, Downloads, FileServer, downloader, model


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


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """Run an S3 server; a test begins with its `store`."""
    with S3() as running:
        yield running
