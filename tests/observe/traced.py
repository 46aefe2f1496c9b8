"""A process of an app whose libraries are instrumented; it writes everything that the instrumentation exports.

It runs apart, since instrumentation patches libraries for good, and from the emulator, whose urls have secrets.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fastapi
import sentry_sdk
import starlette.applications
from aiohttp import web
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from avaturn_async import (
    AvaturnClient,
    BasicAuth,
    OtelObserver,
    Photos,
    PollPolicy,
    RetryPolicy,
    WebhookReceiver,
)
from avaturn_async.downloads.downloader import Downloader
from avaturn_async.downloads.stream import Link

from ..docs.kit import EXAMPLES
from ..downloads.kit import downloader
from ..webhooks.kit import aiohttp_server, uvicorn_server

PHOTO = b"\xff\xd8\xff\xda a face \xff\xd9"
SIGNATURE = "-".join(["open", "sesame"])  # not as one word: Sentry sends lines of source, too
exported: list[str] = []


class Lines(logging.Handler):
    """Exports every line of the log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Format and keep a record, with its traceback."""
        exported.append(self.format(record))


class Captured(Transport):
    """Takes what Sentry's SDK would send."""

    def capture_envelope(self, envelope: Envelope) -> None:
        """Keep an envelope."""
        exported.append(envelope.serialize().decode(errors="replace"))


def _instrument(kind: str, *, excluded: str | None) -> InMemorySpanExporter:
    """Set up one kind of instrumentation; of OpenTelemetry the client's in any case."""
    from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor

    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([reader]))
    if kind.startswith("sentry"):
        options = {} if excluded is None else _documented()
        sentry_sdk.init("http://key@localhost/1", transport=Captured, traces_sample_rate=1.0, **options)
        return spans
    AioHttpClientInstrumentor().instrument()
    if kind == "aiohttp":
        os.environ["OTEL_PYTHON_AIOHTTP_SERVER_EXCLUDED_URLS"] = excluded or ""
        from opentelemetry.instrumentation.aiohttp_server import AioHttpServerInstrumentor

        AioHttpServerInstrumentor().instrument()
    return spans


def _documented() -> dict[str, Any]:
    """Return the options that the documentation gives to Sentry's SDK."""
    options: dict[str, Any] = {}
    with patch("sentry_sdk.init", options.update):
        exec(EXAMPLES["sentry"], {})
    return options


@asynccontextmanager
async def _served(kind: str, receiver: WebhookReceiver, excluded: str | None) -> AsyncIterator[int]:
    """Serve the receiver in an instrumented app, and yield the port."""
    if kind not in ("aiohttp", "sentry"):
        app: Any
        if kind != "asgi":
            from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

            own: Any = {"tracing": False} if kind == "sentry-fastapi" else {}
            if kind == "fastapi-own" and excluded is not None:
                own = {"exclude": lambda scope: scope["path"].startswith(excluded)}
            app = fastapi.FastAPI(telemetry=own)  # which versions without telemetry of their own ignore
            app.mount("/avaturn", receiver.asgi)
            if kind == "fastapi":
                FastAPIInstrumentor.instrument_app(app, excluded_urls=excluded)
        else:
            from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
            from opentelemetry.util.http import parse_excluded_urls

            app = starlette.applications.Starlette()
            app.mount("/avaturn", receiver.asgi)
            options: Any = {} if excluded is None else {"excluded_urls": parse_excluded_urls(excluded)}
            app = OpenTelemetryMiddleware(app, **options)
        async with receiver, uvicorn_server(app, log_level="info") as port:
            yield port
    else:
        application = web.Application()
        receiver.setup(application, "/avaturn")
        async with aiohttp_server(application) as port:
            yield port


async def main(
    link: Connection, kind: str, auth: str, base_url: str, token: str, avatar_id: str, excluded: str | None
) -> None:
    """Run an export by webhook, a download, an upload, failures, and send what was exported."""
    spans = _instrument(kind, excluded=excluded)
    user, _, password = auth.rpartition(":")
    observer = OtelObserver()
    receiver = WebhookReceiver(BasicAuth(user, password) if user else auth, observers=[observer])

    @receiver.on("export.ready")
    async def fail(event: Any) -> None:
        raise RuntimeError("a callback failed")

    never = PollPolicy(first=600, cap=600, first_with_webhooks=600)
    async with _served(kind, receiver, excluded) as port:
        credentials = f"{auth}@" if user else ""
        link.send(f"http://{credentials}127.0.0.1:{port}/avaturn/{'' if user else auth}")
        await asyncio.to_thread(link.recv)
        async with AvaturnClient(
            token, base_url=base_url, webhooks=receiver, polling=never, observers=[observer]
        ) as client:
            export = await client.exports.create_and_wait(avatar_id)
            await export.read()
            new = await client.users.create()
            await client.avatars.create_from_photos(new.id, Photos(*[PHOTO] * 3, body_type="male"))
            files = downloader(retry=RetryPolicy(attempts=1))
            missing, closed = export.url.replace("/files/", "/missing/"), f"http://127.0.0.1:9/m.glb?{SIGNATURE}"
            failing = [Link(missing), Link(closed)]  # whose repr, in a traceback with locals, has no query
            del missing, closed
            for each in failing:
                try:
                    await Downloader.read(files, each)
                except Exception:
                    logging.exception("a download failed")
                    sentry_sdk.capture_exception()
            await files.aclose()
    exported.extend(span.to_json() for span in spans.get_finished_spans())
    data = reader.get_metrics_data()
    exported.append("" if data is None else data.to_json())
    sentry_sdk.flush()
    link.send((exported, [export.url.partition("?")[2], SIGNATURE]))


reader = InMemoryMetricReader()


def run(link: Connection, output: Path, environment: dict[str, str]) -> None:
    """Run all of that with the options that are received, and write what is printed to a file."""
    os.environ.update(environment)
    with output.open("wb") as file:
        os.dup2(file.fileno(), 1)
    root = logging.getLogger()
    root.setLevel(logging.DEBUG)
    root.addHandler(Lines())
    for noisy in ("asyncio", "sentry_sdk.errors"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    asyncio.run(main(link, **link.recv()))
