"""Spans and metrics, as an in-memory exporter gets them."""

from __future__ import annotations

import asyncio
import contextvars
import json
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from avaturn_async import (
    AvaturnClient,
    ConfigurationError,
    MemoryMailbox,
    OtelObserver,
    RedisMailbox,
    RetryPolicy,
    ServerError,
    WebhookReceiver,
)
from avaturn_async.emulator import Emulator, Faults, Timing
from avaturn_async.observe.dispatch import Observers

from ..pending.kit import FAILED, PENDING, READY, World, after, export_event, run, saying
from ..webhooks.redis.server import Server
from ..webhooks.samples import SECRET, export_body
from .kit import NEVER, QUICK, TRACEPARENT, make_avatars


class Telemetry:
    """An observer, and what it exports."""

    def __init__(self) -> None:
        self._spans, self._metrics = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, meters = TracerProvider(), MeterProvider([self._metrics])
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.observer = OtelObserver(tracer_provider=self.tracers, meter_provider=meters)

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """Return the spans that have ended, with names that begin so."""
        return [span for span in self._spans.get_finished_spans() if span.name.startswith(name)]

    def span(self, name: str) -> ReadableSpan:
        """Return the only span of a name."""
        (found,) = self.spans(name)
        return found

    def points(self, name: str) -> list[Any]:
        """Return the data points of a metric."""
        data: Any = self._metrics.get_metrics_data()
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]


@pytest.fixture
def otel() -> Telemetry:
    """Make an observer and its exporters."""
    return Telemetry()


def attributes(span: Any, *names: str) -> list[Any]:
    """Return attributes of a span, an event or a data point."""
    return [span.attributes.get(name) for name in names]


def parent_of(span: ReadableSpan) -> int | None:
    """Return the id of the span's parent."""
    return None if span.parent is None else span.parent.span_id


async def test_one_export_is_one_trace(otel: Telemetry, tmp_path: Path) -> None:
    """Calls and polls are below the user's own span and the wait; the attributes are those of the conventions."""
    async with Emulator(timing=Timing(export=0), models="small") as avaturn:
        (avatar_id,) = await make_avatars(avaturn, 1)
        with otel.tracers.get_tracer("app").start_as_current_span("request") as request:
            async with AvaturnClient(
                avaturn.token, base_url=avaturn.url, polling=QUICK, observers=[otel.observer]
            ) as client:
                export = await client.exports.create_and_wait(avatar_id)
                await export.download(tmp_path / "a.glb")
            assert trace.get_current_span() is request
    wait, download = otel.span("wait for export"), otel.span("download")
    create, poll = otel.spans("POST /api/v1/exports/new")
    assert 1 == len({span.context.trace_id for span in otel.spans()})
    root = request.get_span_context().span_id
    assert [root, root, root, wait.context.span_id] == [parent_of(span) for span in (create, wait, download, poll)]
    assert SpanKind.CLIENT == poll.kind
    assert SpanKind.INTERNAL == wait.kind == download.kind
    server, _, port = avaturn.url.removeprefix("http://").partition(":")
    assert ["POST", 200, server, int(port), f"{avaturn.url}/api/v1/exports/new", None, None] == attributes(
        poll,
        *("http.request.method", "http.response.status_code", "server.address", "server.port", "url.full"),
        *("http.request.resend_count", "error.type"),
    )
    assert [("attempt", 1)] == [(event.name, event.attributes["avaturn.attempt"]) for event in poll.events]
    assert ["export", str(avatar_id), "resolved", "poll", 1, 0] == attributes(
        wait,
        *("avaturn.kind", "avaturn.avatar_id", "avaturn.outcome", "avaturn.resolved_by"),
        *("avaturn.polls", "avaturn.webhooks"),
    )
    assert ["poll"] == [event.name for event in wait.events]
    size = (tmp_path / "a.glb").stat().st_size
    assert [str(avatar_id), size, export.url.partition("?")[0]] == attributes(
        download, "avaturn.avatar_id", "avaturn.bytes", "url.full"
    )
    assert all(span.status.status_code is StatusCode.UNSET for span in otel.spans())
    assert [size] == [point.value for point in otel.points("avaturn.downloaded")]


async def test_attempts_are_events_of_their_call(otel: Telemetry, emulator: Emulator) -> None:
    """The span has the last status, the number of resends, and an error if the call failed."""
    emulator.faults = Faults(server_errors=1)
    options: dict[str, Any] = {"retry": RetryPolicy(attempts=3, base=0), "observers": [otel.observer]}
    async with AvaturnClient(emulator.token, base_url=emulator.url, **options) as client:
        with pytest.raises(ServerError) as caught:
            await client.avatars.list("u")
    call = otel.span("GET /api/v1/users/{user_id}/avatars")
    assert ["attempt", "retry", "attempt", "retry", "attempt"] == [event.name for event in call.events]
    status = caught.value.status_code
    assert [status, str(status), 2] == attributes(
        call, "http.response.status_code", "error.type", "http.request.resend_count"
    )
    assert (StatusCode.ERROR, "ServerError") == (call.status.status_code, call.status.description)
    assert [2] == [point.value for point in otel.points("avaturn.retries")]
    (point,) = otel.points("avaturn.call.duration")
    assert ["GET", "/api/v1/users/{user_id}/avatars", str(status)] == attributes(
        point, "http.request.method", "avaturn.path", "error.type"
    )


def test_each_awaiter_has_a_span_in_its_own_context(otel: Telemetry) -> None:
    """All of them get the events and links; the polls are below the first one."""

    async def main() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING, PENDING, READY), mailbox=box, observers=Observers([otel.observer]))
        export = await world.exports.create(export_event().avatar_id)

        async def await_in(name: str) -> None:
            with otel.tracers.get_tracer("app").start_as_current_span(name) as own:
                await export.wait()
                assert trace.get_current_span() is own

        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(await_in(f"task {number}"))
            await after(1, lambda: box.deliver(export_event(), traceparent=TRACEPARENT))

    run(main())
    waits = otel.spans("wait for export")
    owners = {span.context.span_id: span.name for span in otel.spans("task")}
    assert {"task 0", "task 1", "task 2"} == {owners[parent_of(span) or 0] for span in waits}
    for wait in waits:
        assert {"poll", "webhook"} == {event.name for event in wait.events}
        (link,) = wait.links
        assert TRACEPARENT == f"00-{link.context.trace_id:032x}-{link.context.span_id:016x}-01"
    assert [3] == [point.count for point in otel.points("avaturn.wait.duration")]


@pytest.mark.parametrize(
    ("timeout", "answers", "outcome", "status"),
    [
        (None, [PENDING, FAILED], "failed", StatusCode.ERROR),
        (3, [PENDING], "timed out", StatusCode.ERROR),
        ("cancel", [PENDING], "cancelled", StatusCode.UNSET),
    ],
    ids=["failed", "timed-out", "cancelled"],
)
def test_how_a_wait_ended(otel: Telemetry, timeout: Any, answers: list[Any], outcome: str, status: StatusCode) -> None:
    """In the span and in the histogram; nothing of a wait is kept after it."""

    async def main() -> None:
        world = World(saying(*answers), observers=Observers([otel.observer]))
        export = await world.exports.create(uuid4())
        waiting = asyncio.create_task(export.wait(timeout=None if timeout == "cancel" else timeout))
        if timeout == "cancel":
            await after(1, waiting.cancel)
        await asyncio.wait([waiting])
        await export.refresh()

    run(main())
    wait = otel.span("wait for export")
    assert [outcome] == attributes(wait, "avaturn.outcome")
    assert status is wait.status.status_code
    (point,) = otel.points("avaturn.wait.duration")
    assert ["export", outcome] == attributes(point, "avaturn.kind", "avaturn.outcome")
    assert otel.points("avaturn.polls")


async def test_webhooks_are_spans_below_what_called_them(otel: Telemetry) -> None:
    """The server's span if there is one, else the one that the header names; else they begin a trace."""
    box = MemoryMailbox()
    receiver = WebhookReceiver(SECRET, mailbox=box, observers=[otel.observer])
    await receiver.handle(export_body(), path=SECRET, headers={"traceparent": TRACEPARENT})
    with otel.tracers.get_tracer("app").start_as_current_span("server"):
        await receiver.handle(export_body(), path=SECRET, headers={"traceparent": TRACEPARENT})
    await receiver.handle(export_body(), path="wrong")
    named, below, refused = otel.spans("webhook")
    assert TRACEPARENT[3:35] == f"{named.context.trace_id:032x}"
    assert otel.span("server").context.span_id == parent_of(below)
    assert parent_of(refused) is None
    assert ["export.ready", 200] == attributes(below, "avaturn.event", "http.response.status_code")
    kept = (await box.wait(f"export:{export_event().avatar_id}", "")).traceparent
    assert kept is not None
    assert kept.startswith(f"00-{below.context.trace_id:032x}-{below.context.span_id:016x}-")
    points = {point.attributes["http.response.status_code"]: point.value for point in otel.points("avaturn.webhooks")}
    assert {200: 2, 404: 1} == points


async def test_a_batch_is_a_span_above_its_waits(otel: Telemetry, emulator: Emulator, tmp_path: Path) -> None:
    """With the numbers of its items."""
    avatars = await make_avatars(emulator, 2)
    options: dict[str, Any] = {"polling": QUICK, "observers": [otel.observer]}
    async with AvaturnClient(emulator.token, base_url=emulator.url, **options) as client:
        async with client.exports.batch([*avatars, "no-uuid"], download_to=tmp_path) as batch:
            await batch.run()
    batched = otel.span("batch")
    assert [2, 1] == attributes(batched, "avaturn.done", "avaturn.failed")
    assert {batched.context.span_id} == {parent_of(span) for span in otel.spans("wait")}
    assert {batched.context.span_id} == {parent_of(span) for span in otel.spans("download")}


@pytest.mark.parametrize("sdk", [False, True], ids=["without-sdk", "with-sdk"])
@pytest.mark.parametrize("within", [False, True], ids=["alone", "within-a-trace"])
async def test_a_wait_that_ends_in_another_context(
    sdk: bool, within: bool, otel: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    """It leaves the contexts as they were, with the no-op tracer of the API, too."""
    observer = otel.observer if sdk else OtelObserver(tracer_provider=trace.NoOpTracerProvider())
    world = World(saying(PENDING), observers=Observers([observer]))
    wait = (await world.exports.create(uuid4())).wait()
    caller = (
        trace.NonRecordingSpan(trace.SpanContext(1, 2, True, trace.TraceFlags(1))) if within else trace.INVALID_SPAN
    )
    with trace.use_span(caller):
        contextvars.copy_context().run(wait.send, None)
        wait.close()
        assert caller is trace.get_current_span()
    assert not sdk or ["cancelled"] == attributes(otel.span("wait"), "avaturn.outcome")
    assert [] == [record for record in caplog.records if record.name.startswith("opentelemetry")]


def test_without_opentelemetry_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a ConfigurationError."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigurationError, match=r"avaturn-async\[otel\]"):
        OtelObserver()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    """Run a redis-server."""
    with Server(tmp_path) as running:
        yield running


@asynccontextmanager
async def other_process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run this module as a receiver in a process of its own, until its input is closed."""
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", __name__, *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def test_one_trace_through_two_processes(otel: Telemetry, redis: Server) -> None:
    """The span of the wait has a link to that of the webhook, which another process received."""
    secret = secrets.token_urlsafe(24)
    async with Emulator(timing=Timing(export=0.05), models="small") as avaturn:
        (avatar_id,) = await make_avatars(avaturn, 1)
        async with other_process(redis.url, secret) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            avaturn.webhook_url = (await process.stdout.readline()).decode().strip()
            mailbox = RedisMailbox(redis.url)
            options: dict[str, Any] = {"webhooks": mailbox, "polling": NEVER, "observers": [otel.observer]}
            with otel.tracers.get_tracer("app").start_as_current_span("request"):
                async with AvaturnClient(avaturn.token, base_url=avaturn.url, **options) as client:
                    model = await client.exports.create_and_wait(avatar_id)
            await mailbox.aclose()
            process.stdin.write_eof()
            webhooks = json.loads(await process.stdout.read())
    assert "webhook" == model.resolved_by
    wait = otel.span("wait for export")
    assert 1 == len({span.context.trace_id for span in otel.spans()})
    (webhook,) = webhooks
    (link,) = wait.links
    assert [link.context.trace_id, link.context.span_id] == webhook["ids"]
    assert str(avatar_id) == webhook["attributes"]["avaturn.avatar_id"]
    assert link.context.trace_id != wait.context.trace_id
    assert ["resolved", "webhook", 1, 1] == attributes(
        wait, "avaturn.outcome", "avaturn.resolved_by", "avaturn.webhooks", "avaturn.polls"
    )


async def _receive(redis_url: str, secret: str) -> None:
    """Serve webhooks until the parent closes the input, then write the spans."""
    telemetry, mailbox = Telemetry(), RedisMailbox(redis_url)
    receiver = WebhookReceiver(secret, mailbox=mailbox, observers=[telemetry.observer])
    async with receiver, receiver.serve() as server:
        print(server.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)
    await mailbox.aclose()
    spans = telemetry.spans("webhook")
    told = [{"ids": [s.context.trace_id, s.context.span_id], "attributes": dict(s.attributes or {})} for s in spans]
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(_receive(*sys.argv[1:]))
