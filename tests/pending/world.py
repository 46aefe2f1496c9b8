"""A loop whose time passes at once, and an API that answers from a script."""

from __future__ import annotations

import asyncio
import json
import selectors
import time
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock
from uuid import UUID

from avaturn_async import PollPolicy
from avaturn_async.http.endpoints import ApiRequest
from avaturn_async.http.responses import Response
from avaturn_async.models import ExportReadyWebhook
from avaturn_async.pending.context import PendingContext
from avaturn_async.resources import Avatars, Exports, Renders
from avaturn_async.webhooks import MemoryMailbox

AVATAR = UUID("0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00")
RENDER = UUID("0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f01")
URL = "https://files.example/model.glb?signature=sesame"
POLICY = PollPolicy(first=1, factor=2, cap=8, jitter=0, first_with_webhooks=15)

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = time.monotonic()

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("nothing will ever happen on this loop")
            self.now += max(timeout, 0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that jumps to the next timer instead of sleeping."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

        self._countdown = 0
        self._interrupt: Callable[[], object] | None = None

    def time(self) -> float:
        return self._virtual.now

    def after_steps(self, steps: int, interrupt: Callable[[], object]) -> None:
        """Call `interrupt` between two iterations of the loop, `steps` iterations from now."""
        self._countdown, self._interrupt = steps, interrupt

    def _run_once(self) -> None:
        if self._interrupt is not None:
            if self._countdown <= 0:
                interrupt, self._interrupt = self._interrupt, None
                interrupt()
            self._countdown -= 1
        super()._run_once()  # type: ignore[misc]


def _now() -> float:
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in virtual time and check that it leaves no task."""

    async def checked() -> T:
        try:
            return await work
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, left

    clock = SimpleNamespace(monotonic=_now, time=_now)
    with (
        mock.patch("avaturn_async.pending.base.time", clock),
        mock.patch("avaturn_async.pending.timetable.time", clock),
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
    ):
        return runner.run(checked())


Say = Callable[[ApiRequest], "dict[str, Any] | list[Any] | Exception"]


class ScriptedTransport:
    """Answer each request by `say`, and remember when it came."""

    base_url = "https://api.example"

    def __init__(self, say: Say, latency: float = 0.0) -> None:
        self.say = say
        self.latency = latency
        self.requests: list[ApiRequest] = []
        self.times: list[float] = []
        self._started: float | None = None

    def check_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def request(self, call: ApiRequest) -> Response:
        now = asyncio.get_running_loop().time()
        self._started = now if self._started is None else self._started
        self.requests.append(call)
        self.times.append(round(now - self._started, 3))
        await asyncio.sleep(self.latency)
        said = self.say(call)
        if isinstance(said, Exception):
            raise said
        return Response(status=200, body=json.dumps(said).encode(), headers={})


class World:
    """A client without its sockets."""

    def __init__(
        self,
        say: Say,
        *,
        mailbox: MemoryMailbox | None = None,
        latency: float = 0.0,
        policy: PollPolicy = POLICY,
        **context: Any,
    ) -> None:
        self.transport = ScriptedTransport(say, latency)
        self.mailbox = mailbox
        self.context = PendingContext(
            transport=self.transport,  # type: ignore[arg-type]
            downloader=None,  # type: ignore[arg-type]
            policy=policy,
            mailbox=mailbox,
            **context,
        )
        self.exports = Exports(self.context)
        self.renders = Renders(self.context)
        self.avatars = Avatars(self.context)

    @property
    def times(self) -> list[float]:
        return self.transport.times

    @property
    def reads(self) -> int:
        return len(self.times) - 1


def saying(*answers: dict[str, Any] | Exception) -> Say:
    """Say these, one after the other, and the last one for ever."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


PENDING = {"status": "pending", "url": None}
READY = {"status": "ready", "url": URL}
FAILED = {"status": "failed", "url": None}


def export_event(status: str = "ready", url: str | None = URL) -> ExportReadyWebhook:
    return ExportReadyWebhook(avatar_id=AVATAR, user_id="u", status=status, export_url=url)  # type: ignore[arg-type]


async def after(seconds: float, work: Callable[[], Any]) -> None:
    """Do `work` once so many virtual seconds have passed."""
    await asyncio.sleep(seconds)
    made = work()
    if asyncio.iscoroutine(made):
        await made
