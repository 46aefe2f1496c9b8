"""The receiver of webhooks: bytes in, a reply out, the event in the mailbox. It does no I/O of its own."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from logging import DEBUG
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from ..errors import TransportError, WebhookError
from ..http.tasks import is_async, is_cancelled
from ..models import AvatarReadyWebhook, ExportReadyWebhook, RenderReadyWebhook
from ..observe.dispatch import Observers, Scope, new_number, valid_traceparent
from ..observe.observer import MailboxInfo, Observer, WebhookInfo
from ..redact import MaskedBytes, Secret
from .callbacks import Callbacks
from .events import EVENT_TYPES, Event, UnknownEvent, parse_event
from .mailbox import Mailbox, MemoryMailbox, observe
from .replies import (
    ACCEPTED,
    NO_HEADERS,
    NOT_FOUND,
    TOO_LARGE,
    UNAUTHORIZED,
    UNAVAILABLE,
    UNKNOWN,
    UNREADABLE,
    Reply,
    refusal,
)
from .verification import BasicAuth, PathSecret, Unauthenticated, Verifier, mask_in_access_logs

if TYPE_CHECKING:
    from aiohttp.web import Application, RouteDef

    from .asgi import AsgiApp
    from .blocking import WsgiApp
    from .server import ReceiverServer
else:  # for typing.get_type_hints; the shells, and the framework that they import, are loaded at first use
    Application = RouteDef = AsgiApp = ReceiverServer = WsgiApp = Any

__all__ = ["WebhookReceiver"]

logger: logging.Logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[[Any], Coroutine[Any, Any, object]])
OnAvatar = TypeVar("OnAvatar", bound=Callable[[AvatarReadyWebhook], Coroutine[Any, Any, object]])
OnRender = TypeVar("OnRender", bound=Callable[[RenderReadyWebhook], Coroutine[Any, Any, object]])
OnExport = TypeVar("OnExport", bound=Callable[[ExportReadyWebhook], Coroutine[Any, Any, object]])

_CHALLENGE = refusal(401, "", WWW_Authenticate='Basic realm="webhooks", charset="UTF-8"')


class WebhookReceiver:
    """Receives Avaturn's webhooks in any web framework, or in a server of its own.

    Mount it by `setup` or `routes` (aiohttp), `asgi` (FastAPI, Starlette, Litestar), `wsgi` (Flask, Django) or
    `aws_lambda`; run `serve`; or call `handle` from anything else.

    A webhook is answered with 503 if the mailbox can't store its event, callbacks are too far behind, or the receiver
    is closing. The contract documents no retries, so an event that was refused may never come again. Exports and
    avatars are then resolved by polling. A render has no endpoint to poll: its wait ends in `WaitTimeoutError`.

    Args:
        auth: how to tell webhooks from forged ones. A str is a path secret of at least 22 url-safe characters.
        mailbox: where events are stored for awaiters; by default a `MemoryMailbox`.
        max_body: bytes above which a body is refused.
        body_timeout: seconds within which a body must arrive. Not used by `wsgi` and `aws_lambda`.
        observers: told of webhooks, and of the outages of the mailbox.

    Attributes:
        authenticated: whether the senders of accepted webhooks are verified.
        reads_headers: whether they are verified by headers.
        path: the part of the url after the prefix: with a path secret, the secret; else nothing.
    """

    def __init__(
        self,
        auth: str | Verifier,
        *,
        mailbox: Mailbox | None = None,
        max_body: int = 65_536,
        body_timeout: float = 10.0,
        observers: Iterable[Observer] = (),
    ) -> None:
        if isinstance(auth, str):
            auth = Secret(auth)
            auth = PathSecret(auth)
        verify = getattr(auth, "verify", None)
        if not callable(verify) or is_async(verify):
            kind = type(auth).__name__
            del auth, verify  # a traceback that shows locals must not show it
            raise TypeError(f"auth must be a path secret or a Verifier with a synchronous verify method, not {kind}")
        if isinstance(max_body, bool) or not isinstance(max_body, int) or max_body < 1:
            raise ValueError(f"max_body must be a positive number of bytes, not {max_body!r}")
        if not 0 < body_timeout < float("inf"):
            raise ValueError(f"body_timeout must be a positive number of seconds, not {body_timeout!r}")
        self._verifier = auth
        self.authenticated: bool = not isinstance(auth, Unauthenticated)
        self.reads_headers: bool = type(auth) not in (PathSecret, Unauthenticated)
        self.path: str = getattr(auth, "path", "")
        others = _CHALLENGE if isinstance(auth, BasicAuth) else UNAUTHORIZED
        self._refusal = NOT_FOUND if isinstance(auth, PathSecret) else others
        self.max_body = max_body
        self.body_timeout = body_timeout
        self._callbacks = Callbacks()
        self._mailbox_failing = False
        self.mailbox: Mailbox = MemoryMailbox() if mailbox is None else mailbox
        self._keeps_traces = "traceparent" in inspect.signature(self.mailbox.deliver).parameters
        self._observers = Observers(observers)
        observe(self.mailbox, self._observers)
        if isinstance(auth, PathSecret):
            mask_in_access_logs(self, auth.secrets)
        if not self.authenticated:
            logger.warning("webhooks are not authenticated: events only trigger polls, and renders can't be awaited")

    @overload
    def on(self, event: Literal["avatar.ready"] | type[AvatarReadyWebhook]) -> Callable[[OnAvatar], OnAvatar]: ...

    @overload
    def on(self, event: Literal["render.ready"] | type[RenderReadyWebhook]) -> Callable[[OnRender], OnRender]: ...

    @overload
    def on(self, event: Literal["export.ready"] | type[ExportReadyWebhook]) -> Callable[[OnExport], OnExport]: ...

    @overload
    def on(self, event: str | type[Event]) -> Callable[[F], F]: ...

    def on(self, event: Any) -> Callable[[F], F]:
        """Register an async callback for events of a name or class, whether or not somebody awaits them.

        It is called with the event after the reply was sent; what it raises is logged. Callbacks of a name that is not
        in the contract get an `UnknownEvent`. With `Unauthenticated` the event may be forged.

        Raises:
            TypeError: `event` is neither a name nor a class of events, or the callback is not an async function.
        """
        name = event if isinstance(event, str) else next((n for n, kind in EVENT_TYPES.items() if kind is event), None)
        if name is None:
            raise TypeError(
                f'on() takes the name or class of an event, as in @receiver.on("export.ready"), not {event!r}'
            )

        def register(callback: F) -> F:
            self._callbacks.add(name, callback)
            return callback

        return register

    async def handle(self, body: bytes, *, path: str = "", headers: Mapping[str, str] = NO_HEADERS) -> Reply:
        """Process one webhook; whatever comes in, a reply comes out.

        May be called from any thread and loop. If the receiver was neither entered nor mounted, callbacks end before
        this returns.

        Args:
            body: the body, as received. None is an empty one; a str, bytearray or memoryview is converted.
            path: the path of the request, or what is left of it; with a path secret its last segment counts.
            headers: the headers, with names in any case.

        Returns:
            200 accepted, 202 unknown event name, 400 not an event, 401 or 404 not authenticated, 413 too large, 503
            not processed. An event is also stored if it is answered with 503 because callbacks are behind.
        """
        traceparent, scope = _traceparent(headers), None
        if self._observers.wants(DEBUG):
            make = partial(WebhookInfo, webhook=new_number(), traceparent=traceparent)
            scope = self._observers.scope("webhook_received", "webhook_answered", make)
        work = self._handle(body, path, headers, traceparent, scope)
        del body, path, headers  # a traceback that shows locals must not show them
        if scope is None:
            return await work
        with scope:
            reply = await work
            scope.note({"status": reply.status})
            return reply

    def refuse(self, reply: Reply) -> Reply:
        """Tell observers of the reply to a request that is not processed, and return it; for the ways to mount it."""
        if self._observers.wants(DEBUG):
            info = WebhookInfo(webhook=new_number(), status=reply.status)
            self._observers.tell("webhook_received", info)
            self._observers.tell("webhook_answered", info)
        return reply

    async def _handle(
        self, body: bytes, path: str, headers: Mapping[str, str], traceparent: str | None, scope: Scope | None
    ) -> Reply:
        content = _as_bytes(body)
        if content is None:
            return UNREADABLE
        if len(content) > self.max_body:
            return TOO_LARGE
        if not self._is_authentic(content, path, headers):
            return self._refusal
        del body, path, headers  # a traceback that shows locals must not show them
        try:
            event = parse_event(content)
        except WebhookError as error:
            return refusal(400, str(error))
        if scope is not None:
            traceparent = self._observers.traceparent() or traceparent
            known = None if isinstance(event, UnknownEvent) else event
            scope.note({"event": known.event, "avatar_id": known.avatar_id} if known else {"event": "unknown"})
        if not self._callbacks.admit():
            return UNAVAILABLE
        try:
            if isinstance(event, UnknownEvent):
                name, reply = event.name, UNKNOWN
            elif await self._store(event, traceparent):
                name, reply = event.event, ACCEPTED
            else:
                return UNAVAILABLE
            started = name not in self._callbacks.by_name or await self._callbacks.start(name, event)
            return reply if started else UNAVAILABLE
        finally:
            self._callbacks.count_out(events=1)

    def _is_authentic(self, body: bytes, path: str, headers: Mapping[str, str]) -> bool:
        try:
            if self.reads_headers:
                headers = {str(name).lower(): value for name, value in (headers or NO_HEADERS).items()}
            return self._verifier.verify(body, path=path, headers=headers) is True
        except Exception as error:  # noqa: BLE001 - a verifier that raises has not verified the sender
            logger.warning("the verifier raised %s; the webhook was refused", type(error).__name__)
            return False

    async def _store(self, event: Event, traceparent: str | None) -> bool:
        """Deliver an event to the mailbox; each outage of it is logged once."""
        trace = {"traceparent": traceparent} if self._keeps_traces and traceparent else {}
        failing = self._mailbox_failing
        try:
            await self.mailbox.deliver(event, authenticated=self.authenticated, **trace)
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            problem = "CancelledError"
        except TransportError:
            return False  # logged by the mailbox, once for each outage
        except Exception as error:  # noqa: BLE001 - whatever a mailbox raises, the event was not stored
            problem = type(error).__name__
        else:
            if failing and self._mailbox_failing:  # a delivery that began before the outage does not end it
                self._mailbox_failing = False
                logger.info("the mailbox stores events again")
                self._tell_outage("mailbox_recovered")
            return True
        if not self._mailbox_failing:
            self._mailbox_failing = True
            logger.warning("the mailbox can't store events (%s); webhooks are answered with 503", problem)
            self._tell_outage("mailbox_failed", error=problem)
        return False

    def _tell_outage(self, what: str, **facts: str) -> None:
        self._observers.tell(what, MailboxInfo(mailbox=type(self.mailbox).__name__, **facts))

    # Ways to mount it.

    def routes(self, prefix: str = "/avaturn") -> list[RouteDef]:
        """Return aiohttp routes for the webhook's url; `setup` also drains callbacks when the app shuts down."""
        from .aiohttp import routes

        return routes(self, prefix)

    def setup(self, app: Application, prefix: str = "/avaturn") -> None:
        """Mount the receiver in an aiohttp app, and drain its callbacks when the app shuts down."""
        from .aiohttp import setup

        setup(self, app, prefix)

    @property
    def asgi(self) -> AsgiApp:
        """An ASGI application, to mount in Starlette, FastAPI, Litestar or any other.

        A mounted application gets no lifespan events: enter the receiver in the lifespan of your own application, so
        that its callbacks are drained.
        """
        from .asgi import AsgiApp

        return AsgiApp(self)

    @property
    def wsgi(self) -> WsgiApp:
        """A WSGI application, to mount beside Flask, Django or any other.

        Each webhook is processed on an event loop of its own, and its callbacks end before the response is sent.
        Awaiters in other processes need a `RedisMailbox` or `PostgresMailbox`.
        """
        from .blocking import WsgiApp

        return WsgiApp(self)

    def aws_lambda(self, event: Mapping[str, Any], context: object = None) -> dict[str, Any]:
        """Process a webhook that invoked an AWS Lambda function: ``handler = receiver.aws_lambda``.

        Takes events of API Gateway (payload formats 1.0 and 2.0), of function urls and of load balancers. Callbacks
        end before this returns. Awaiters elsewhere need a `RedisMailbox` or `PostgresMailbox`.

        Returns:
            The response, as API Gateway expects it.
        """
        from .blocking import respond_to_lambda

        return respond_to_lambda(self, event)

    def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        prefix: str = "/avaturn",
        public_url: str | None = None,
        max_connections: int = 1000,
        header_timeout: float = 10.0,
        shutdown_timeout: float = 5.0,
    ) -> AbstractAsyncContextManager[ReceiverServer]:
        """Serve webhooks from a socket of our own while the `async with` block runs.

        Args:
            host: the address to listen on.
            port: the port; 0 for any free one.
            prefix: the part of the path before the secret.
            public_url: scheme and host under which the internet reaches this server, for its `url`.
            max_connections: simultaneous connections; at the limit a new one replaces the slowest.
            header_timeout: seconds within which the headers of a request must arrive, on a new or an idle connection.
            shutdown_timeout: seconds that requests in flight have to end.

        Raises:
            OSError: the port is taken (on entering the block).
        """
        from .server import ReceiverServer

        return ReceiverServer(self, host, port, prefix, public_url, max_connections, header_timeout, shutdown_timeout)

    # Its life.

    def bind(self, *, reopen: bool = True) -> None:
        """Run callbacks on the current loop, unless they have one that still runs; `reopen` undoes `aclose`.

        Entering the receiver calls this, and so do the servers that it is mounted in.
        """
        self._callbacks.bind(reopen=reopen)

    async def aclose(self, drain: float = 10) -> None:
        """Answer further webhooks with 503, and wait up to `drain` seconds for events and callbacks in flight.

        Does not close the mailbox.
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
        verifier = getattr(self, "_verifier", None)  # a traceback may show a receiver whose __init__ failed
        return f"<WebhookReceiver {type(verifier).__name__}>"


def _traceparent(headers: Any) -> str | None:
    """Return the trace context that a request's header names."""
    try:
        value = headers.get("traceparent") or headers.get("Traceparent")
    except (AttributeError, TypeError):  # no mapping
        return None
    return value and valid_traceparent(value)


def _as_bytes(body: Any) -> MaskedBytes | None:
    """Return what a framework passed as the body in bytes, or None if it is not one."""
    if body is None:
        return MaskedBytes()
    try:
        content = body.encode() if isinstance(body, str) else body
        return MaskedBytes(content) if isinstance(content, (bytes, bytearray, memoryview)) else None
    except ValueError:  # lone surrogates, or a memoryview that was released
        return None
