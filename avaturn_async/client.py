"""The client: one object for the whole API."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol, Self

from yarl import URL

from .config import PollPolicy, RateLimit, RetryPolicy, Timeouts
from .downloads.downloader import Downloader
from .errors import ConfigurationError
from .http.transport import Transport
from .http.urls import is_loopback
from .pending.context import PendingContext
from .redact import Secret
from .resources import Avatars, Exports, Renders, Sessions, Users

if TYPE_CHECKING:
    from types import TracebackType

    import aiohttp

    from .webhooks.mailbox import Mailbox

__all__ = ["DEFAULT_BASE_URL", "AvaturnClient"]

DEFAULT_BASE_URL = "https://api.avaturn.me"


class _Receiver(Protocol):
    """What a client asks of a `WebhookReceiver`."""

    @property
    def mailbox(self) -> Mailbox: ...

    @property
    def authenticated(self) -> bool: ...


class AvaturnClient:
    """An asyncio client of the Avaturn API.

    Constructing it needs no running loop; it belongs to the loop that it first runs on. Use it with ``async with``, or
    call `aclose`.

    Args:
        token: the project's API token; else the environment variable AVATURN_API_TOKEN.
        base_url: else the environment variable AVATURN_BASE_URL, else https://api.avaturn.me.
        webhooks: a receiver or a mailbox whose events resolve what is awaited. The client does not close it.
        timeouts: limits of one HTTP attempt.
        retry: how often and when a failed request is repeated.
        polling: when a pending job is looked at again.
        wait_timeout: seconds that ``wait()`` waits when it is given no timeout; None is for ever.
        max_connections: connections at once, to the API and again to where files are downloaded from.
        rate_limit: at most so many requests to the API, evenly spaced.
        confirm_webhooks: False takes an authenticated event's url without a confirming read.
        allow_http: allow a plain http base_url that is not loopback; the token then travels in the clear.
        allow_private_hosts: allow downloads from addresses that are not public.
        session: an aiohttp session to send API calls with; it is borrowed and never closed.
        proxy: an HTTP proxy for our own sessions.
        ssl: an ``ssl.SSLContext`` for our own sessions.

    Raises:
        ConfigurationError: there is no token, or base_url would send it in the clear.
    """

    def __init__(
        self,
        token: str | None = None,
        *,
        base_url: str | None = None,
        webhooks: _Receiver | Mailbox | None = None,
        timeouts: Timeouts = Timeouts(),
        retry: RetryPolicy = RetryPolicy(),
        polling: PollPolicy = PollPolicy(),
        wait_timeout: float | None = 900,
        max_connections: int = 100,
        rate_limit: RateLimit | None = None,
        confirm_webhooks: bool = True,
        allow_http: bool = False,
        allow_private_hosts: bool = False,
        session: aiohttp.ClientSession | None = None,
        proxy: Any = None,
        ssl: Any = None,
    ) -> None:
        token = _token(token)  # masked from here on, should what follows raise
        self._transport = Transport(
            token=token,
            base_url=base_url or os.environ.get("AVATURN_BASE_URL") or DEFAULT_BASE_URL,
            timeouts=timeouts,
            retry=retry,
            rate_limit=rate_limit,
            max_connections=max_connections,
            allow_http=allow_http,
            session=session,
            proxy=proxy,
            ssl=ssl,
        )
        local = is_loopback(URL(self._transport.base_url))
        self._downloader = Downloader(
            timeouts=timeouts,
            allow_private_hosts=allow_private_hosts or local,
            allow_http=allow_http or local,
            max_connections=max_connections,
            proxy=proxy,
            ssl=True if ssl is None else ssl,
        )
        self._context = PendingContext(
            transport=self._transport,
            downloader=self._downloader,
            policy=polling,
            mailbox=_mailbox_of(webhooks),
            authenticated=getattr(webhooks, "authenticated", True),
            confirm=confirm_webhooks,
            wait_timeout=wait_timeout,
            most_polls=max(1, self._transport.limit // 3),
        )
        self.users = Users(self._transport)
        self.sessions = Sessions(self._transport)
        self.avatars = Avatars(self._context)
        self.renders = Renders(self._context)
        self.exports = Exports(self._context)

    @property
    def base_url(self) -> str:
        """The API's url, without a trailing slash."""
        return self._transport.base_url

    async def aclose(self) -> None:
        """Close the client: awaiters get ClientClosedError, our sessions are closed, borrowed ones are not.

        A receiver or mailbox is not closed either. Closing again does nothing.
        """
        if self._transport.closed:
            return
        self._transport.check_loop()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._transport.aclose)
            stack.push_async_callback(self._downloader.aclose)
            stack.push_async_callback(self._context.aclose)

    async def __aenter__(self) -> Self:
        self._transport.check_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        transport: Transport | None = getattr(self, "_transport", None)  # None while a constructor that raises is shown
        return f"<AvaturnClient {transport.base_url if transport else 'not made'}>"


def _mailbox_of(webhooks: _Receiver | Mailbox | None) -> Mailbox | None:
    mailbox: Mailbox | None = getattr(webhooks, "mailbox", webhooks)  # type: ignore[arg-type]
    if mailbox is not None and not callable(getattr(mailbox, "position", None)):
        raise TypeError(f"webhooks must be a WebhookReceiver or a Mailbox, not {type(webhooks).__name__}")
    return mailbox


def _token(token: str | None) -> Secret:
    if token is None:
        token = os.environ.get("AVATURN_API_TOKEN")
    if not token:
        raise ConfigurationError(
            "no API token: pass AvaturnClient(token) or set AVATURN_API_TOKEN; tokens are made in the developer portal"
        )
    return Secret(token)
