"""What an answer other than a 2xx, and what a broken exchange, is raised as."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import aiohttp
import attrs
import pytest
from aiohttp import web

from avaturn_async import errors
from avaturn_async.config import RetryPolicy, Timeouts
from avaturn_async.errors import (
    APIStatusError,
    AvaturnError,
    ConnectError,
    GoneError,
    OutcomeUnknownError,
    RequestTimeoutError,
    ResponseFormatError,
    TransportError,
    UnprocessableError,
)
from avaturn_async.http.endpoints import ApiRequest
from avaturn_async.models import ValidationError

from .._aioresponses import Responses
from .kit import ANSWER, BASE, GET, POST, TOKEN, heard, opened, reset, serving, talking

URL = BASE + GET.path
ONCE = RetryPolicy(attempts=1)
FINDINGS = [
    {"loc": ["query", "avatar_id"], "msg": "Input should be a valid UUID", "type": "uuid_parsing", "input": "x"},
    {"loc": ["body", "assets", 0], "msg": "Field required", "type": "missing"},
]


@pytest.fixture
def api() -> Iterator[Responses]:
    """Answer requests without a network."""
    with Responses() as responses:
        yield responses


async def raised(call: ApiRequest, base_url: str = BASE, **options: Any) -> AvaturnError:
    """Return what a call that is sent once raises."""
    async with opened(base_url, retry=ONCE, **options) as transport:
        with pytest.raises(AvaturnError) as caught:
            await transport.request(call)
    return caught.value


async def said(api: Responses, status: int, body: bytes | str | dict[str, Any], **headers: str) -> APIStatusError:
    """Return the error of an answer with such a body."""
    text = json.dumps(body) if isinstance(body, dict) else body
    api.get(URL, status=status, body=text, headers=headers)
    error = await raised(GET)
    assert isinstance(error, APIStatusError)
    return error


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "BadRequestError"),
        (401, "AuthenticationError"),
        (402, "PaymentRequiredError"),
        (403, "PermissionDeniedError"),
        (404, "NotFoundError"),
        (409, "ConflictError"),
        (410, "GoneError"),
        (422, "UnprocessableError"),
        (429, "RateLimitError"),
        (500, "ServerError"),
        (503, "ServerError"),
        (599, "ServerError"),
        (300, "APIStatusError"),
        (418, "APIStatusError"),
        (451, "APIStatusError"),
        (600, "APIStatusError"),
    ],
)
async def test_each_status_has_its_class(status: int, kind: str, api: Responses) -> None:
    """Users catch classes, not numbers."""
    error = await said(api, status, {"detail": "because"}, **{"X-Request-Id": "req-1"})
    assert getattr(errors, kind) is type(error)
    assert (status, "GET", GET.path) == (error.status_code, error.method, error.path)
    assert ("because", "req-1", b'{"detail": "because"}') == (error.detail, error.request_id, error.body)
    assert str(error).startswith(f"GET /api/v1/thing answered {status}: because")


async def test_no_request_id_is_none(api: Responses) -> None:
    """The header is not promised."""
    assert (await said(api, 404, {"detail": "no"})).request_id is None


async def test_findings_are_read_and_said(api: Responses) -> None:
    """A 422 names each place and what is wrong there."""
    error = await said(api, 422, {"detail": FINDINGS})
    assert isinstance(error, UnprocessableError)
    assert [("query", "avatar_id"), ("body", "assets", 0)] == [found.loc for found in error.errors]
    assert ValidationError(loc=["body", "assets", 0], msg="Field required", type="missing") == error.errors[1]
    sentence = "query.avatar_id: Input should be a valid UUID; body.assets.0: Field required"
    assert (sentence, f"GET /api/v1/thing answered 422: {sentence}") == (error.detail, str(error))


async def test_findings_of_another_shape_are_left_out(api: Responses) -> None:
    """One bad entry does not hide the good ones, nor does an empty place hide the message."""
    detail = [{"loc": "query"}, 7, {"loc": [], "msg": "empty body", "type": "x"}]
    error = await said(api, 422, {"detail": detail})
    assert isinstance(error, UnprocessableError)
    assert (1, "empty body") == (len(error.errors), error.detail)


async def test_a_422_with_a_string_has_no_findings(api: Responses) -> None:
    """FastAPI's own errors and those of an endpoint differ in shape."""
    error = await said(api, 422, {"detail": "too blurred"})
    assert isinstance(error, UnprocessableError)
    assert ([], "too blurred") == (error.errors, error.detail)


async def test_gone_names_every_asset(api: Responses) -> None:
    """The ids are found in the whole detail, also where the message is cut."""
    ids = [UUID(int=number) for number in range(1, 30)]
    error = await said(api, 410, {"detail": f"Asset(s) {', '.join(map(str, ids))} no longer available"})
    assert isinstance(error, GoneError)
    assert tuple(ids) == error.asset_ids
    assert str(error).endswith("...")


@pytest.mark.parametrize(
    ("body", "detail", "message"),
    [
        ({"detail": {"code": 7}}, '{"code": 7}', '{"code": 7}'),
        ({"detail": [1, "x"]}, '[1, "x"]', '[1, "x"]'),
        ({"detail": None}, None, '{"detail": null}'),
        ({"message": "down"}, None, '{"message": "down"}'),
        ("[1]", None, "[1]"),
        ("", None, "Internal Server Error"),
        (b"\xff\x00garbage", None, "Internal Server Error"),
        (
            "<html><head><style>p { color: red }</style><title>500</title></head>\n<body><p>Oops &amp; </p></body>",
            None,
            "500 Oops &amp;",
        ),
        (
            "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",
            None,
            "AccessDenied Request has expired",
        ),
        ({"detail": "a\nb\x1b[31m\u202ec"}, "a\nb\x1b[31m\u202ec", "a\\nb\\x1b[31m\\u202ec"),
        ({"detail": "x" * 400}, "x" * 400, "x" * 300 + "..."),
        ('{"detail": ' + "[" * 100_000, None, '{"detail": ' + "[" * 289 + "..."),
    ],
)
async def test_any_body_makes_a_message(
    body: bytes | str | dict[str, Any], detail: str | None, message: str, api: Responses
) -> None:
    """Garbage, markup and control characters leave one short printable line."""
    error = await said(api, 500, body)
    assert f"GET /api/v1/thing answered 500: {message}" == str(error)
    if len(str(body)) < 2000:
        assert detail == error.detail


async def test_a_status_without_a_name_has_a_message(api: Responses) -> None:
    """Some servers invent statuses."""
    assert "GET /api/v1/thing answered 599: no reason given" == str(await said(api, 599, ""))


async def test_a_redirect_is_not_followed(api: Responses) -> None:
    """The token must not go elsewhere; the message says where, without the query."""
    error = await said(api, 307, "", Location="https://elsewhere.example/x?sig=secret")
    assert "https://elsewhere.example/x; redirects are not followed" in str(error)
    assert "secret" not in str(error)
    assert "(to nowhere;" in str(await said(api, 304, ""))


async def test_a_token_that_is_quoted_back_is_taken_out(api: Responses) -> None:
    """Some servers quote what they refuse."""
    error = await said(api, 401, {"detail": f"bad token {TOKEN}"})
    assert "bad token ***" == error.detail
    assert TOKEN.encode() not in error.body


async def test_a_short_token_does_not_mask_the_text(api: Responses) -> None:
    """A token for tests, such as `t`, would be found everywhere."""
    api.get(URL, status=400, body='{"detail": "quite bad"}')
    assert str(await raised(GET, token="t")).endswith("quite bad")


async def test_the_path_is_told_without_its_query(api: Responses) -> None:
    """What is asked for may be private."""
    api.get(f"{URL}?user=secret", status=404)
    error = await raised(attrs.evolve(GET, query="user=secret"))
    assert "GET /api/v1/thing answered 404: Not Found" == str(error)


async def test_an_error_body_is_cut_at_64_kib() -> None:
    """What is too long is not even read."""

    async def flood(request: web.Request) -> web.Response:
        return web.Response(status=400, body=b"x" * 1_000_000)

    async with serving(flood) as url:
        error = await raised(GET, url)
    assert isinstance(error, APIStatusError)
    assert b"x" * 65_536 == error.body


async def test_a_2xx_beyond_16_mib_is_refused() -> None:
    """No answer of the contract is that long, and memory is not for the asking."""

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 1_000_000)

    async with serving(flood) as url:
        error = await raised(GET, url)
    assert ResponseFormatError is type(error)
    assert "GET /api/v1/thing answered with more than 16 MiB" == str(error)


async def test_a_long_2xx_is_read_in_full() -> None:
    """The limit is not met by what is shorter."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 1_000_000)

    async with serving(answer) as url, opened(url) as transport:
        assert b"x" * 1_000_000 == (await transport.request(GET)).body


BREAKS = {
    "closed": b"",
    "broke off": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}",
    "broke off in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{",
    "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "bad header": b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n",
    "bad gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize(("call", "kind"), [(GET, TransportError), (POST, OutcomeUnknownError)], ids=["GET", "POST"])
@pytest.mark.parametrize("answer", BREAKS.values(), ids=BREAKS)
async def test_an_answer_that_is_not_whole_is_a_broken_connection(
    answer: bytes, call: ApiRequest, kind: type[TransportError]
) -> None:
    """Whether the API did what it was asked for is unknown."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(answer)

    async with talking(talk) as url:
        error = await raised(call, url)
    assert kind is type(error)
    assert isinstance(error, TransportError)
    assert (call.method, call.path) == (error.method, error.path)


async def test_a_reset_says_so() -> None:
    """The system's reason is in the message."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        reset(writer)

    async with talking(talk) as url:
        error = await raised(POST, url)
    assert OutcomeUnknownError is type(error)
    assert "the connection broke" in str(error)


async def test_an_error_whose_body_breaks_off_keeps_its_status() -> None:
    """The status is what counts."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(b'HTTP/1.1 409 Conflict\r\nContent-Length: 100\r\n\r\n{"detail')

    async with talking(talk) as url:
        error = await raised(POST, url)
    assert isinstance(error, errors.ConflictError)
    assert b'{"detail' == error.body


@pytest.mark.parametrize(
    ("call", "kind"), [(GET, RequestTimeoutError), (POST, OutcomeUnknownError)], ids=["GET", "POST"]
)
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}"], ids=["none", "part"])
async def test_the_total_timeout_covers_the_whole_answer(
    answer: bytes, call: ApiRequest, kind: type[TransportError]
) -> None:
    """A server that hangs, before its answer or in it, is not waited for."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(answer)
        await reader.read()

    async with talking(talk) as url:
        error = await raised(call, url, timeouts=Timeouts(total=0.4))  # a busy machine connects in less
    assert kind is type(error)
    assert "no complete response was received within 0.4 s" in str(error)


async def test_a_refused_connection_was_never_sent() -> None:
    """The message names where it went and why it failed."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise AssertionError

    async with talking(talk) as url:
        pass
    error = await raised(POST, url)
    assert ConnectError is type(error)
    assert (
        f"POST /api/v1/thing was not sent: no connection to {url.removeprefix('http://')} (nothing listens there)"
        in str(error)
    )


async def test_a_server_without_tls_was_never_sent() -> None:
    """A TLS handshake that fails is a connection that was not made."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(ANSWER)

    async with talking(talk) as url:
        error = await raised(POST, url.replace("http", "https"))
    assert ConnectError is type(error)


async def test_a_handshake_that_hangs_was_never_sent() -> None:
    """`Timeouts.connect` bounds it."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with talking(talk) as url:
        error = await raised(POST, url.replace("http", "https"), timeouts=Timeouts(connect=0.05))
    assert ConnectError is type(error)
    assert "POST /api/v1/thing was not sent: no connection within 0.05 s" == str(error)


async def test_a_proxy_that_refuses_was_never_sent() -> None:
    """CONNECT is not the request."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert TOKEN.encode() not in await heard(reader)
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    async with talking(talk) as url:
        error = await raised(POST, proxy=url, ssl=ssl.create_default_context())
    assert ConnectError is type(error)
    assert str(error).endswith("was not sent: the proxy answered 407")


async def test_a_name_that_does_not_resolve_was_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS is asked again, too."""

    async def fail(*_: Any, **__: Any) -> Any:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", fail)
    monkeypatch.setattr(aiohttp.DefaultResolver, "resolve", fail)
    error = await raised(POST, "https://no-such-host.example")
    assert ConnectError is type(error)
    assert "no-such-host.example:443 (Name or service not known)" in str(error)
