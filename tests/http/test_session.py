"""Borrowed sessions, proxies, and other people's tools around the transport."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import vcr
from aiohttp import web

from avaturn_async.errors import ClientClosedError, ConfigurationError, OutcomeUnknownError, TransportError
from avaturn_async.http.endpoints import ApiRequest
from avaturn_async.http.transport import Transport
from avaturn_async.redact import Secret, SignedUrl

from .kit import BASE, DELETE, GET, POST, TOKEN, opened, serving


class Echo:
    """A server that answers with what it was sent, compressed if the client asks for it."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request."""
        self.seen.append(dict(request.headers))
        response = web.json_response({"padding": "x" * 2000})
        response.enable_compression()
        return response


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that writes the user's .netrc."""
    path = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(path))

    def write(text: str) -> None:
        path.write_text(text)
        path.chmod(0o600)

    return write


@pytest.mark.parametrize("entry", ["machine 127.0.0.1", "default", "machine other.example"])
async def test_a_netrc_entry_does_not_replace_the_token(netrc: Callable[[str], None], entry: str) -> None:
    """A session with trust_env would send its credentials, which exclude an Authorization header."""
    netrc(f"{entry} login someone password sesame\n")
    server = Echo()
    async with serving(server.handle) as url, aiohttp.ClientSession(trust_env=True) as session:
        async with opened(url, session=session) as transport:
            for request in (GET, POST, DELETE):
                await transport.request(request)
    assert [f"Bearer {TOKEN}"] * 3 == [headers["Authorization"] for headers in server.seen]


@pytest.mark.parametrize("content", [None, "machine", "\x00", "machine 127.0.0.1 login a"])
async def test_a_netrc_that_can_not_be_used_is_ignored(netrc: Callable[[str], None], content: str | None) -> None:
    """Aiohttp does not use it either."""
    if content is not None:
        netrc(content)
    server = Echo()
    async with serving(server.handle) as url, aiohttp.ClientSession(trust_env=True) as session:
        async with opened(url, session=session) as transport:
            await transport.request(GET)
    assert f"Bearer {TOKEN}" == server.seen[0]["Authorization"]


async def test_without_trust_env_no_netrc_is_read(netrc: Callable[[str], None]) -> None:
    """The session's own middlewares run, too."""
    netrc("default login someone password sesame\n")
    seen: list[str] = []

    async def middleware(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        seen.append(request.method)
        return await handler(request)

    async with serving(Echo().handle) as url, aiohttp.ClientSession(middlewares=(middleware,)) as session:
        async with opened(url, session=session) as transport:
            await transport.request(GET)
    assert ["GET"] == seen


async def test_a_session_that_does_not_decompress_is_sent_nothing_compressed() -> None:
    """Otherwise its gzip would be taken for JSON."""
    server = Echo()
    async with serving(server.handle) as url, aiohttp.ClientSession(auto_decompress=False) as session:
        async with opened(url, session=session) as transport:
            assert 2000 == len(json.loads((await transport.request(GET)).body)["padding"])
    assert "identity" == server.seen[0]["Accept-Encoding"]


async def test_headers_for_a_gateway_are_sent_to_the_api() -> None:
    """They may replace the agent, but none that the client sets for a reason; a view adds to them."""
    server = Echo()
    headers = {"X-Gate": Secret("sesame"), "user-agent": Secret("mine")}
    async with serving(server.handle) as url, opened(url, headers=headers) as transport:
        await transport.request(GET)
        await transport.with_options(headers={"X-More": Secret("1")}).request(POST)
        await transport.request(GET)
    assert [("sesame", "mine", None), ("sesame", "mine", "1"), ("sesame", "mine", None)] == [
        (sent["X-Gate"], sent["User-Agent"], sent.get("X-More")) for sent in server.seen
    ]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("Authorization", "sesame", "header Authorization is set by the client"),
        ("content-type", "sesame", "header content-type is set by the client"),
        ("X Gate", "sesame", "header name 'X Gate' is not valid"),
        ("", "sesame", "header name '' is not valid"),
        (7, "sesame", "header name 7 is not valid"),
        ("X-Gate", "sesame\r\nX: y", "the value of header X-Gate must be"),
        ("X-Gate", "", "the value of header X-Gate must be"),
        ("X-Gate", " sesame", "the value of header X-Gate must be"),
    ],
)
def test_headers_that_can_not_be_sent_are_refused(name: Any, value: str, problem: str) -> None:
    """At construction; the value is not shown."""
    with pytest.raises(ConfigurationError, match=problem) as caught:
        Transport(token=Secret(TOKEN), base_url=BASE, headers={name: Secret(value)})
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    "proxy", ["socks5://127.0.0.1:1080", "127.0.0.1:3128", "proxy.example", "http://", "http://p:port", "ftp://p", ""]
)
def test_a_proxy_that_aiohttp_can_not_use_is_refused(proxy: str) -> None:
    """At construction: it would otherwise fail each request, some of them as if they had been sent."""
    with pytest.raises(ConfigurationError, match="proxy must be an http or https url"):
        Transport(token=Secret(TOKEN), base_url=BASE, proxy=SignedUrl(proxy))


async def test_a_proxy_with_a_password_is_used_and_not_shown() -> None:
    """It is sent to the proxy as credentials."""
    server = Echo()
    async with serving(server.handle) as url:
        proxy = SignedUrl(url.replace("http://", "http://user:sesame@"))
        async with opened("http://api.example", allow_http=True, proxy=proxy) as transport:
            await transport.request(GET)
            assert "sesame" not in repr(vars(transport))
    assert server.seen[0]["Proxy-Authorization"].startswith("Basic ")


async def test_what_fails_in_aiohttp_is_not_said_to_be_sent() -> None:
    """A middleware may raise before anything is sent."""

    async def fail(request: aiohttp.ClientRequest, handler: Any) -> aiohttp.ClientResponse:
        raise ValueError("no")

    async with aiohttp.ClientSession(middlewares=(fail,)) as session, opened(session=session) as transport:
        with pytest.raises(
            OutcomeUnknownError, match="POST /api/v1/thing failed: aiohttp could not handle it"
        ) as caught:
            await transport.request(POST)
        with pytest.raises(TransportError):
            await transport.request(GET)
    assert "was sent" not in str(caught.value)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python has no eager tasks")
@pytest.mark.parametrize("owner_closes", [False, True])
async def test_eager_tasks(owner_closes: bool) -> None:
    """A task may be done when it is created: a session's middleware may raise or answer without suspending."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]

    async def fail(request: aiohttp.ClientRequest, handler: Any) -> aiohttp.ClientResponse:
        raise aiohttp.ServerDisconnectedError

    async with aiohttp.ClientSession(middlewares=(fail,)) as session, opened(session=session) as transport:
        if owner_closes:
            await session.close()
        tasks = [asyncio.create_task(transport.request(ApiRequest(method="GET", path="/x", attempts=1))) for _ in "123"]
        failures = await asyncio.gather(*tasks, return_exceptions=True)
    kind = ClientClosedError if owner_closes else TransportError
    assert [kind] * 3 == [type(failure) for failure in failures]


async def test_vcr_records_and_replays(tmp_path: Path) -> None:
    """The token is filtered out of the cassette, as vcrpy's documentation recommends."""
    recorder = vcr.VCR(filter_headers=["authorization"])
    cassette = tmp_path / "cassette.yaml"
    server = Echo()
    async with serving(server.handle) as url:
        with recorder.use_cassette(str(cassette)):
            async with opened(url) as transport:
                recorded = await transport.request(ApiRequest(method="PUT", path="/api/v1/x", body=b'{"a":1}'))
    with recorder.use_cassette(str(cassette), record_mode="none"):
        async with opened(url) as transport:
            replayed = await transport.request(ApiRequest(method="PUT", path="/api/v1/x", body=b'{"a":1}'))
    assert (recorded.body, 1) == (replayed.body, len(server.seen))
    assert TOKEN not in cassette.read_text()
