"""A loop whose time passes at once, and an API that answers from a script."""

from __future__ import annotations

import asyncio
import json
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from uuid import UUID

from avaturn_async import ExportReadyWebhook, PollPolicy
from avaturn_async.http.endpoints import ApiRequest
from avaturn_async.http.responses import Response
from avaturn_async.pending.context import PendingContext
from avaturn_async.resources import Avatars, Exports, Renders, Sessions

AVATAR = UUID("0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00")
RENDER = UUID("0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f01")
URL = "https://files.example/model.glb?signature=sesame"
POLICY = PollPolicy(first=1, factor=2, cap=8, jitter=0, first_with_webhooks=15)
NEVER = PollPolicy(first=1000, cap=1000, jitter=0)
PENDING = {"status": "pending", "url": None}
READY = {"status": "ready", "url": URL}
FAILED = {"status": "failed", "url": None}

T = TypeVar("T")
Answer = dict[str, Any] | list[Any] | Exception
Script = Callable[[ApiRequest], Answer]


class _Selector(selectors.DefaultSelector):
    """Polls files without waiting; the time that the loop would sleep passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = time.monotonic()
        self.countdown = -1
        self.interrupt: Callable[[], object] = lambda: None

    def select(self, timeout: float | None = None) -> list[Any]:
        if self.countdown == 0:
            self.interrupt()
        self.countdown -= 1
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

    def time(self) -> float:
        return self._virtual.now

    def after_steps(self, steps: int, interrupt: Callable[[], object]) -> None:
        """Call `interrupt` between two iterations of the loop, `steps` iterations from now."""
        self._virtual.countdown, self._virtual.interrupt = steps, interrupt


def run(work: Coroutine[Any, Any, T], *, task_factory: Any = None) -> T:
    """Run `work` in virtual time and check that it leaves no task."""

    async def checked() -> T:
        asyncio.get_running_loop().set_task_factory(task_factory)
        try:
            return await work
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, left

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(checked())


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


class ScriptedTransport:
    """Answers each request from a script and records when it came."""

    base_url = "https://api.example"
    limit = 100

    def __init__(self, script: Script, latency: float | None = 0.0) -> None:
        self.script = script
        self.latency = latency
        self.requests: list[ApiRequest] = []
        self.times: list[float] = []
        self.upload_slots = asyncio.Semaphore(1)
        self._started: float | None = None

    def check_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def request(self, call: ApiRequest) -> Response:
        self._started = now() if self._started is None else self._started
        self.requests.append(call)
        self.times.append(round(now() - self._started, 3))
        if self.latency is not None:  # None: the response is there without a suspension
            await asyncio.sleep(self.latency)
        answer = self.script(call)
        if isinstance(answer, Exception):
            raise answer
        headers = {"X-Request-Id": f"request-{len(self.requests)}"}
        return Response(status=200, body=json.dumps(answer).encode(), headers=headers)


class World:
    """A client without its sockets."""

    def __init__(
        self,
        script: Script,
        *,
        mailbox: Any = None,
        latency: float | None = 0.0,
        policy: PollPolicy = POLICY,
        **options: Any,
    ) -> None:
        self.transport = ScriptedTransport(script, latency)
        self.mailbox = mailbox
        self.context = PendingContext(
            transport=self.transport,  # type: ignore[arg-type]
            downloader=None,  # type: ignore[arg-type]
            policy=policy,
            mailbox=mailbox,
            **options,
        )
        self.exports = Exports(self.context)
        self.renders = Renders(self.context)
        self.avatars = Avatars(self.context)
        self.sessions = Sessions(self.context)

    @property
    def times(self) -> list[float]:
        """When requests came, in seconds since the first."""
        return self.transport.times

    @property
    def polls(self) -> int:
        """How many requests came after the first."""
        return len(self.times) - 1


def saying(*answers: Answer) -> Script:
    """Return a script of these answers, one after the other, and the last one for ever."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def export_event(status: str = "ready", url: str | None = URL, avatar_id: UUID = AVATAR) -> ExportReadyWebhook:
    """Return the event of an export."""
    return ExportReadyWebhook(avatar_id=avatar_id, user_id="u", status=status, export_url=url)  # type: ignore[arg-type]


async def after(seconds: float, work: Callable[[], Any]) -> None:
    """Do `work` once so many virtual seconds have passed."""
    await asyncio.sleep(seconds)
    made = work()
    if asyncio.iscoroutine(made):
        await made
