"""The emulator on a socket, and the same in a thread of its own."""

import asyncio
import hashlib
import threading
from collections import Counter, deque
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from typing import Any, Literal, Self, TypeVar
from uuid import UUID

from aiohttp import web

from .api import Api
from .downloads import Downloads
from .jobs import Delivery, Jobs, Scheduler, WebhookSender
from .middleware import LOG, Middleware, RequestRecord
from .settings import Body, Faults, Models, Settings, Timing, forwarded
from .state import Catalogue, Links, State
from .validation import ApiError

__all__ = ["Emulator", "EmulatorThread"]

T = TypeVar("T")

GRACE = 0.25
KEEPALIVE = 75
MAX_JSON = 256 * 1024
DELIVERIES = 10_000


class Emulator:
    """A local Avaturn on a real socket, while its `async with` block runs.

    Args:
        host: The address to listen at. Requests must name it, a loopback name or `public_url` in their Host header.
        port: The port to listen at; 0 for any free one.
        token: The only valid API token; by default one derived from the seed, so that tests are repeatable.
        webhook_url: The url to which events are posted. It can be set later, as receivers often start later.
        public_url: The base of all urls in responses, if clients reach the emulator at another address.
        seed: The seed of identifiers, models, images and faults.
        timing: The durations of jobs and urls.
        faults: The faults to inject.
        catalogue: The assets and bodies that customizations may name.
        body: The type of the models: T2 has expressions, T1 has none.
        models: `full` for models that weigh what Avaturn's exports weigh, about 3 MB (T1) or 12 MB (T2); `small` for
            tests, with the same names and structure, 170 kB or 1.2 MB.
        idle_clip: Whether models have the idle animation that most exports have.
        model_size: The minimum size of models in bytes, up to 64 MiB; None for their natural size.
        model_variety: The number of different models; None for a different one for each version of each avatar.

    Entering raises `OSError` if the port is taken. An emulator can be entered again and keeps its users and avatars.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        webhook_url: str | None = None,
        public_url: str | None = None,
        seed: int = 0,
        timing: Timing | None = None,
        faults: Faults | None = None,
        catalogue: Catalogue | None = None,
        body: Body = "T2",
        models: Models = "full",
        idle_clip: bool = True,
        model_size: int | None = None,
        model_variety: int | None = None,
    ) -> None:
        self._settings = Settings(
            host=host,
            port=port,
            seed=seed,
            body=body,
            models=models,
            idle_clip=idle_clip,
            model_size=model_size,
            model_variety=model_variety,
            public_url=public_url,
            webhook_url=webhook_url,
            timing=Timing() if timing is None else timing,
            faults=Faults() if faults is None else faults,
        )
        self.token: str = token or f"emulator-{hashlib.sha256(f'token/{seed}'.encode()).hexdigest()[:32]}"
        self.catalogue: Catalogue = catalogue or Catalogue()
        self.deliveries: deque[Delivery] = deque(maxlen=DELIVERIES)
        """The latest 10,000 webhooks: received, refused or lost."""
        self.requests: deque[RequestRecord] = deque(maxlen=LOG)
        """The latest 100,000 requests, in the order in which they ended."""
        self.counts: Counter[str] = Counter()
        """The number of requests of each operation, by operationId, answered or not."""
        self._state = State(self._settings, self.catalogue)
        self._links = Links(self._settings)
        # These exist only while the emulator runs, and belong to its loop.
        self._jobs: Jobs | None = None
        self._stack = AsyncExitStack()

    def __repr__(self) -> str:
        links = getattr(self, "_links", None)  # None in a traceback out of __init__
        return f"<Emulator {(links and links.base) or 'not started'}>"

    async def __aenter__(self) -> Self:
        if self._jobs is not None:
            raise RuntimeError("this emulator is already running")
        async with AsyncExitStack() as stack:
            scheduler = Scheduler()
            webhooks = WebhookSender(self._settings, scheduler, self.deliveries)
            stack.push_async_callback(webhooks.aclose)
            stack.push_async_callback(scheduler.aclose)
            settings, state, links = self._settings, self._state, self._links
            jobs = Jobs(state, settings, links, scheduler, webhooks)
            middleware = Middleware(settings, self.token, self.requests, self.counts)
            app = web.Application(middlewares=middleware.chain(), client_max_size=MAX_JSON)
            app.add_routes(Api(state, settings, links, jobs).routes())
            app.add_routes(Downloads(state, settings, links).routes())
            runner = web.AppRunner(
                app,
                access_log=None,
                shutdown_timeout=GRACE,
                keepalive_timeout=KEEPALIVE,
                auto_decompress=False,  # the contract defines no Content-Encoding
                handler_cancellation=True,  # else a handler outlives the server after its client has left
            )
            stack.push_async_callback(runner.cleanup)
            await runner.setup()
            assert runner.server is not None  # noqa: S101 - it is set up
            loop = asyncio.get_running_loop()
            server = await loop.create_server(runner.server, settings.host, settings.port, backlog=128)
            stack.push_async_callback(_stop_accepting, server)
            links.base = (settings.public_url or _url(server.sockets[0].getsockname())).rstrip("/")
            self._jobs, self._stack = jobs, stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._jobs = None
        closing = asyncio.create_task(self._stack.aclose())
        try:
            await asyncio.shield(closing)
        finally:
            await asyncio.wait([closing])  # a cancellation would leave connections open, whose clients wait

    @property
    def url(self) -> str:
        """The base url, without a trailing slash. Raises `RuntimeError` before the start."""
        if not self._links.base:
            raise RuntimeError("the emulator has no url until it has started: use `async with`")
        return self._links.base

    webhook_url: str | None = forwarded("_settings", "webhook_url")
    """The url to which events are posted, or None."""

    timing: Timing = forwarded("_settings", "timing")
    """The durations of jobs that start after the assignment."""

    faults: Faults = forwarded("_settings", "faults")
    """The faults from the assignment on."""

    async def complete_session(self, session_id: str | UUID, *, customization: dict[str, Any] | None = None) -> UUID:
        """End a session as its user would in the editor, and return the avatar's id.

        A session that edits an avatar sets its customization. Any other creates a customized avatar, whose scan takes
        its time and sends an `avatar.ready` with the session's id. Raises `LookupError` for an unknown session and
        `ValueError` for a customization that the API would refuse.
        """
        try:
            return await self._running().complete_session(UUID(str(session_id)), customization)
        except ApiError as error:
            raise (LookupError if error.status == 404 else ValueError)(str(error)) from None

    async def send(
        self,
        event: str | Mapping[str, Any],
        *,
        avatar_id: str | UUID | None = None,
        render_id: str | UUID | None = None,
        status: Literal["ready", "failed"] = "ready",
    ) -> Delivery:
        """Post an event to `webhook_url` now, unaffected by the faults, and return its delivery.

        No state changes: an export that is pending stays pending, whatever its event says. So an event can be sent too
        early, twice, or for a job of another project.

        Args:
            event: A payload; or `avatar.ready`, `export.ready` or `render.ready` for one about the avatar's current
                version, with a working url where the avatar exists.
            avatar_id: The avatar of a named event; a random one by default.
            render_id: The render of a named `render.ready`; a random one by default.
            status: The status of a named event.

        Raises `ValueError` for a payload that violates the contract and for another name, and `RuntimeError` without a
        `webhook_url`. Payloads of events that the contract does not know are not checked.
        """
        jobs = self._running()
        delivery = await jobs.webhooks.send(jobs.event(event, _uuid(avatar_id), _uuid(render_id), status))
        if delivery is None:
            raise RuntimeError("this emulator has no webhook_url to send events to")
        return delivery

    async def settled(self) -> None:
        """Return when no job is running and every event, delayed ones included, has been sent."""
        await self._running().scheduler.idle()

    def expire_urls(self) -> None:
        """Invalidate all urls of models and images handed out so far; the API hands out new ones."""
        self._links.expire()

    def _running(self) -> Jobs:
        if self._jobs is None:
            raise RuntimeError("this emulator is not running: use `async with`")
        return self._jobs


class EmulatorThread:
    """Runs an emulator in a thread, by `with` or by `start` and `stop`; for programs without an event loop.

    All members can be used from any thread. Logs are returned as copies.
    """

    def __init__(self, emulator: Emulator | None = None) -> None:
        self._emulator = emulator or Emulator()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"<EmulatorThread {self._emulator!r}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start, and return once requests are answered. Raises `OSError` if the port is taken."""
        if self._thread is not None:
            raise RuntimeError("this emulator is already running")
        started: Future[None] = Future()
        thread = threading.Thread(target=self._main, args=(started,), name="avaturn-emulator", daemon=True)
        thread.start()
        try:
            started.result()
        except Exception:
            thread.join()
            raise
        self._thread = thread

    def _main(self, started: "Future[None]") -> None:
        async def serve() -> None:
            self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
            async with self._emulator:
                started.set_result(None)
                await self._stopping.wait()

        try:
            asyncio.run(serve())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    def stop(self) -> None:
        """Stop, and return once the thread has ended. Does nothing if it is not running."""
        thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            thread.join()

    url: str = forwarded("_emulator", "url")
    """The base url, without a trailing slash."""

    token: str = forwarded("_emulator", "token")
    """The only valid API token."""

    catalogue: Catalogue = forwarded("_emulator", "catalogue")
    """The assets and bodies that customizations may name."""

    webhook_url: str | None = forwarded("_emulator", "webhook_url")
    """The url to which events are posted, or None."""

    timing: Timing = forwarded("_emulator", "timing")
    """The durations of jobs that start after the assignment."""

    faults: Faults = forwarded("_emulator", "faults")
    """The faults from the assignment on."""

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """The latest 100,000 requests, in the order in which they ended."""
        return tuple(self._emulator.requests)

    @property
    def counts(self) -> Counter[str]:
        """The number of requests of each operation, by operationId, answered or not."""
        return self._emulator.counts.copy()

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """The latest 10,000 webhooks: received, refused or lost."""
        return tuple(self._emulator.deliveries)

    def complete_session(self, session_id: str | UUID, *, customization: dict[str, Any] | None = None) -> UUID:
        """End a session as its user would in the editor; see `Emulator.complete_session`."""
        return self._call(self._emulator.complete_session(session_id, customization=customization))

    def send(
        self,
        event: str | Mapping[str, Any],
        *,
        avatar_id: str | UUID | None = None,
        render_id: str | UUID | None = None,
        status: Literal["ready", "failed"] = "ready",
    ) -> Delivery:
        """Post an event to `webhook_url` now; see `Emulator.send`."""
        return self._call(self._emulator.send(event, avatar_id=avatar_id, render_id=render_id, status=status))

    def settled(self, timeout: float | None = None) -> None:
        """Return once no job is running and every event has been sent; raise `TimeoutError` after `timeout` seconds."""
        self._call(self._emulator.settled(), timeout)

    def expire_urls(self) -> None:
        """Invalidate all urls of models and images handed out so far."""
        self._emulator.expire_urls()

    def _call(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        if self._thread is None or self._loop is None:
            work.close()
            raise RuntimeError("this emulator is not running")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        finally:
            future.cancel()


async def _stop_accepting(server: asyncio.Server) -> None:
    """Stop listening once what was accepted is a connection.

    asyncio never closes one that it accepts in the turn of the loop in which its server closes, and its client waits.
    """
    loop = asyncio.get_running_loop()
    try:
        with suppress(NotImplementedError):  # Windows
            for listener in server.sockets:
                loop.remove_reader(listener)
        for _ in range(3):
            await asyncio.sleep(0)
    finally:
        server.close()


def _uuid(value: str | UUID | None) -> UUID | None:
    return None if value is None else UUID(str(value))


def _url(address: Any) -> str:
    host, port = address[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
