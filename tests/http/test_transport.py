"""What a request looks like, where it may go, and how the transport opens and closes."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import attrs
import pytest
from aiohttp import web

import avaturn_async
from avaturn_async.errors import (
    APIStatusError,
    ClientClosedError,
    ConfigurationError,
    WrongLoopError,
)
from avaturn_async.http.endpoints import ApiRequest
from avaturn_async.http.transport import Transport
from avaturn_async.redact import Secret, SecretUrl

from .kit import BASE, GET, POST, TOKEN, form, heard, opened, serving, talking

OF_NO_BODY = {"Content-Length", "Content-Type"}
AGENT = f"avaturn-async/{avaturn_async.__version__} python/3.{sys.version_info.minor} aiohttp/{aiohttp.__version__}"


@asynccontextmanager
async def echo(**answer: Any) -> AsyncIterator[tuple[str, list[tuple[str, str, dict[str, str], bytes]]]]:
    """Run a server that answers 200; yield its url and what it was sent: method, target, headers, body."""
    sent: list[tuple[str, str, dict[str, str], bytes]] = []

    async def note(request: web.Request) -> web.Response:
        sent.append((request.method, request.raw_path, dict(request.headers), await request.read()))
        return web.Response(**answer)

    async with serving(note) as url:
        yield url, sent


# What is sent.


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_call_without_a_body_has_just_these_headers(method: str) -> None:
    """Token, agent and what is accepted; no cookie, no content type of nothing."""
    async with echo() as (url, sent), opened(url) as transport:
        await transport.request(ApiRequest(method=method, path="/api/v1/users/new"))
    [(_, target, headers, body)] = sent
    assert (b"", "/api/v1/users/new") == (body, target)
    assert {
        "Host": url.removeprefix("http://").rstrip("/"),
        "Authorization": f"Bearer {TOKEN}",
        "Accept": "application/json",
        "User-Agent": AGENT,
        "Accept-Encoding": headers["Accept-Encoding"],
    } == {name: value for name, value in headers.items() if name not in OF_NO_BODY}


async def test_a_body_is_sent_as_json() -> None:
    """It was encoded before."""
    async with echo() as (url, sent), opened(url) as transport:
        await transport.request(ApiRequest(method="PUT", path="/api/v1/x", body=b'{"a":1}'))
    [(_, _, headers, body)] = sent
    assert (b'{"a":1}', "application/json") == (body, headers["Content-Type"])


async def test_the_path_and_the_query_arrive_as_they_were_meant() -> None:
    """A path is already encoded, a query needs no encoding; a path in base_url is kept."""
    async with echo() as (url, sent), opened(f"{url}proxy/a%20b/") as transport:
        await transport.request(ApiRequest(method="GET", path="/api/v1/users/a%2Fb%3F", query="scene=a/b_c&x=1&y="))
    path, _, query = sent[0][1].partition("?")
    assert "/proxy/a%20b/api/v1/users/a%2Fb%3F" == path
    assert [("scene", "a/b_c"), ("x", "1"), ("y", "")] == parse_qsl(query, keep_blank_values=True)


async def test_the_answer_has_status_body_and_headers() -> None:
    """Header names match in any case."""
    async with echo(status=201, body=b"{}", headers={"X-Request-Id": "7"}) as (url, _), opened(url) as transport:
        answer = await transport.request(POST)
    assert (201, b"{}", "7") == (answer.status, answer.body, answer.headers["x-request-id"])


@pytest.mark.parametrize(
    "parts",
    [
        [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", b"abc", b"def"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc", b"def"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\n", b"def\r\n0\r\n\r\n"],
    ],
)
async def test_an_answer_is_whole_however_it_arrives(parts: list[bytes]) -> None:
    """With its head, after it, or in between; and the connection serves the next call."""
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await heard(reader)
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0.01)

    async with talking(talk) as url, opened(url) as transport:
        answers = [await transport.request(GET) for _ in range(2)]
    assert [b"abcdef"] * 2 == [answer.body for answer in answers]
    assert 1 == connections


async def test_cookies_are_not_kept() -> None:
    """The API is used with a token; what a proxy in between sets is not sent back."""
    async with echo(headers={"Set-Cookie": "a=b"}) as (url, sent), opened(url) as transport:
        await transport.request(GET)
        await transport.request(GET)
    assert "Cookie" not in sent[1][2]


async def test_a_redirect_does_not_carry_the_token_elsewhere() -> None:
    """Not even on the same host."""
    async with echo(status=302, headers={"Location": "/elsewhere"}) as (url, sent), opened(url) as transport:
        with pytest.raises(APIStatusError, match="redirects are not followed"):
            await transport.request(GET)
    assert 1 == len(sent)


# Settings.


@pytest.mark.parametrize("token", ["", " ", "a b", "a\n", "a\r\nX: y", "tök", "a\x00", "\x7f"])
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    """The message does not show it."""
    with pytest.raises(ConfigurationError, match=r"^the API token") as caught:
        Transport(token=Secret(token), base_url=BASE)
    assert "tök" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://api.avaturn.me", "https://api.avaturn.me"),
        ("https://api.avaturn.me/", "https://api.avaturn.me"),
        ("HTTPS://API.Avaturn.me:8443//", "https://api.avaturn.me:8443"),
        ("https://gate.example/avaturn/", "https://gate.example/avaturn"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("http://127.9.9.9/", "http://127.9.9.9"),
        ("http://[::1]:80", "http://[::1]"),
    ],
)
def test_a_base_url_is_normalised(given: str, expected: str) -> None:
    """One spelling, without a slash at its end."""
    assert expected == Transport(token=Secret(TOKEN), base_url=given).base_url


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("", "http or https url with a host"),
        ("api.avaturn.me", "http or https url with a host"),
        ("https://", "http or https url with a host"),
        ("ftp://api.avaturn.me", "http or https url with a host"),
        ("https://api.avaturn.me:port", "http or https url with a host"),
        ("https://api.avaturn.me/a b", "http or https url with a host"),
        ("https://api.avaturn.me\n", "http or https url with a host"),
        ("https://[::1", "http or https url with a host"),
        (None, "not NoneType"),
        ("https://user:secret@api.avaturn.me", "no user or password"),
        ("https://user@api.avaturn.me", "no user or password"),
        ("https://api.avaturn.me?key=secret", "no query"),
        ("https://api.avaturn.me?", "no query"),
        ("https://api.avaturn.me#x", "no fragment"),
        ("http://api.avaturn.me", "in the clear"),
        ("http://10.0.0.1", "in the clear"),
        ("http://localhost.example", "in the clear"),
    ],
)
def test_a_base_url_that_is_no_good_is_refused(given: Any, problem: str) -> None:
    """At construction, with a sentence that shows no secret."""
    with pytest.raises(ConfigurationError, match=problem) as caught:
        Transport(token=Secret(TOKEN), base_url=given)
    assert "secret" not in str(caught.value)


async def test_plain_http_can_be_allowed() -> None:
    """In a private network, for base_url and uploads alike."""
    transport = Transport(token=Secret(TOKEN), base_url="http://avaturn:8000", allow_http=True)
    assert "http://avaturn:8000" == transport.base_url


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "9"])
def test_max_connections_is_a_whole_number(number: Any) -> None:
    """At least one."""
    with pytest.raises(ConfigurationError, match="max_connections"):
        Transport(token=Secret(TOKEN), base_url=BASE, max_connections=number)


# Lifecycle.


async def test_closing_is_idempotent_and_final() -> None:
    """A closed transport says so."""
    async with echo() as (url, _):
        transport = Transport(token=Secret(TOKEN), base_url=url)
        assert transport.closed is False
        await transport.request(GET)
        await asyncio.gather(transport.aclose(), transport.aclose())
        await transport.aclose()
        assert transport.closed is True
        for refused in (transport.request(GET), transport.upload(SecretUrl(url), form())):
            with pytest.raises(ClientClosedError, match="the client is closed"):
                await refused
        with pytest.raises(ClientClosedError):
            transport.check_loop()


async def test_closing_what_was_never_used_opens_nothing() -> None:
    """No session is made just to be closed."""
    transport = Transport(token=Secret(TOKEN), base_url=BASE)
    await transport.aclose()
    assert transport.closed


def test_making_one_needs_no_loop() -> None:
    """It belongs to the loop that it first runs on."""
    transport = Transport(token=Secret(TOKEN), base_url=BASE)

    async def use() -> asyncio.AbstractEventLoop:
        return transport.check_loop()

    loop = asyncio.new_event_loop()
    assert loop is loop.run_until_complete(use())
    assert loop is loop.run_until_complete(use())
    with pytest.raises(WrongLoopError, match="first used"):
        asyncio.run(use())
    with pytest.raises(WrongLoopError):
        asyncio.run(transport.aclose())
    with pytest.raises(RuntimeError, match="no running event loop"):
        transport.check_loop()
    loop.run_until_complete(transport.aclose())
    loop.close()


def test_a_borrowed_session_of_another_loop_is_refused() -> None:
    """A sentence instead of a future attached to a different loop."""
    loop = asyncio.new_event_loop()

    async def open_session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    session = loop.run_until_complete(open_session())

    async def use() -> None:
        async with opened(session=session) as transport:
            await transport.request(GET)

    with pytest.raises(WrongLoopError, match="borrowed session"):
        asyncio.run(use())
    loop.run_until_complete(session.close())
    loop.close()


async def test_a_borrowed_session_is_used_as_it_is_and_left_open() -> None:
    """Its settings neither change nor change what we do."""

    async def explode(response: aiohttp.ClientResponse) -> None:
        raise AssertionError

    session = aiohttp.ClientSession(
        "https://elsewhere.example/",
        headers={"X-Own": "1", "Authorization": "Basic x", "Accept": "text/html"},
        raise_for_status=explode,
        timeout=aiohttp.ClientTimeout(total=1e-9),
    )
    async with session, echo(status=404) as (url, sent), opened(url, session=session) as transport:
        with pytest.raises(APIStatusError):
            await transport.request(GET)
        await transport.aclose()
        assert not session.closed
        assert {"X-Own": "1", "Authorization": "Basic x", "Accept": "text/html"} == dict(session.headers)
        assert 1e-9 == session.timeout.total
    headers = sent[0][2]
    assert (f"Bearer {TOKEN}", "application/json", "1") == tuple(
        headers[name] for name in ("Authorization", "Accept", "X-Own")
    )


async def test_a_borrowed_session_that_its_owner_closed_is_named() -> None:
    """Before a request, and under one."""
    arrived = asyncio.Event()

    async def hang(request: web.Request) -> web.Response:
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(hang, shutdown_timeout=0) as url:
        session = aiohttp.ClientSession()
        async with opened(url, session=session) as transport:
            task = asyncio.create_task(transport.request(GET))
            await arrived.wait()
            await session.close()
            for failing in (task, transport.request(GET)):
                with pytest.raises(ClientClosedError, match="the borrowed session was closed by its owner"):
                    await failing


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_borrowed_session_with_an_auth_of_its_own_is_refused() -> None:
    """Aiohttp would refuse each request, with less of a reason."""
    async with aiohttp.ClientSession(auth=aiohttp.BasicAuth("user")) as session:
        with pytest.raises(ConfigurationError, match="auth of its own"):
            Transport(token=Secret(TOKEN), base_url=BASE, session=session)


async def test_an_error_keeps_nothing_alive() -> None:
    """The frame that raises does not refer to the error, so no cycle waits for the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        async with echo(status=404) as (url, _), opened(url) as transport:
            with pytest.raises(APIStatusError) as caught:
                await transport.request(GET)
            error = weakref.ref(caught.value)
            del caught
            assert error() is None
    finally:
        gc.enable()


SCRIPT = """
import asyncio, sys
from avaturn_async.errors import ClientClosedError
from avaturn_async.http.endpoints import ApiRequest
from avaturn_async.http.transport import Transport
from avaturn_async.redact import Secret

async def main(url, calls, path, turns):
    asyncio.get_running_loop().slow_callback_duration = 60
    transport = Transport(token=Secret("t"), base_url=url)
    tasks = [asyncio.create_task(transport.request(ApiRequest(method="GET", path=path))) for _ in range(calls)]
    if turns is None:
        await asyncio.gather(*tasks)
    for _ in range(turns or 0):
        await asyncio.sleep(0)
    await transport.aclose()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert turns is None or isinstance(outcome, ClientClosedError), repr(outcome)

asyncio.run(main(sys.argv[1], 20, "/api/v1/x", None))
for turns in range(1, 15):
    asyncio.run(main(sys.argv[1], 3, "/api/v1/hang", turns))
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_nothing_is_unclosed_at_exit(host: str) -> None:
    """In development mode, where Python tells of every socket, transport and task left behind.

    Whoever waits for an answer is told so with our error, whatever the connection is at: aiohttp cancels those for
    whom it resolves a name.
    """

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("hang"):
            await asyncio.Event().wait()
        return web.Response()

    async with serving(answer, shutdown_timeout=0) as url:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT, url.replace("127.0.0.1", host)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    assert (0, "") == (process.returncode, output.decode())


async def test_a_cancellation_stays_one_when_the_transport_is_closed() -> None:
    """Only what nobody asked for is told as a closed client."""
    arrived = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        arrived.set()
        await asyncio.Event().wait()

    async with talking(hang) as url, opened(url) as transport:
        task = asyncio.create_task(transport.request(GET))
        await arrived.wait()
        task.cancel()
        await transport.aclose()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_a_call_is_made_of_little() -> None:
    """A call is repeatable, and has no query and no body, unless it says so."""
    call = ApiRequest(method="GET", path="/api/v1/x")
    assert ("", None, True, None) == (call.query, call.body, call.repeatable, call.attempts)
    assert call == attrs.evolve(call)
