"""The emulator in a thread of its own, for tests and programs without an event loop."""

import asyncio
import threading
from collections import Counter
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from uuid import UUID

from .catalogue import Catalogue
from .middleware import RequestRecord
from .server import Emulator
from .settings import Faults, Timing, forwarded
from .webhooks import Delivery

__all__ = ["EmulatorThread"]

T = TypeVar("T")


class EmulatorThread:
    """Run an emulator that has not been started in a thread, by `with` or by `start` and `stop`.

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
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
        with asyncio.Runner() as runner:
            try:
                runner.run(self._serve(started))
            except BaseException as error:
                if started.done():
                    raise
                started.set_exception(error)

    async def _serve(self, started: "Future[None]") -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        async with self._emulator:
            started.set_result(None)
            await self._stopping.wait()

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
    """Where events are posted."""

    timing: Timing = forwarded("_emulator", "timing")
    """How long things take, of those that start from now on."""

    faults: Faults = forwarded("_emulator", "faults")
    """What goes wrong from now on."""

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """The latest hundred thousand requests, in the order in which they ended."""
        return tuple(self._emulator.requests)

    @property
    def counts(self) -> Counter[str]:
        """The number of requests of each operation, by operationId, answered or not."""
        return self._emulator.counts.copy()

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """The latest ten thousand webhooks: received, refused or lost."""
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
