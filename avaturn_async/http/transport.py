"""Send one request and bring its answer, or one of our errors.

An attempt never raises what aiohttp raised: it returns a `Response` or a `Failure`, and the error is raised where none
of aiohttp's frames, in which the request's headers are, can be on its traceback.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import attrs
from aiohttp import hdrs
from multidict import CIMultiDict
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt
from yarl import URL

from .._version import __version__
from ..config import RateLimit, RetryPolicy, Timeouts
from ..errors import RateLimitError
from ..redact import Secret
from .endpoints import ApiRequest
from .failures import DeleteTracker, Failure, answer_failure, exchange_failure
from .responses import MOST_BODY, Response, read_body
from .session import Connections
from .throttle import Throttle
from .urls import base_url_of, bearer_of, upload_url_of

if TYPE_CHECKING:
    import ssl as ssl_module
    from collections.abc import Callable

__all__ = ["Transport"]

logger = logging.getLogger(__name__)

_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*")  # RFC 3986, 2.3


@attrs.define
class _Sending:
    """A call on its way, through all of its attempts."""

    call: ApiRequest
    url: URL = attrs.field(repr=False)
    options: dict[str, Any] = attrs.field(repr=False)
    tracker: DeleteTracker | None = None
    make_form: Callable[[], aiohttp.FormData] | None = None
    throttled: bool = True


class Transport:
    """The way of one client to the API, and the rules by which it sends.

    Constructing one needs no running loop; it belongs to the loop that it first runs on.

    Args:
        token: the API token.
        base_url: where the API is; a path in it is kept.
        timeouts: limits of one attempt.
        retry: how often and when a failed request is repeated.
        rate_limit: at most so many requests to the API, evenly spaced.
        max_connections: the most requests that are under way at once.
        allow_http: allow a plain http base_url that is not loopback.
        session: a session to use, and never to close, instead of one of our own; `proxy` and `ssl` don't concern it.
        proxy: an HTTP proxy for our own session.
        ssl: how our own session verifies certificates, as in aiohttp.

    Raises:
        ConfigurationError: one of these can't work.
    """

    def __init__(
        self,
        *,
        token: str,
        base_url: str,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        rate_limit: RateLimit | None = None,
        max_connections: int = 100,
        allow_http: bool = False,
        session: aiohttp.ClientSession | None = None,
        proxy: str | URL | None = None,
        ssl: ssl_module.SSLContext | aiohttp.Fingerprint | bool | None = None,
    ) -> None:
        token = Secret(token) if isinstance(token, str) else None  # masked in this frame, should what follows raise
        self._bearer = bearer_of(token)
        url = base_url_of(base_url, allow_http=allow_http)
        self._connections = Connections(most=max_connections, borrowed=session, proxy=proxy, ssl=ssl)
        self.base_url = str(url).rstrip("/")
        self._base = URL(self.base_url, encoded=True)  # written out and read again: a default port is gone from it
        self._root = self._base.raw_path.rstrip("/")
        self._http_is_fine = allow_http or url.scheme == "http"
        self._timeouts = timeouts or Timeouts()
        self._retry = retry or RetryPolicy()
        self._throttle = Throttle(self._connections.limit, rate_limit, self._connections.rest)
        self._without_body, self._with_body, self._form = self._request_options()

    @property
    def limit(self) -> int:
        """The most requests that are under way at once."""
        return self._connections.limit

    @property
    def closed(self) -> bool:
        """Say whether `aclose` was called."""
        return self._connections.closed

    def check_loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, which is from now on the only one that this can be used from.

        Raises:
            ClientClosedError: after `aclose`.
            WrongLoopError: it was first used from another loop.
        """
        return self._connections.check_loop()

    async def aclose(self) -> None:
        """Close what was opened; a borrowed session stays open. Calling it again does nothing more.

        Whoever waits for an answer from our own session, or for the next attempt, gets a `ClientClosedError`.
        """
        await self._connections.aclose()

    async def request(self, call: ApiRequest) -> Response:
        """Send a call of the API and return its 2xx; anything else is raised.

        Raises:
            APIStatusError: the API answered, but not with a 2xx.
            TransportError: no whole answer came back.
            ResponseFormatError: a 2xx of more than 16 MiB.
            ClientClosedError, WrongLoopError: the transport can't be used, or not from here.
        """
        self._connections.check_loop()
        tracker = DeleteTracker() if call.method == "DELETE" else None
        return await self._deliver(_Sending(call, self._url(call), self._options(call, tracker), tracker))

    async def upload(
        self, url: str, make_form: Callable[[], aiohttp.FormData], *, path_label: str = "upload_url"
    ) -> Response:
        """POST a form to an absolute url that the API gave, without the token, and return its 2xx.

        The API's rate limit and hold-back don't concern it. It is sent again only where nothing was sent or on 429 and
        503, with a form made afresh; what `make_form` raises is raised here.

        Args:
            url: where to.
            make_form: makes the form, once for each attempt.
            path_label: what errors call the url, whose own path and query give access.

        Raises:
            ConfigurationError: the url is malformed, or plain http where base_url is not.
            APIStatusError, TransportError, ClientClosedError, WrongLoopError: as `request` does.
        """
        self._connections.check_loop()
        call = ApiRequest(method="POST", path=path_label, repeatable=False)
        target = upload_url_of(url, allow_http=self._http_is_fine)
        return await self._deliver(_Sending(call, target, self._form, make_form=make_form, throttled=False))

    def _request_options(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Return what goes with a call without a body, with one, and with a form, whatever a session's defaults are."""
        limits = self._timeouts
        timeout = aiohttp.ClientTimeout(total=limits.total, sock_connect=limits.connect)
        always = {"timeout": timeout, "allow_redirects": False, "raise_for_status": False}
        upload = {**always, "timeout": aiohttp.ClientTimeout(total=limits.upload, sock_connect=limits.connect)}
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        agent = f"avaturn-async/{__version__} python/{python} aiohttp/{aiohttp.__version__}"
        headers = {hdrs.ACCEPT: "application/json", hdrs.USER_AGENT: agent, hdrs.AUTHORIZATION: self._bearer}
        return (
            {**always, "headers": CIMultiDict(headers), "skip_auto_headers": (hdrs.CONTENT_TYPE,)},
            {**always, "headers": CIMultiDict({**headers, hdrs.CONTENT_TYPE: "application/json"})},
            {**upload, "headers": CIMultiDict({hdrs.USER_AGENT: agent})},
        )

    def _url(self, call: ApiRequest) -> URL:
        """Build the url from its parts: yarl would only take the whole apart again, at twice the price."""
        query = "&".join([f"{name}={_quoted(value)}" for name, value in call.query.items()]) if call.query else ""
        return URL.build(
            scheme=self._base.scheme,
            authority=self._base.raw_authority,
            path=self._root + call.path,
            query_string=query,
            encoded=True,
        )

    def _options(self, call: ApiRequest, tracker: DeleteTracker | None) -> dict[str, Any]:
        options = self._without_body if call.body is None else {**self._with_body, "data": call.body}
        return options if tracker is None else {**options, "middlewares": (*self._connections.middlewares, tracker)}

    async def _deliver(self, sending: _Sending) -> Response:
        outcome = await self._attempt(sending, 1)
        most = sending.call.attempts or self._retry.attempts
        if isinstance(outcome, Failure) and outcome.retryable and most > 1:
            outcome = await self._attempt_again(sending, outcome, most)
        if isinstance(outcome, Response):
            return outcome
        try:
            raise outcome.error
        finally:
            del outcome  # the error's traceback has this frame, and a cycle would keep both alive

    async def _attempt_again(self, sending: _Sending, first: Failure, most: int) -> Response | Failure:
        """Go on after the first attempt failed: a loop around every call would cost those that succeed."""

        async def attempt() -> Response | Failure:
            number = retrying.statistics["attempt_number"]
            return first if number == 1 else await self._attempt(sending, number)

        retrying = AsyncRetrying(
            stop=stop_after_attempt(most),
            retry=retry_if_result(lambda outcome: isinstance(outcome, Failure) and outcome.retryable),
            wait=lambda state: self._pause(_failure(state), sending, state.attempt_number),
            before_sleep=lambda state: self._tell(_failure(state), sending, state),
            sleep=self._connections.rest,
            retry_error_callback=_failure,
        )
        outcome: Response | Failure = await retrying(attempt)
        return outcome

    def _pause(self, failure: Failure, sending: _Sending, number: int) -> float:
        """Return the seconds between a failed attempt and the next."""
        if sending.throttled and isinstance(failure.error, RateLimitError):
            return 0.0  # the throttle holds it back, with all the others
        return failure.retry_after or self._backoff(number)

    def _backoff(self, number: int) -> float:
        """Return a random delay after attempt `number`: full jitter, below a bound that doubles."""
        return random.uniform(0, min(self._retry.cap, self._retry.base * 2.0 ** min(number - 1, 64)))

    def _tell(self, failure: Failure, sending: _Sending, state: RetryCallState) -> None:
        delay = max(state.upcoming_sleep, self._throttle.remaining() if sending.throttled else 0.0)
        reason = getattr(failure.error, "status_code", type(failure.error).__name__)
        number, call = state.attempt_number + 1, sending.call
        logger.debug("%s %s: attempt %d in %.3f s, after %s", call.method, call.path, number, delay, reason)

    async def _attempt(self, sending: _Sending, number: int) -> Response | Failure:
        throttle = self._throttle
        if not sending.throttled:
            await throttle.enter_unthrottled()
        elif not throttle.take():
            await throttle.enter()
        try:
            outcome = await self._exchange(sending)
        finally:
            throttle.leave()
        if isinstance(outcome, Response):
            return outcome
        if isinstance(outcome.error, RateLimitError) and sending.throttled:
            throttle.hold(min(outcome.retry_after or self._backoff(number), self._retry.retry_after_cap))
        return outcome if sending.tracker is None else sending.tracker.resolve(outcome)

    async def _exchange(self, sending: _Sending) -> Response | Failure:
        """Send once, and make of it an answer that is a 2xx, or a failure."""
        if closed := self._connections.reason_closed():
            return Failure(closed)
        options = sending.options if sending.make_form is None else {**sending.options, "data": sending.make_form()}
        try:
            response = await self._connections.session().request(sending.call.method, sending.url, **options)
            answer = Response(response.status, await read_body(response), response.headers)
        except asyncio.CancelledError:
            closed = self._connections.reason_closed()
            if closed is None or _is_cancelled():
                raise
            return Failure(closed)  # aiohttp cancels what resolves a name when its session is closed
        except Exception as error:  # noqa: BLE001 - a borrowed session's middlewares and tracing may raise anything
            return self._failure_of(error, sending)
        return answer if answer.ok and len(answer.body) <= MOST_BODY else self._failure_in(answer, sending.call)

    def _failure_of(self, error: Exception, sending: _Sending) -> Failure:
        if closed := self._connections.reason_closed():
            return Failure(closed)
        call, timeout = sending.call, sending.options["timeout"]
        return exchange_failure(error, call.method, call.path, repeatable=call.repeatable, timeout=timeout)

    def _failure_in(self, answer: Response, call: ApiRequest) -> Failure:
        said, cap = answer.without(self._bearer), self._retry.retry_after_cap
        return answer_failure(said, call.method, call.path, repeatable=call.repeatable, cap=cap)


def _quoted(value: str) -> str:
    """Percent-encode a value; what needs none, as ids do, is told sooner than by `quote`."""
    return value if _UNRESERVED.fullmatch(value) else quote(value, safe="")


def _is_cancelled() -> bool:
    """Say whether somebody asked to cancel the running task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _failure(state: RetryCallState) -> Failure:
    """Return what the last attempt came to; only asked for where it is a failure."""
    assert state.outcome is not None  # noqa: S101 - tenacity asks after an attempt
    failure: Failure = state.outcome.result()
    return failure
