"""Send requests to the API and return their responses, or raise this package's exceptions.

An attempt never raises what aiohttp raised: it returns a `Response` or a `Failure`, and the exception is raised where
none of aiohttp's frames, whose locals hold the request's headers, can be on its traceback.
"""

from __future__ import annotations

import asyncio
import copy
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import nullcontext
from functools import partial
from logging import INFO
from typing import Any, Self

import aiohttp
from yarl import URL

from .._version import __version__
from ..config import RateLimit, RetryPolicy, Timeouts
from ..errors import ClientClosedError, RateLimitError, ResponseFormatError
from ..observe.dispatch import Observers, Scope, new_number
from ..observe.observer import CallInfo
from ..redact import Secret, SecretUrl, SignedUrl, origin_of
from .delays import Throttle, backoff
from .endpoints import ApiRequest
from .responses import MAX_BODY, DeleteTracker, Failure, Response, exchange_failure, receive, response_failure
from .session import ClientSessions, Ssl
from .upload import MultipartForm, UploadBody
from .urls import check_upload_url, parse_base_url, parse_headers, parse_token, sent_to

__all__ = ["Transport"]

#: Counts the sendings of one request, including aiohttp's silent resend; new in aiohttp 3.14.4.
_UploadTracker: Any = getattr(aiohttp, "UploadTracker", None)
_PYTHON = f"python/{sys.version_info.major}.{sys.version_info.minor}"
_NO_CONTENT_TYPE = ("Content-Type",)  # aiohttp would add one to a POST without a body
_ATTEMPT = ("request_sent", "request_answered")
_USER_AGENT = f"avaturn-async/{__version__} {_PYTHON} aiohttp/{aiohttp.__version__}"

#: Headers of each request, which aiohttp also sends to a proxy.
_HEADERS = {"Accept": "application/json", "User-Agent": _USER_AGENT}


class Transport:
    """One client's connection to the API, and the rules by which it sends.

    Constructing one needs no running loop; it belongs to the loop on which it is first used.

    Args:
        token: the API token.
        base_url: url of the API; a path in it is kept.
        timeouts: limits of one attempt.
        retry: how often and when a failed request is sent again.
        rate_limit: at most this many requests to the API, evenly spaced.
        max_connections: requests to the API sent at once, and uploads sent at once.
        allow_http: allow a plain http base_url that is not loopback.
        headers: additional headers for requests to the API.
        session: an aiohttp session to send API requests with; it is borrowed and never closed.
        proxy: url of an HTTP proxy for our own sessions.
        ssl: how our own sessions verify certificates, as in aiohttp.
        observers: told of each call and attempt.

    Raises:
        ConfigurationError: one of these is invalid.
    """

    def __init__(
        self,
        *,
        token: Secret,
        base_url: str,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        rate_limit: RateLimit | None = None,
        max_connections: int = 100,
        allow_http: bool = False,
        headers: Mapping[str, Secret] | None = None,
        session: aiohttp.ClientSession | None = None,
        proxy: SignedUrl | None = None,
        ssl: Ssl | None = None,
        observers: Observers | None = None,
    ) -> None:
        self._token = token
        self._authorization = parse_token(token)
        url = parse_base_url(base_url, allow_http=allow_http)
        self.base_url: str = str(url).rstrip("/")
        self._host = url.host or ""
        self._allow_http = allow_http or url.scheme == "http"
        self._retry = retry or RetryPolicy()
        self._headers: dict[str, str] = {**parse_headers(headers or {}), "Authorization": self._authorization}
        self._set_timeouts(timeouts or Timeouts())
        self.sessions: ClientSessions = ClientSessions(
            max_connections=max_connections, borrowed=session, proxy=proxy, ssl=ssl
        )
        #: One for each upload, to be taken before its photos are opened.
        self.upload_slots: asyncio.Semaphore = asyncio.Semaphore(max_connections)
        self._observers = Observers() if observers is None else observers
        self._throttle = Throttle(self.sessions.limit, rate_limit, self.sessions.sleep)

    def with_options(
        self,
        *,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        headers: Mapping[str, Secret] | None = None,
    ) -> Self:
        """Return a view with other options, and more headers, that shares the sessions and the throttle."""
        view = copy.copy(self)
        view._retry = retry or self._retry
        view._headers = self._headers | parse_headers(headers or {})
        view._set_timeouts(timeouts or self._timeouts)
        return view

    def _set_timeouts(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._call_timeout = aiohttp.ClientTimeout(total=timeouts.total, sock_connect=timeouts.connect)

    @property
    def limit(self) -> int:
        """The most requests to the API that are sent at once."""
        return self.sessions.limit

    @property
    def closed(self) -> bool:
        """Whether `aclose` was called."""
        return self.sessions.closed

    def check_loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop; the first one is the only one on which the transport can be used.

        Raises:
            ClientClosedError: after `aclose`.
            WrongLoopError: on another loop than the first one.
        """
        return self.sessions.check_loop()

    async def aclose(self) -> None:
        """Close our own sessions; a borrowed one stays open. Calling it again does nothing.

        Calls in progress on our own sessions, or between two attempts, raise `ClientClosedError`.
        """
        await self.sessions.aclose()

    async def request(self, request: ApiRequest) -> Response:
        """Send a request to the API and return its response, which is a 2xx.

        Raises:
            APIStatusError: the API answered with another status.
            TransportError: no complete response was received.
            ResponseFormatError: a 2xx of more than 16 MiB.
            ClientClosedError, WrongLoopError: the transport can't be used, or not on this loop.
        """
        tracker = DeleteTracker() if request.method == "DELETE" else None
        return await self._send(request, partial(self._attempt, request, tracker), self._throttle)

    async def upload(
        self, url: SecretUrl, form: MultipartForm, *, on_progress: Callable[[int, int], object] | None = None
    ) -> Response:
        """POST a form to an absolute url that the API gave, without the token, and return its 2xx.

        It is sent again only if the form was not sent in full, or on 429 and 503. The API's rate limit and hold-back do
        not apply. Errors call the url ``upload_url``: its path gives access too.

        Args:
            url: the upload url.
            form: the form, read anew for each attempt.
            on_progress: called with the bytes sent so far and the size of the form. What it raises ends the upload.

        Raises:
            ConfigurationError: the url is malformed, or plain http while base_url is not.
            ResponseFormatError: a 2xx of more than 16 MiB, or before the form was sent in full.
            APIStatusError, TransportError, ClientClosedError, WrongLoopError: as for `request`.
        """
        check_upload_url(url, allow_http=self._allow_http)
        request = ApiRequest(method="POST", path="upload_url", repeatable=False)
        attempt = partial(self._attempt_upload, url, form, request, on_progress)
        try:
            return await self._send(request, attempt, shown_url=origin_of(url))
        finally:
            del form, attempt  # a kept exception must not keep the photos alive

    def _send(
        self,
        request: ApiRequest,
        attempt: Callable[[], Awaitable[Response | Failure]],
        throttle: Throttle | None = None,
        shown_url: str | None = None,
    ) -> Coroutine[Any, Any, Response]:
        """Return `_make_attempts`, of which observers are told if there are any.

        Observers are shown `shown_url`; by default, the url of the call.
        """
        self.sessions.check_loop()
        if self._observers.wants(INFO):
            return self._send_observed(request, attempt, throttle, shown_url)
        return self._make_attempts(request, attempt, throttle)

    async def _send_observed(
        self,
        request: ApiRequest,
        attempt: Callable[[], Awaitable[Response | Failure]],
        throttle: Throttle | None,
        shown_url: str | None,
    ) -> Response:
        url, path = shown_url or self.base_url + request.path, request.template or request.path
        make = partial(CallInfo, call=new_number(), method=request.method, path=path, url=url)
        with self._observers.scope("call_started", "call_ended", make) as call:
            work = self._make_attempts(request, attempt, throttle, call)
            del attempt  # a kept exception must not keep photos alive
            return await work

    async def _make_attempts(
        self,
        request: ApiRequest,
        attempt: Callable[[], Awaitable[Response | Failure]],
        throttle: Throttle | None,
        call: Scope | None = None,
    ) -> Response:
        """Make attempts until one succeeds, a further one is unsafe or useless, or they are used up."""
        policy, number = self._retry, 0
        while True:
            number += 1
            async with throttle or nullcontext():
                outcome = await (_observed(attempt, call, number) if call else attempt())
            if isinstance(outcome, Response):
                return outcome
            last = number >= (request.attempts or policy.attempts) or not outcome.retryable
            limited = throttle is not None and isinstance(outcome.error, RateLimitError)
            if last and not limited:
                break
            delay = outcome.retry_after or backoff(number, base=policy.base, cap=policy.cap)
            if throttle is not None and limited:
                held = min(delay, policy.retry_after_cap)
                throttle.hold(held)  # for this request and every other one
                if call:
                    call.tell("request_held_back", attempt=number, **_facts(outcome), seconds=held)
            if last:
                break
            if call:
                call.tell("request_retried", **_facts(outcome), attempt=number + 1, seconds=delay)
            if not limited:
                await self.sessions.sleep(delay)
        try:
            raise outcome.error
        finally:
            del outcome, attempt  # the error's traceback refers to this frame: a cycle, and a reference to photos

    async def _attempt(self, request: ApiRequest, tracker: DeleteTracker | None) -> Response | Failure:
        """Send a request to the API once."""
        sessions, headers, resends = self.sessions, self._headers, None
        options: dict[str, Any] = {}
        if closed := sessions.reason_closed():
            return Failure(closed)
        if request.body is not None:
            headers = {**headers, "Content-Type": "application/json"}
        if (session := sessions.borrowed) is None:
            session = sessions.open("api", headers=_HEADERS, skip_auto_headers=_NO_CONTENT_TYPE)
            if tracker is not None:
                options["middlewares"] = (tracker,)
        else:
            headers, options["skip_auto_headers"] = _HEADERS | headers, _NO_CONTENT_TYPE
            if not session.auto_decompress:
                headers["Accept-Encoding"] = "identity"
            if await sessions.netrc_applies(self._host):
                del headers["Authorization"]
                options["middlewares"] = (self._authorize,)
            if tracker is not None and _UploadTracker is not None:
                resends = options["upload_tracker"] = _UploadTracker()
        sending = session.request(
            request.method,
            URL(self.base_url + request.path, encoded=True),
            params=request.query,
            data=request.body,
            headers=headers,
            timeout=self._call_timeout,
            allow_redirects=False,
            raise_for_status=False,
            **options,
        )
        result = await sessions.attempt(receive(sending))
        outcome = self._judge(result, request, repeatable=request.repeatable, timeout=self._timeouts.total)
        if tracker is None:
            return outcome
        if resends is not None and resends.attempts > 1:
            tracker.may_have_executed = True
        return tracker.resolve(outcome)

    async def _authorize(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Replace credentials of .netrc by the token: a middleware, for aiohttp refuses a header beside them."""
        request.headers["Authorization"] = self._authorization
        return await handler(request)

    async def _attempt_upload(
        self, url: SecretUrl, form: MultipartForm, request: ApiRequest, on_progress: Callable[[int, int], object] | None
    ) -> Response | Failure:
        """Send a form once, with a limit on the time without progress."""
        if closed := self.sessions.reason_closed():
            return Failure(closed)
        loop, limit, size = asyncio.get_running_loop(), self._timeouts.upload, form.size
        deadline = asyncio.timeout(limit)  # also of what sock_connect leaves out: DNS, a proxy's response

        def note(sent: int) -> None:
            if not deadline.expired() and loop.time() + limit > (deadline.when() or 0):
                deadline.reschedule(loop.time() + 1.05 * limit)  # a new timer for each piece would slow uploads down
            if on_progress is not None:
                on_progress(sent, size)

        def end() -> None:
            body.abort()
            if not deadline.expired():
                deadline.reschedule(0)  # it may have no connection yet

        body = UploadBody(form, note)
        del form  # an error's traceback and aiohttp's cycles keep this frame; `body` is emptied
        self.sessions.ends_of_uploads.add(end)
        result: Response | Exception = RuntimeError()
        try:
            async with deadline:
                result = await self.sessions.attempt(
                    receive(
                        self.sessions.for_uploads().post(
                            URL(url, encoded=url.isascii()).origin(),
                            middlewares=(sent_to(url),),
                            data=body,
                            headers={"User-Agent": _USER_AGENT},
                            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._timeouts.connect),
                            allow_redirects=False,
                        )
                    )
                )
        except TimeoutError as error:
            result = self.sessions.reason_closed() or error
        finally:
            self.sessions.ends_of_uploads.discard(end)
            if not isinstance(result, Response):
                body.abort()
            await body.aclose()
        if body.error is not None:
            del result  # it may show the url
            raise body.error
        if isinstance(result, Response) and result.ok and not body.complete:
            # It can't be about photos that were not sent; RFC 9113, 8.1, allows only answers that don't depend on them.
            problem = f"POST upload_url answered {result.status} before the photos were sent in full"
            return Failure(ResponseFormatError(problem))
        return self._judge(result, request, repeatable=not body.complete, timeout=limit)

    def _judge(
        self, result: Response | Exception, request: ApiRequest, *, repeatable: bool, timeout: float
    ) -> Response | Failure:
        if isinstance(result, Response) and result.ok and len(result.body) <= MAX_BODY:
            return result
        if isinstance(result, ClientClosedError):
            return Failure(result)
        method, path = request.method, request.path
        if isinstance(result, Exception):
            limits = {"timeout": timeout, "connect_timeout": self._timeouts.connect}
            return exchange_failure(result, method, path, repeatable=repeatable, **limits)
        cap, token = self._retry.retry_after_cap, self._token
        return response_failure(result, method, path, repeatable=repeatable, retry_after_cap=cap, token=token)


async def _observed(
    attempt: Callable[[], Awaitable[Response | Failure]], call: Scope, number: int
) -> Response | Failure:
    """Make an attempt, and tell observers of it."""
    with call.within(*_ATTEMPT, attempt=number) as scope:
        outcome = await attempt()
        facts = _facts(outcome)
        scope.note(facts)
        call.note({**facts, "attempt": number})
        return outcome


def _facts(outcome: Response | Failure) -> dict[str, Any]:
    """Return what observers learn of an attempt."""
    if isinstance(outcome, Response):
        return {"status": outcome.status, "request_id": outcome.headers.get("X-Request-Id"), "error": None}
    error = outcome.error
    facts = {"status": getattr(error, "status_code", None), "request_id": getattr(error, "request_id", None)}
    return {**facts, "error": type(error).__name__}
