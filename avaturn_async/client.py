"""The client: one object for the whole API."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Protocol, Self, TypeVar

import aiohttp
from yarl import URL

from .config import PollPolicy, RateLimit, RetryPolicy, Timeouts
from .downloads.downloader import Downloader
from .errors import ConfigurationError
from .http.session import Ssl
from .http.transport import Transport
from .http.urls import is_loopback
from .observe.dispatch import Observers
from .observe.observer import Observer
from .pending.context import PendingContext
from .redact import Secret, SignedUrl
from .resources import Avatars, Exports, Renders, Sessions, Users
from .webhooks.mailbox import Mailbox, observe

__all__ = ["DEFAULT_BASE_URL", "AvaturnClient"]

MISSING = "no API token: pass AvaturnClient(token) or set AVATURN_API_TOKEN; tokens are made in the developer portal"
NOT_A_STR = "the API token must be a str, not {}"
DEFAULT_BASE_URL = "https://api.avaturn.me"

T = TypeVar("T")


class _Receiver(Protocol):
    """What a client needs of a `WebhookReceiver`."""

    @property
    def mailbox(self) -> Mailbox: ...

    @property
    def authenticated(self) -> bool: ...


class AvaturnClient:
    """An asyncio client of the Avaturn API.

    Constructing it needs no running loop; it belongs to the loop on which it is first used. Use it with
    ``async with``, or call `aclose`.

    Args:
        token: the project's API token; default: the environment variable AVATURN_API_TOKEN.
        base_url: default: the environment variable AVATURN_BASE_URL, else https://api.avaturn.me.
        webhooks: a receiver or mailbox whose events resolve pending jobs. The client does not close it.
        timeouts: limits of one HTTP attempt; a number is the total in seconds.
        retry: how often and when a failed request is sent again.
        polling: when a pending job is polled.
        wait_timeout: seconds that ``wait()`` waits if it is given no timeout; None waits for ever.
        max_connections: requests to the API sent at once; also uploads, and downloads.
        rate_limit: at most this many requests to the API, evenly spaced.
        confirm_webhooks: False takes the url of an authenticated event without a confirming poll.
        allow_http: allow a plain http base_url that is not loopback; the token then travels in the clear.
        allow_private_hosts: allow downloads from addresses that are not public.
        headers: additional headers for requests to base_url, for a gateway in front of the API; never sent to upload
            or download urls.
        session: an aiohttp session to send API requests with; it is borrowed and never closed.
        proxy: url of an HTTP proxy for our own sessions: those for uploads and downloads and, unless `session` is
            given, for the API.
        ssl: an ``ssl.SSLContext`` for the same sessions.
        observers: told what the client does, and the outages of its mailbox.

    Raises:
        ConfigurationError: a setting is invalid: no token, for example, or a base_url that would send it in the clear.
    """

    def __init__(
        self,
        token: str | None = None,
        *,
        base_url: str | None = None,
        webhooks: _Receiver | Mailbox | None = None,
        timeouts: Timeouts | float = Timeouts(),
        retry: RetryPolicy = RetryPolicy(),
        polling: PollPolicy = PollPolicy(),
        wait_timeout: float | None = 900,
        max_connections: int = 100,
        rate_limit: RateLimit | None = None,
        confirm_webhooks: bool = True,
        allow_http: bool = False,
        allow_private_hosts: bool = False,
        headers: Mapping[str, str] | None = None,
        session: aiohttp.ClientSession | None = None,
        proxy: str | URL | None = None,
        ssl: Ssl | None = None,
        observers: Iterable[Observer] = (),
    ) -> None:
        # Everything that may hold a secret is masked first: whatever raises below shows this frame's locals.
        given, secret = type(token).__name__, _mask(os.environ.get("AVATURN_API_TOKEN") if token is None else token)
        gateway_headers, proxy_url = _mask_values(headers), None if proxy is None else SignedUrl(proxy)
        url = SignedUrl(base_url or os.environ.get("AVATURN_BASE_URL") or DEFAULT_BASE_URL)
        del token, headers, proxy, base_url
        if not secret:
            raise ConfigurationError(MISSING if given in ("str", "NoneType") else NOT_A_STR.format(given))
        limits, told = _timeouts_of(timeouts), Observers(observers)
        self._transport = Transport(
            token=secret,
            base_url=url,
            timeouts=limits,
            retry=_checked(retry, RetryPolicy, "retry"),
            rate_limit=None if rate_limit is None else _checked(rate_limit, RateLimit, "rate_limit"),
            max_connections=max_connections,
            allow_http=allow_http,
            headers=gateway_headers,
            session=session,
            proxy=proxy_url,
            ssl=ssl,
            observers=told,
        )
        local = is_loopback(URL(self._transport.base_url))
        self._context = PendingContext(
            transport=self._transport,
            downloader=Downloader(
                self._transport.sessions,
                timeouts=limits,
                allow_private_hosts=allow_private_hosts or local,
                allow_http=allow_http or local,
                observers=told,
            ),
            policy=_checked(polling, PollPolicy, "polling"),
            mailbox=_mailbox_of(webhooks, told),
            authenticated=getattr(webhooks, "authenticated", True),
            confirm=confirm_webhooks,
            wait_timeout=wait_timeout,
            observers=told,
        )

    @property
    def users(self) -> Users:
        """Users."""
        return Users(self._transport)

    @property
    def sessions(self) -> Sessions:
        """Sessions: links that open the Avaturn UI for a user."""
        return Sessions(self._context)

    @property
    def avatars(self) -> Avatars:
        """Avatars."""
        return Avatars(self._context)

    @property
    def renders(self) -> Renders:
        """Renders: images of avatars."""
        return Renders(self._context)

    @property
    def exports(self) -> Exports:
        """Exports: avatars as GLB models."""
        return Exports(self._context)

    @property
    def base_url(self) -> str:
        """The url of the API, without a trailing slash."""
        return self._transport.base_url

    def with_options(
        self,
        *,
        timeouts: Timeouts | float | None = None,
        retry: RetryPolicy | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Return a view of this client with other options.

        It shares connections, rate limit, pending state and life with this client: closing either closes both.

        Args:
            timeouts: as for the client; not for downloads.
            retry: as for the client; not for downloads.
            headers: as for the client, and added to its own.

        Raises:
            ConfigurationError: a header is invalid.
        """
        gateway_headers = _mask_values(headers)
        del headers
        view = copy.copy(self)
        view._transport = self._transport.with_options(
            timeouts=None if timeouts is None else _timeouts_of(timeouts),
            retry=None if retry is None else _checked(retry, RetryPolicy, "retry"),
            headers=gateway_headers,
        )
        view._context = copy.copy(self._context)
        view._context.transport = view._transport
        return view

    async def aclose(self) -> None:
        """Close the client: awaiters get ClientClosedError, and our own sessions are closed.

        A borrowed session, a receiver and a mailbox stay open. Closing again does nothing.
        """
        if self._transport.closed:
            return
        self._transport.check_loop()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._transport.aclose)
            stack.push_async_callback(self._context.aclose)

    async def __aenter__(self) -> Self:
        self._transport.check_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        transport: Transport | None = getattr(self, "_transport", None)  # None in a traceback out of __init__
        return f"<AvaturnClient {transport.base_url if transport else '(invalid)'}>"


def _mask(value: object) -> Secret | None:
    return Secret(value) if isinstance(value, str) else None


def _mask_values(headers: Mapping[str, str] | None) -> dict[str, Secret]:
    """Return headers with masked values; one that is not a str becomes empty, which is refused later."""
    return {name: _mask(value) or Secret() for name, value in (headers or {}).items()}


def _timeouts_of(timeouts: Timeouts | float) -> Timeouts:
    if isinstance(timeouts, int | float):
        return Timeouts(total=timeouts)
    return _checked(timeouts, Timeouts, "timeouts")


def _checked(value: T, kind: type[T], name: str) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")
    return value


def _mailbox_of(webhooks: _Receiver | Mailbox | None, observers: Observers) -> Mailbox | None:
    mailbox: Mailbox | None = getattr(webhooks, "mailbox", webhooks)  # type: ignore[arg-type]
    if mailbox is not None and not callable(getattr(mailbox, "position", None)):
        raise TypeError(f"webhooks must be a WebhookReceiver or a Mailbox, not {type(webhooks).__name__}")
    observe(mailbox, observers)
    return mailbox
