"""Spans and metrics of OpenTelemetry, by its API alone: the application configures an SDK and exporters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .._version import __version__
from ..errors import ConfigurationError
from .observer import BatchInfo, CallInfo, DownloadInfo, JobInfo, Observer, WebhookInfo

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider
else:  # for typing.get_type_hints
    MeterProvider = TracerProvider = Span = Any

__all__ = ["OtelObserver"]

_CALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_WAIT_BUCKETS = (0.5, 1, 2, 5, 10, 15, 20, 30, 45, 60, 120, 300, 600, 900)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class OtelObserver(Observer):
    """Exports spans and metrics to OpenTelemetry (extra ``otel``).

    Spans: a CLIENT span for each call of the API, with its attempts as events and the stable attributes of the semantic
    conventions for HTTP clients; INTERNAL spans for each wait, webhook, download and batch. A wait has a link to each
    webhook that was received for it, also from another process by way of Redis or Postgres; for that, the receiver
    needs the observer, too. Spans of the instrumentation of aiohttp's client become children of ours.

    Metrics: the histograms ``avaturn.call.duration`` and ``avaturn.wait.duration`` in seconds, and the counters
    ``avaturn.polls``, ``avaturn.webhooks``, ``avaturn.retries`` and ``avaturn.downloaded`` in bytes.

    Args:
        tracer_provider: default: the global one.
        meter_provider: default: the global one.

    Raises:
        ConfigurationError: opentelemetry-api is not installed.
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        try:
            from opentelemetry import context, metrics, trace
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError:
            text = 'OtelObserver needs opentelemetry-api: pip install "avaturn-async[otel]"'
            raise ConfigurationError(text) from None
        self._trace, self._context, self._w3c = trace, context, TraceContextTextMapPropagator()
        self._tracer = trace.get_tracer("avaturn_async", __version__, tracer_provider)
        self._open: dict[int, tuple[Span, Any]] = {}  # by number
        self._waits: dict[int, list[Span]] = {}  # by job
        meter = metrics.get_meter("avaturn_async", __version__, meter_provider)
        self._calls = meter.create_histogram(
            "avaturn.call.duration", "s", "Calls of the API", explicit_bucket_boundaries_advisory=_CALL_BUCKETS
        )
        self._durations = meter.create_histogram(
            "avaturn.wait.duration", "s", "Waits for jobs", explicit_bucket_boundaries_advisory=_WAIT_BUCKETS
        )
        self._polls = meter.create_counter("avaturn.polls", "{poll}", "Polls of jobs")
        self._webhooks = meter.create_counter("avaturn.webhooks", "{webhook}", "Webhooks answered")
        self._retries = meter.create_counter("avaturn.retries", "{retry}", "Attempts after the first")
        self._downloaded = meter.create_counter("avaturn.downloaded", "By", "Bytes downloaded")

    def call_started(self, info: CallInfo) -> None:
        url = urlsplit(info.url)
        self._start(
            info.call,
            f"{info.method} {info.path}",
            kind=self._trace.SpanKind.CLIENT,
            attributes={
                "http.request.method": info.method,
                "server.address": url.hostname,
                "server.port": url.port or _DEFAULT_PORTS.get(url.scheme),
                "url.full": info.url,
            },
        )

    def request_answered(self, info: CallInfo) -> None:
        facts = {"avaturn.attempt": info.attempt, "avaturn.request_id": info.request_id}
        self._note(info.call, "attempt", {**facts, **_result(info.status, info.error)})

    def request_retried(self, info: CallInfo) -> None:
        self._note(info.call, "retry", {"avaturn.attempt": info.attempt, "avaturn.delay": info.seconds})
        self._retries.add(1, _clean({"http.request.method": info.method, "avaturn.path": info.path}))

    def request_held_back(self, info: CallInfo) -> None:
        self._note(info.call, "hold back", {"avaturn.delay": info.seconds})

    def call_ended(self, info: CallInfo) -> None:
        result = _result(info.status, info.error)
        self._end(info.call, info.error, {**result, "http.request.resend_count": max(0, info.attempt - 1) or None})
        named = {"http.request.method": info.method, "avaturn.path": info.path}
        self._calls.record(info.seconds, _clean({**named, **result}))

    def wait_started(self, info: JobInfo) -> None:
        ids = {"avatar_id": info.avatar_id, "render_id": info.render_id, "session_id": info.session_id}
        named = {f"avaturn.{name}": None if value is None else str(value) for name, value in ids.items()}
        span = self._start(info.wait, f"wait for {info.kind}", attributes={"avaturn.kind": info.kind, **named})
        self._waits.setdefault(info.job, []).append(span)

    def job_event_received(self, info: JobInfo) -> None:
        found = self._w3c.extract({"traceparent": info.traceparent or ""}, self._context.Context())
        webhook = self._trace.get_current_span(found).get_span_context()
        for span in self._waits.get(info.job, ()):
            span.add_event("webhook", _clean({"avaturn.event": info.event}))
            if webhook.is_valid:
                span.add_link(webhook)

    def job_polled(self, info: JobInfo) -> None:
        for span in self._waits.get(info.job, ()):
            facts = {"avaturn.status": info.status, "avaturn.request_id": info.request_id, "error.type": info.error}
            span.add_event("poll", _clean(facts))
        self._polls.add(1, _clean({"avaturn.kind": info.kind, "error.type": info.error}))

    def wait_ended(self, info: JobInfo) -> None:
        how = {"avaturn.outcome": info.outcome, "avaturn.resolved_by": info.resolved_by}
        facts = {"avaturn.polls": info.polls, "avaturn.webhooks": info.webhooks, "avaturn.request_id": info.request_id}
        if info.wait in self._open:
            self._waits[info.job].remove(self._open[info.wait][0])
            if not self._waits[info.job]:
                del self._waits[info.job]
        self._end(info.wait, None if info.outcome == "cancelled" else info.error, {**how, **facts})
        self._durations.record(info.seconds, _clean({"avaturn.kind": info.kind, **how}))

    def webhook_received(self, info: WebhookInfo) -> None:
        current = self._trace.get_current_span().get_span_context().is_valid
        parent = None if current else self._w3c.extract({"traceparent": info.traceparent or ""})
        self._start(info.webhook, "webhook", context=parent)

    def traceparent(self) -> str | None:
        carrier: dict[str, str] = {}
        self._w3c.inject(carrier)
        return carrier.get("traceparent")

    def webhook_answered(self, info: WebhookInfo) -> None:
        result = {"avaturn.event": info.event, **_result(info.status, info.error)}
        avatar_id = None if info.avatar_id is None else str(info.avatar_id)
        self._end(info.webhook, info.error, {**result, "avaturn.avatar_id": avatar_id})
        self._webhooks.add(1, _clean(result))

    def download_started(self, info: DownloadInfo) -> None:
        avatar_id = None if info.avatar_id is None else str(info.avatar_id)
        facts = {"url.full": info.url, "avaturn.avatar_id": avatar_id, "avaturn.resumed_from": info.size}
        # Not made current: in `stream()`, the consumer's code runs between two chunks.
        self._start(info.download, "download", attach=False, attributes=facts)

    def download_resumed(self, info: DownloadInfo) -> None:
        self._note(info.download, "resume", {"avaturn.bytes": info.size})

    def download_ended(self, info: DownloadInfo) -> None:
        self._end(info.download, info.error, {"avaturn.bytes": info.size})
        self._downloaded.add(max(0, info.received))

    def batch_started(self, info: BatchInfo) -> None:
        self._start(info.batch, "batch")

    def batch_ended(self, info: BatchInfo) -> None:
        self._end(info.batch, info.error, {"avaturn.done": info.done, "avaturn.failed": info.failed})

    def _start(self, number: int, name: str, *, attach: bool = True, attributes: Any = None, **options: Any) -> Span:
        span = self._tracer.start_span(name, attributes=_clean(attributes or {}), **options)
        attach = attach and span is not self._trace.get_current_span()  # as without an SDK
        token = self._context.attach(self._trace.set_span_in_context(span)) if attach else None
        self._open[number] = span, token
        return span

    def _note(self, number: int, name: str, facts: dict[str, Any]) -> None:
        if number in self._open:
            self._open[number][0].add_event(name, _clean(facts))

    def _end(self, number: int, error: str | None, facts: dict[str, Any]) -> None:
        span, token = self._open.pop(number, (self._trace.INVALID_SPAN, None))
        span.set_attributes(_clean(facts))
        if error is not None:
            span.set_attribute("error.type", facts.get("error.type") or error)
            span.set_status(self._trace.StatusCode.ERROR, error)
        if token is not None and self._trace.get_current_span() is span:  # otherwise this is another context
            self._context.detach(token)
        span.end()


def _result(status: int | None, error: str | None) -> dict[str, Any]:
    """Return how an attempt ended by the conventions: the type of an error is its status, if there was one."""
    failed = error is not None
    return {"http.response.status_code": status, "error.type": str(status or error) if failed else None}


def _clean(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}
