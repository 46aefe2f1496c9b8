"""A 404 to a DELETE that may have been carried out before is success."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from avaturn_async.config import RetryPolicy
from avaturn_async.errors import NotFoundError
from avaturn_async.http.responses import Response

from .._aioresponses import Responses
from .kit import ANSWER, BASE, DELETE, GET, Clock, heard, opened, talking

URL = BASE + DELETE.path
ONCE = RetryPolicy(attempts=1)
REFUSED = aiohttp.ConnectionTimeoutError()
LOST = aiohttp.ServerDisconnectedError()
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(autouse=True)
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let waits take no time."""
    return Clock(monkeypatch)


@pytest.fixture
def api() -> Iterator[Responses]:
    """Answer requests without a network."""
    with Responses() as responses:
        yield responses


async def deleted(api: Responses, *answers: int | Exception) -> bool:
    """Send a DELETE that gets these answers; say whether it is a success, and not a 404."""
    for answer in answers:
        api.delete(URL, **({"status": answer} if isinstance(answer, int) else {"exception": answer}))
    async with opened() as transport:
        try:
            return Response(200, b"", {}) == await transport.request(DELETE)
        except NotFoundError:
            return False


@pytest.mark.parametrize(
    "answers",
    [(500, 404), (503, 404), (408, 404), (LOST, 404), (TimeoutError(), 404), (LOST, 429, 404), (500, REFUSED, 404)],
    ids=str,
)
async def test_a_404_after_a_doubtful_attempt_is_success(answers: tuple[Any, ...], api: Responses) -> None:
    """The attempt before may have deleted it."""
    assert await deleted(api, *answers)


@pytest.mark.parametrize("answers", [(404,), (429, 404), (425, 404), (REFUSED, 404), (REFUSED, 429, 404)], ids=str)
async def test_a_404_after_nothing_was_done_is_a_404(answers: tuple[Any, ...], api: Responses) -> None:
    """What was refused, or never sent, deleted nothing."""
    assert not await deleted(api, *answers)


async def test_other_methods_keep_their_404(api: Responses) -> None:
    """A GET that finds nothing has found nothing."""
    api.get(URL, status=500)
    api.get(URL, status=404)
    async with opened() as transport:
        with pytest.raises(NotFoundError):
            await transport.request(GET)


class Flaky:
    """A server whose first connection dies on a DELETE, after it was read; later ones answer 404."""

    def __init__(self) -> None:
        self.connections = 0
        self.deletes = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer over one connection."""
        self.connections += 1
        first = self.connections == 1
        while True:
            head = await heard(reader)
            if not head.startswith(b"DELETE"):
                writer.write(ANSWER)
                continue
            self.deletes += 1
            if first:
                return
            writer.write(NOT_FOUND)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_404_after_aiohttps_hidden_resend_is_success(method: str) -> None:
    """A kept-alive connection that dies makes aiohttp send again without telling; so does a fresh one."""
    server = Flaky()
    async with talking(server.talk) as url, opened(url, retry=ONCE) as transport:
        if method == "GET":
            await transport.request(GET)
        assert Response(200, b"", {}) == await transport.request(DELETE)
    assert (2, 2) == (server.connections, server.deletes)


@pytest.mark.skipif(not hasattr(aiohttp, "UploadTracker"), reason="aiohttp tells of its resends from 3.14.4 on")
async def test_the_hidden_resend_is_seen_through_a_borrowed_session() -> None:
    """The session's own middlewares run, too, and first."""
    server = Flaky()
    methods: list[str] = []

    async def middleware(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        methods.append(request.method)
        return await handler(request)

    async with (
        talking(server.talk) as url,
        aiohttp.ClientSession(middlewares=(middleware,)) as session,
        opened(url, session=session, retry=ONCE) as transport,
    ):
        await transport.request(GET)
        assert Response(200, b"", {}) == await transport.request(DELETE)
    assert ["GET", "DELETE", "DELETE"] == methods


async def test_an_ordinary_404_over_a_kept_alive_connection_is_a_404() -> None:
    """Nothing was sent twice."""
    server = Flaky()
    server.connections = 1
    async with talking(server.talk) as url, opened(url, retry=ONCE) as transport:
        await transport.request(GET)
        with pytest.raises(NotFoundError):
            await transport.request(DELETE)
    assert 1 == server.deletes


async def test_a_connection_that_was_refused_raises_no_doubt() -> None:
    """The middleware sees real failures to connect, too."""
    async with talking(Flaky().talk) as url:
        pass
    async with opened(url, retry=ONCE) as transport:
        with pytest.raises(Exception, match="was not sent"):
            await transport.request(DELETE)
