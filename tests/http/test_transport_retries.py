"""Which failures are sent again, how often and when: every row of the retry table."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import aiohttp
import attrs
import pytest

from avaturn_async.config import RetryPolicy
from avaturn_async.errors import (
    APIStatusError,
    AvaturnError,
    ConfigurationError,
    ConnectError,
    OutcomeUnknownError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    TransportError,
)
from avaturn_async.http.endpoints import ApiRequest

from .._aioresponses import Responses
from .kit import BASE, GET, POST, Clock, opened, seed

URL = BASE + GET.path
KEY = SimpleNamespace(host="api.example", port=443, is_ssl=True, ssl=True)
INFO = SimpleNamespace(real_url="https://api.example/?secret=1", headers={})
REFUSED = ConnectionRefusedError(111, "Connection refused")

UNSENT = [
    aiohttp.ClientConnectorError(KEY, REFUSED),
    aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "Name or service not known")),
    aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "wrong version number")),
    aiohttp.ClientProxyConnectionError(KEY, REFUSED),
    aiohttp.ClientHttpProxyError(INFO, (), status=502),
    aiohttp.ConnectionTimeoutError("Connection timeout to host https://api.example/?secret=1"),
]
UNTRUSTED = [
    aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError(1, "certificate verify failed")),
    aiohttp.ServerFingerprintMismatch(b"a", b"b", "api.example", 443),
]
BROKEN = [
    aiohttp.ServerDisconnectedError(),
    aiohttp.ClientOSError(104, "Connection reset by peer"),
    aiohttp.ClientOSError(None, "Can not write request body for https://api.example/?secret=1"),
    aiohttp.ClientConnectionResetError("Cannot write to closing transport"),
    aiohttp.ClientPayloadError("Response payload is not completed"),
    aiohttp.ClientResponseError(INFO, (), status=400, message="Bad status line"),
    ConnectionResetError(104, "Connection reset by peer"),
]
LATE = [TimeoutError(), aiohttp.ServerTimeoutError(), aiohttp.SocketTimeoutError("Timeout on reading data from socket")]
ODD = [RuntimeError("odd"), ValueError("weird header"), AttributeError("x")]
BAD_URL = [aiohttp.InvalidURL("https://?secret=1"), aiohttp.NonHttpUrlClientError("ftp://x")]


def named(error: Exception) -> str:
    """Name a row of the table."""
    return type(error).__name__


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let waits take no time."""
    return Clock(monkeypatch)


@pytest.fixture
def api() -> Iterator[Responses]:
    """Answer requests without a network."""
    with Responses() as responses:
        yield responses


async def outcome(call: ApiRequest, **options: Any) -> AvaturnError | int:
    """Return the status that a call was answered, or what it raised."""
    async with opened(**options) as transport:
        try:
            return (await transport.request(call)).status
        except AvaturnError as error:
            return error


async def sent(api: Responses, call: ApiRequest, **answer: Any) -> tuple[AvaturnError | int, int]:
    """Give a call the same answer whenever it is sent; return its outcome and how often that was."""
    api.add(URL, call.method, repeat=True, **answer)
    result = await outcome(call)
    return result, sum(map(len, api.requests.values()))


@pytest.mark.parametrize("status", [408, 425, 429, 500, 501, 502, 503, 504, 599])
async def test_transient_statuses_are_sent_again(status: int, api: Responses, clock: Clock) -> None:
    """What may pass is tried three times, if it is safe to repeat."""
    error, times = await sent(api, GET, status=status)
    assert isinstance(error, APIStatusError)
    assert (status, 3) == (error.status_code, times)


@pytest.mark.parametrize("status", [300, 301, 307, 400, 401, 402, 403, 404, 405, 409, 410, 418, 422, 451, 600])
@pytest.mark.parametrize("call", [GET, POST], ids=["repeatable", "not"])
async def test_other_statuses_are_final(status: int, call: ApiRequest, api: Responses, clock: Clock) -> None:
    """What will not pass is tried once."""
    error, times = await sent(api, call, status=status)
    assert isinstance(error, APIStatusError)
    assert (status, 1, []) == (error.status_code, times, clock.sleeps)


@pytest.mark.parametrize(
    ("status", "expected"), [(408, 1), (425, 1), (429, 3), (500, 1), (502, 1), (503, 3), (504, 1), (599, 1)]
)
async def test_a_call_that_is_not_repeatable_is_sent_again_only_when_refused(
    status: int, expected: int, api: Responses, clock: Clock
) -> None:
    """429 and 503 say that nothing was done; other statuses leave it open."""
    error, times = await sent(api, POST, status=status)
    assert isinstance(error, APIStatusError)
    assert (status, expected) == (error.status_code, times)


@pytest.mark.parametrize("call", [GET, POST], ids=["repeatable", "not"])
@pytest.mark.parametrize("raised", UNSENT, ids=named)
async def test_what_was_never_sent_is_sent_again(
    raised: Exception, call: ApiRequest, api: Responses, clock: Clock
) -> None:
    """A connection that was not made is safe to try again for every call."""
    error, times = await sent(api, call, exception=raised)
    assert (ConnectError, 3) == (type(error), times)
    assert "secret" not in str(error)


@pytest.mark.parametrize("call", [GET, POST], ids=["repeatable", "not"])
@pytest.mark.parametrize("raised", UNTRUSTED, ids=named)
async def test_a_server_that_is_not_trusted_is_final(
    raised: Exception, call: ApiRequest, api: Responses, clock: Clock
) -> None:
    """A wrong certificate does not become right within seconds."""
    error, times = await sent(api, call, exception=raised)
    assert (ConnectError, 1) == (type(error), times)


@pytest.mark.parametrize("raised", BROKEN, ids=named)
async def test_a_broken_connection_is_sent_again_if_repeatable(raised: Exception, api: Responses, clock: Clock) -> None:
    """What got lost is asked for again."""
    error, times = await sent(api, GET, exception=raised)
    assert (TransportError, 3) == (type(error), times)
    assert "secret" not in str(error)


@pytest.mark.parametrize("raised", LATE, ids=named)
async def test_a_late_answer_is_sent_again_if_repeatable(raised: Exception, api: Responses, clock: Clock) -> None:
    """A timeout is a TimeoutError, too."""
    error, times = await sent(api, GET, exception=raised)
    assert (RequestTimeoutError, 3) == (type(error), times)
    assert isinstance(error, TimeoutError)
    assert "GET /api/v1/thing failed: no complete response was received within 30 s" == str(error)


@pytest.mark.parametrize("raised", [*BROKEN, *LATE, *ODD], ids=named)
async def test_an_unknown_outcome_is_final_if_not_repeatable(raised: Exception, api: Responses, clock: Clock) -> None:
    """Sending it again could do the thing twice."""
    error, times = await sent(api, POST, exception=raised)
    assert (OutcomeUnknownError, 1) == (type(error), times)
    assert "may have been executed" in str(error)


@pytest.mark.parametrize("raised", ODD, ids=named)
async def test_whatever_else_is_raised_becomes_our_error(raised: Exception, api: Responses, clock: Clock) -> None:
    """A session's middleware may raise anything; that is no reason to try again."""
    error, times = await sent(api, GET, exception=raised)
    assert (TransportError, 1) == (type(error), times)
    assert str(error).endswith(f"aiohttp could not handle it ({type(raised).__name__})")


@pytest.mark.parametrize("raised", BAD_URL, ids=named)
async def test_a_url_that_can_not_be_asked_for_is_final(raised: Exception, api: Responses, clock: Clock) -> None:
    """It is a setting that is wrong."""
    error, times = await sent(api, POST, exception=raised)
    assert (ConfigurationError, 1) == (type(error), times)
    assert "secret" not in str(error)


async def test_success_ends_the_attempts(api: Responses, clock: Clock) -> None:
    """The first 2xx counts, whatever came before."""
    api.get(URL, status=502)
    api.get(URL, exception=aiohttp.ServerDisconnectedError())
    api.get(URL, status=201)
    assert 201 == await outcome(GET)


async def test_a_final_answer_ends_the_attempts(api: Responses, clock: Clock) -> None:
    """A 404 after a 500 is a 404."""
    api.get(URL, status=500)
    api.get(URL, status=404)
    error = await outcome(GET)
    assert 404 == getattr(error, "status_code", None)


@pytest.mark.parametrize(("call", "policy", "expected"), [(1, 3, 1), (5, 3, 5), (None, 1, 1), (None, 4, 4)])
async def test_attempts_are_the_calls_or_the_policys(
    call: int | None, policy: int, expected: int, api: Responses, clock: Clock
) -> None:
    """A call may say how often it is sent at most."""
    api.get(URL, status=500, repeat=True)
    await outcome(attrs.evolve(GET, attempts=call), retry=RetryPolicy(attempts=policy))
    assert expected == sum(map(len, api.requests.values()))


async def test_delays_have_full_jitter_below_a_doubling_bound(api: Responses, clock: Clock) -> None:
    """Each delay is drawn from 0 to base, 2 base, 4 base ... up to cap."""
    api.get(URL, status=500, repeat=True)
    draw = seed()
    await outcome(GET, retry=RetryPolicy(attempts=6, base=0.5, cap=3))
    assert [draw.uniform(0, bound) for bound in (0.5, 1, 2, 3, 3)] == clock.sleeps


def ago(seconds: float) -> str:
    """Return an HTTP date so many seconds from the answer's Date."""
    return format_datetime(datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC) - timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("said", "expected"),
    [("7", 7), (" 7 ", 7), ("2.5", 2.5), ("+3", 3), ("60", 60), (ago(-7), 7), (ago(-60), 60)],
)
@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_retry_after_is_obeyed_for_every_status(
    status: int, said: str, expected: float, api: Responses, clock: Clock
) -> None:
    """Both forms of Retry-After are waited for, a date being measured from the answer's own."""
    api.get(URL, status=status, headers={"Retry-After": said, "Date": ago(0)})
    api.get(URL)
    assert 200 == await outcome(GET)
    assert [expected] == clock.waited


@pytest.mark.parametrize(
    "said",
    ["0", "-5", "", "soon", "nan", "inf", "1e3", "1_0", "\u0661", "9" * 400, ago(7), "Tue, 99 Foo 2031 07:08:09 GMT"],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_a_retry_after_that_says_nothing_leaves_the_jitter(
    status: int, said: str, api: Responses, clock: Clock
) -> None:
    """Zero, the past and garbage are as good as no header."""
    api.get(URL, status=status, headers={"Retry-After": said, "Date": ago(0)})
    api.get(URL)
    draw = seed()
    assert 200 == await outcome(GET)
    assert [pytest.approx(draw.uniform(0, 0.5))] == clock.waited


@pytest.mark.parametrize("said", ["61", "60.5", "9" * 40, ago(-61)])
@pytest.mark.parametrize(("status", "kind"), [(429, RateLimitError), (503, ServerError)])
async def test_a_retry_after_beyond_the_cap_is_raised_at_once(
    status: int, kind: type[APIStatusError], said: str, api: Responses, clock: Clock
) -> None:
    """Nobody wants to hang for an hour."""
    error, times = await sent(api, GET, status=status, headers={"Retry-After": said, "Date": ago(0)})
    assert (kind, 1, []) == (type(error), times, clock.sleeps)


async def test_the_cap_is_the_policys(api: Responses, clock: Clock) -> None:
    """`retry_after_cap` says what is too long."""
    api.get(URL, status=503, headers={"Retry-After": "100"})
    api.get(URL)
    assert 200 == await outcome(GET, retry=RetryPolicy(retry_after_cap=100))
    assert [100] == clock.sleeps


async def test_a_date_without_an_answers_date_is_measured_by_our_clock(api: Responses, clock: Clock) -> None:
    """The header Date is not required."""
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    api.get(URL, status=503, headers={"Retry-After": soon})
    api.get(URL)
    await outcome(GET)
    assert 0 < clock.sleeps[0] <= 30


async def test_a_date_without_a_zone_is_in_utc(api: Responses, clock: Clock) -> None:
    """RFC 5322 has a zone -0000 that says nothing; HTTP's dates are in UTC."""
    api.get(URL, status=503, headers={"Retry-After": ago(-7).replace("GMT", "-0000"), "Date": ago(0)})
    api.get(URL)
    await outcome(GET)
    assert [7] == clock.sleeps


@pytest.mark.parametrize(("said", "expected"), [("12", 12), ("-1", 0), ("later", None), (None, None)])
async def test_a_rate_limit_error_says_what_was_asked(said: str | None, expected: float | None, api: Responses) -> None:
    """`retry_after` is None where the answer did not say."""
    api.get(URL, status=429, headers={"Retry-After": said} if said else {})
    error = await outcome(attrs.evolve(GET, attempts=1))
    assert isinstance(error, RateLimitError)
    assert expected == error.retry_after


async def test_each_retry_is_told_at_debug(api: Responses, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Method, path, attempt, delay and reason; neither query nor token."""
    caplog.set_level(logging.DEBUG, "avaturn_async.observe")
    call = attrs.evolve(GET, query="user=secret")
    api.get(f"{URL}?user=secret", status=503, headers={"Retry-After": "7"})
    api.get(f"{URL}?user=secret", status=429, headers={"Retry-After": "2"})
    api.get(f"{URL}?user=secret", exception=aiohttp.ServerDisconnectedError())
    api.get(f"{URL}?user=secret")
    await outcome(call, retry=RetryPolicy(attempts=4, base=0))
    assert [
        "GET /api/v1/thing: attempt 2 in 7.000 s, after 503",
        "GET /api/v1/thing: attempt 3 in 2.000 s, after 429",
        "GET /api/v1/thing: attempt 4 in 0.000 s, after TransportError",
    ] == [line for line in caplog.messages if "attempt" in line and " in " in line and "after" in line]


@pytest.mark.parametrize(
    ("call", "answer", "expected"),
    [
        (GET, {"status": 500}, True),
        (GET, {"status": 408}, True),
        (GET, {"status": 429, "headers": {"Retry-After": "9999"}}, True),
        (GET, {"status": 404}, False),
        (POST, {"status": 503}, True),
        (POST, {"status": 429}, True),
        (POST, {"status": 500}, False),
        (POST, {"exception": aiohttp.ServerDisconnectedError()}, False),
        (POST, {"exception": UNSENT[0]}, True),
        (POST, {"exception": UNTRUSTED[0]}, False),
        (GET, {"exception": aiohttp.ServerDisconnectedError()}, True),
        (GET, {"exception": RuntimeError()}, False),
    ],
    ids=str,
)
async def test_an_error_says_whether_another_try_is_worth_it(
    call: ApiRequest, answer: dict[str, Any], expected: bool, api: Responses, clock: Clock
) -> None:
    """Later, and only if it is safe."""
    error, _ = await sent(api, call, **answer)
    assert isinstance(error, AvaturnError)
    assert expected is error.retryable
