"""The receiver of webhooks: bytes in, a reply out, the event in the mailbox. It does no I/O of its own."""

from __future__ import annotations

import inspect
import logging
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import attrs

from ..errors import TransportError, WebhookError
from ..redact import Secret
from .callbacks import Callback, Callbacks
from .events import Event, UnknownEvent, parse_event
from .headers import LazyHeaders
from .memory import MemoryMailbox
from .verification import BasicAuth, PathSecret, Unauthenticated, Verifier

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from aiohttp import web

    from ..models import AvatarReadyWebhook, ExportReadyWebhook, RenderReadyWebhook
    from .asgi import AsgiApp
    from .mailbox import Mailbox
    from .server import ReceiverServer

__all__ = ["Reply", "WebhookReceiver"]

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callback)
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
RETRY_AFTER = "5"
_DELIVER = MemoryMailbox.deliver


@attrs.frozen
class Reply:
    """What to answer a webhook with.

    Attributes:
        status: the HTTP status.
        body: a line of text, or nothing.
        headers: further headers.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = attrs.field(default=NO_HEADERS, hash=False)


ACCEPTED = Reply(200)
UNKNOWN = Reply(202, b"unknown event")
NOT_FOUND = Reply(404)
UNAUTHORIZED = Reply(401)
CHALLENGE = Reply(401, headers=MappingProxyType({"WWW-Authenticate": 'Basic realm="webhooks", charset="UTF-8"'}))
NOT_ALLOWED = Reply(405, headers=MappingProxyType({"Allow": "POST"}))
UNREADABLE = Reply(400, b"the body can't be read")
TOO_SLOW = Reply(408, b"the body did not come in time")
TOO_LARGE = Reply(413, b"the body is too large")
UNAVAILABLE = Reply(503, b"try again", MappingProxyType({"Retry-After": RETRY_AFTER}))


class WebhookReceiver:
    """Receives Avaturn's webhooks in whatever web framework you have, or in a server of its own.

    Args:
        auth: how webhooks are told from forged ones. A str is a path secret of at least 22 url-safe characters.
        mailbox: where events are left for those who await them; one in memory if left out.
        max_body: bytes of a body beyond which it is refused.
    """

    def __init__(self, auth: str | Verifier, *, mailbox: Mailbox | None = None, max_body: int = 65_536) -> None:
        if isinstance(auth, str):
            auth = Secret(auth)
            auth = PathSecret(auth)
        verify = getattr(auth, "verify", None)
        if not callable(verify) or inspect.iscoroutinefunction(verify):
            kind = type(auth).__name__
            del auth, verify  # a traceback that shows locals must not show it
            raise TypeError(f"auth must be a path secret or a Verifier, whose verify is no coroutine, not {kind}")
        if isinstance(max_body, bool) or not isinstance(max_body, int) or max_body < 1:
            raise ValueError(f"max_body must be a positive number of bytes, not {max_body!r}")
        self._verifier = auth
        self._verify = verify
        self._authenticated = not isinstance(auth, Unauthenticated)
        self._reads_headers = type(auth) is not PathSecret
        self._refusal = _refusal_of(auth)
        self._max_body = max_body
        self._callbacks = Callbacks()
        self.mailbox: Mailbox = MemoryMailbox() if mailbox is None else mailbox
        if not self.authenticated:
            logger.warning("webhooks are not authenticated: they are only hints, and renders can't be awaited")

    @property
    def authenticated(self) -> bool:
        """Say whether what is accepted was verified."""
        return self._authenticated

    @property
    def max_body(self) -> int:
        """Bytes of a body beyond which it is refused."""
        return self._max_body

    @property
    def reads_headers(self) -> bool:
        """Say whether headers matter; a path secret's own verifier looks at none."""
        return self._reads_headers

    @property
    def path(self) -> str:
        """What follows the prefix in the url: with a path secret, the secret; else nothing."""
        return getattr(self._verifier, "path", "")

    def on(self, event: str | type[AvatarReadyWebhook | RenderReadyWebhook | ExportReadyWebhook]) -> Callable[[F], F]:
        """Register an async callback for an event, by name or class, also for events that nobody awaits.

        It gets the event, after the reply was sent; what it raises is logged. An unknown name is fine: its callbacks
        get an `UnknownEvent`. With `Unauthenticated` the event may be forged.
        """
        name = event if isinstance(event, str) else str(attrs.fields(event).event.default)

        def register(callback: F) -> F:
            self._callbacks.add(name, callback)
            return callback

        return register

    async def handle(self, body: bytes, *, path: str = "", headers: Mapping[str, str] = NO_HEADERS) -> Reply:
        """Take in one webhook; whatever comes in, a reply comes out.

        It may be called from any thread and loop. Where the receiver was not entered and has no server, callbacks are
        awaited before this returns.

        Args:
            body: the body as it came.
            path: the path that was asked for, or what the framework left of it; with a path secret it ends in it.
            headers: the headers, with names in any case.

        Returns:
            200 accepted, 202 unknown event name, 400 not an event, 401 or 404 not authenticated, 413 too large, 503 to
            be sent again: the mailbox fails, the receiver is closing, or callbacks are behind. An event that callbacks
            are behind for is in the mailbox all the same.
        """
        if len(body) > self._max_body:
            return TOO_LARGE
        if not self._is_authentic(body, path, headers):
            return self._refusal
        del path, headers  # nothing below needs the secrets in them
        try:
            event = parse_event(body)
        except WebhookError as error:
            return Reply(400, str(error).encode("utf-8", "replace"))
        return self._take_in_at_once(event) or await self._take_in(event)

    def _take_in_at_once(self, event: Event | UnknownEvent) -> Reply | None:
        """Take in what has nothing to wait for: a known event without callbacks, for a mailbox in memory."""
        mailbox, callbacks = self.mailbox, self._callbacks
        if not isinstance(mailbox, MemoryMailbox) or callbacks.closing:
            return None
        if getattr(mailbox.deliver, "__func__", None) is not _DELIVER:  # a way of the user's own, or of a test's
            return None
        if isinstance(event, UnknownEvent) or event.event in callbacks.known:
            return None
        try:
            mailbox._put(event, self._authenticated)
        except Exception:  # noqa: BLE001 - whatever it is, `deliver` raises it again, where it is told of
            return None
        return ACCEPTED

    async def _take_in(self, event: Event | UnknownEvent) -> Reply:
        if not self._callbacks.admit():
            return UNAVAILABLE
        try:
            return await self._keep(event)
        finally:
            self._callbacks.leave()

    async def _keep(self, event: Event | UnknownEvent) -> Reply:
        if isinstance(event, UnknownEvent):
            return UNKNOWN if await self._callbacks.start(event.name, event) else UNAVAILABLE
        try:
            await self.mailbox.deliver(event, authenticated=self._authenticated)
        except Exception as error:  # noqa: BLE001 - the sender must learn that the event was not kept
            if not isinstance(error, TransportError):  # which the mailbox has logged
                logger.warning("the mailbox can't store events (%s); they are refused with 503", type(error).__name__)
            return UNAVAILABLE
        if event.event not in self._callbacks.known or await self._callbacks.start(event.event, event):
            return ACCEPTED
        return UNAVAILABLE

    def _is_authentic(self, body: bytes, path: str, headers: Mapping[str, str]) -> bool:
        try:
            if self._reads_headers and type(headers) is not LazyHeaders:
                headers = LazyHeaders(headers.items)
            return self._verify(body, path=path, headers=headers) is True
        except Exception as error:  # noqa: BLE001 - a verifier that raises does not know the sender
            logger.warning("the verifier raised %s; the webhook was refused", type(error).__name__)
            return False

    # Where it is mounted.

    def routes(self, prefix: str = "/avaturn") -> list[web.RouteDef]:
        """Return aiohttp routes for the webhook's url; `setup` also drains callbacks at the app's shutdown."""
        from .aiohttp import routes

        return routes(self, prefix)

    def setup(self, app: web.Application, prefix: str = "/avaturn") -> None:
        """Mount the receiver in an aiohttp app, and drain its callbacks at the app's shutdown."""
        from .aiohttp import setup

        setup(self, app, prefix)

    @property
    def asgi(self) -> AsgiApp:
        """An ASGI application, to be mounted in Starlette, FastAPI or any other."""
        from .asgi import AsgiApp

        return AsgiApp(self)

    def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        prefix: str = "/avaturn",
        public_url: str | None = None,
        max_connections: int = 1000,
        header_timeout: float = 10.0,
        body_timeout: float = 10.0,
        shutdown_timeout: float = 5.0,
    ) -> AbstractAsyncContextManager[ReceiverServer]:
        """Serve webhooks from a socket of our own, for as long as the `async with` block runs.

        Args:
            host: the address to listen at.
            port: the port, 0 for any that is free.
            prefix: what stands before the secret in the path.
            public_url: scheme and host under which the world reaches this server, for its `url`.
            max_connections: connections at once; a further one takes the place of the slowest.
            header_timeout: seconds in which a request's headers must be there.
            body_timeout: seconds in which its body must be there.
            shutdown_timeout: seconds that requests under way have at the end.

        Entering raises ``OSError`` where the port is taken.
        """
        from .server import ReceiverServer

        return ReceiverServer(
            self,
            host,
            port,
            prefix=prefix,
            public_url=public_url,
            max_connections=max_connections,
            header_timeout=header_timeout,
            body_timeout=body_timeout,
            shutdown_timeout=shutdown_timeout,
        )

    def bind(self) -> None:
        """Make the running loop the one that callbacks run on, and accept webhooks again after `aclose`."""
        self._callbacks.bind()
        self._callbacks.open()

    def bind_if_open(self) -> None:
        """Make the running loop the home of callbacks, where there is none yet."""
        self._callbacks.bind()

    async def aclose(self, drain: float = 10) -> None:
        """Refuse further webhooks with 503 and wait, at most `drain` seconds, for events and callbacks under way.

        The mailbox stays as it is.
        """
        await self._callbacks.drain(drain)

    async def __aenter__(self) -> Self:
        self.bind()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        verifier = getattr(self, "_verifier", None)  # a traceback may show a receiver that is not made yet
        return f"<WebhookReceiver {type(verifier).__name__}>"


def _refusal_of(verifier: Verifier) -> Reply:
    if isinstance(verifier, PathSecret):
        return NOT_FOUND
    return CHALLENGE if isinstance(verifier, BasicAuth) else UNAUTHORIZED
