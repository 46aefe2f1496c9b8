"""The token is in nothing that is raised or logged, nor in the locals that a traceback printer shows."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import attrs
import pytest

from avaturn_async.config import RetryPolicy, Timeouts
from avaturn_async.errors import AvaturnError, ConfigurationError
from avaturn_async.http.endpoints import ApiRequest
from avaturn_async.http.transport import Transport
from avaturn_async.redact import Secret, SecretUrl

from ..leaks import leaks, local_variables
from .kit import DELETE, GET, POST, TOKEN, Talk, form, heard, opened, reset, talking

PUT = ApiRequest(method="PUT", path="/api/v1/thing", body=b"x" * 300_000)
QUICK = {"retry": RetryPolicy(attempts=2, base=0, retry_after_cap=0), "timeouts": Timeouts(total=0.05)}


def check(error: BaseException) -> None:
    """Fail if the token shows, also in aiohttp's frames; our frames must be on the traceback to be looked at."""
    assert [] == leaks(error, TOKEN, everywhere=True)
    assert any("transport.py" in place for place, _ in local_variables(error.__traceback__))


async def reset_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Break the connection while the request is being sent."""
    await reader.read(1)
    reset(writer)


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read the beginning, and say nothing."""
    await reader.read(1)
    await asyncio.Event().wait()


def saying(answer: bytes) -> Talk:
    """Return a conversation that answers whatever is asked with these bytes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(answer)

    return talk


def quoting(status: str) -> Talk:
    """Return a conversation that quotes the request's head back."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await heard(reader)
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(head)}\r\n\r\n".encode() + head)

    return talk


FAILURES: dict[str, Talk] = {
    "reset": reset_at_once,
    "closed": saying(b""),
    "timeout": hang,
    "500": saying(b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}"),
    "429": saying(b"HTTP/1.1 429 Slow\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n"),
    "422": saying(b'HTTP/1.1 422 No\r\nContent-Length: 14\r\n\r\n{"detail": [}]'),
    "quoted": quoting("401 Unauthorized"),
    "not HTTP": saying(b"\x00\x01\r\n\r\n"),
    "broke off": saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"),
}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Log all that there is."""
    for name in ("", "asyncio", "aiohttp", "aiohttp.client", "avaturn_async"):
        caplog.set_level(logging.DEBUG, name)
    return caplog


@pytest.mark.parametrize("call", [GET, POST, PUT, DELETE], ids=lambda call: call.method)
@pytest.mark.parametrize("talk", FAILURES.values(), ids=FAILURES)
async def test_no_failure_shows_the_token(talk: Talk, call: ApiRequest, log: pytest.LogCaptureFixture) -> None:
    """Nor does it have a cause or context, or one of aiohttp's frames."""
    asyncio.get_running_loop().set_debug(True)
    async with talking(talk) as url, opened(url, **QUICK) as transport:
        with pytest.raises(AvaturnError) as caught:
            await transport.request(call)
    check(caught.value)
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)
    places = [place for place, _ in local_variables(caught.value.__traceback__, everywhere=True)]
    assert not [place for place in places if place.startswith(("client.py", "connector.py", "client_reqrep.py"))]
    assert TOKEN not in log.text


async def test_a_refused_connection_does_not_show_the_token(log: pytest.LogCaptureFixture) -> None:
    """It is in the frames that connect, too."""
    async with talking(hang) as url:
        pass
    async with opened(url, **QUICK) as transport:
        with pytest.raises(AvaturnError) as caught:
            await transport.request(DELETE)
    check(caught.value)
    assert TOKEN not in log.text


async def cancelled(request: Awaitable[Any], steps: int) -> BaseException:
    """Cancel a request after so many turns of the loop; return what comes out of it."""
    task = asyncio.ensure_future(request)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    return caught.value


@pytest.mark.parametrize("call", [GET, POST, PUT, DELETE], ids=lambda call: call.method)
async def test_no_cancellation_shows_the_token(call: ApiRequest, log: pytest.LogCaptureFixture) -> None:
    """A cancellation does go through aiohttp's frames, whatever they are at."""
    asyncio.get_running_loop().set_debug(True)
    arrived = asyncio.Event()

    async def arrive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        arrived.set()
        await asyncio.Event().wait()

    seen = ""
    async with talking(arrive) as url, opened(url) as transport:
        for steps in range(1, 12):
            error = await cancelled(transport.request(call), steps)
            check(error)
            seen += "".join(repr(value) for _, value in local_variables(error.__traceback__, everywhere=True))
        arrived.clear()
        waiting = asyncio.create_task(transport.request(call))
        await arrived.wait()
        check(await cancelled(waiting, 0))
    assert "'Authorization': '***'" in seen  # so the headers were there to be seen
    assert TOKEN not in log.text


@asynccontextmanager
async def odd_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session whose middleware fails with the request's headers in its hands."""

    async def fail(request: aiohttp.ClientRequest, handler: Callable[..., Any]) -> aiohttp.ClientResponse:
        headers = dict(request.headers)
        raise RuntimeError(f"can't send {headers['Authorization']}")

    async with aiohttp.ClientSession(middlewares=(fail,)) as session:
        yield session


async def test_a_middleware_that_fails_does_not_show_the_token() -> None:
    """What it says is not repeated."""
    async with odd_session() as session, opened(session=session, **QUICK) as transport:
        with pytest.raises(AvaturnError) as caught:
            await transport.request(GET)
    check(caught.value)


@pytest.mark.parametrize(
    "options", [{"base_url": "http://api.example"}, {"max_connections": 0}, {"base_url": "x"}], ids=str
)
def test_a_bad_setting_does_not_show_the_token(options: dict[str, Any]) -> None:
    """The frame of the constructor has the token as an argument."""
    settings = {"base_url": "https://api.example", **options}
    with pytest.raises(ConfigurationError) as caught:
        Transport(token=Secret(TOKEN), **settings)
    check(caught.value)


def test_a_bad_token_is_not_shown() -> None:
    """It may be right but for a line end that was copied with it."""
    with pytest.raises(ConfigurationError) as caught:
        Transport(token=Secret(TOKEN + "\n"), base_url="https://api.example")
    check(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://store.example/x?sig=sesame",
        "/photos?sig=sesame",
        "https://u:sesame@store.example/",
        "https://store.example:99999/sesame",
        "https://store.example/sesame x",
    ],
)
async def test_a_bad_upload_url_is_not_shown(url: str) -> None:
    """Its path and query give access."""
    async with opened() as transport:
        with pytest.raises(ConfigurationError) as caught:
            await transport.upload(SecretUrl(url), form())
    assert [] == leaks(caught.value, "sesame")


async def test_a_failed_upload_does_not_show_its_url() -> None:
    """Neither for a status nor for a broken connection."""
    for talk in (FAILURES["500"], FAILURES["closed"], FAILURES["429"]):
        async with talking(talk) as url, opened(url, **QUICK) as transport:
            with pytest.raises(AvaturnError) as caught:
                await transport.upload(SecretUrl(f"{url}/sesame?sig=sesame"), form())
        assert [] == leaks(caught.value, "sesame", TOKEN)


async def test_an_error_status_does_not_show_a_signed_link() -> None:
    """A body may quote one, and a redirect leads to one."""
    body = b"see https://files.example/a?sig=sesame and //x?"
    head = f"HTTP/1.1 302 Found\r\nLocation: https://files.example/?sig=sesame\r\nContent-Length: {len(body)}\r\n\r\n"
    async with talking(saying(head.encode() + body)) as url, opened(url) as transport:
        with pytest.raises(AvaturnError) as caught:
            await transport.request(GET)
    assert "https://files.example/a and" in str(caught.value)
    assert [] == leaks(caught.value, "sesame")


async def test_the_transport_itself_does_not_show_the_token() -> None:
    """Not its repr, nor what it is made of."""
    async with opened() as transport:
        assert TOKEN not in repr(transport)
        assert TOKEN not in repr(vars(transport))
        assert TOKEN not in repr(attrs.asdict(GET))


@pytest.mark.slow
@pytest.mark.skipif("AIOHTTP_NO_EXTENSIONS" in os.environ, reason="this is the other run")
async def test_the_same_holds_without_aiohttps_extensions() -> None:
    """The Python versions of its parser, writer and dictionaries have frames of their own."""
    pure = dict.fromkeys(("AIOHTTP_NO_EXTENSIONS", "MULTIDICT_NO_EXTENSIONS", "YARL_NO_EXTENSIONS"), "1")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__),
        env={**os.environ, **pure},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert process.returncode == 0, output.decode()
