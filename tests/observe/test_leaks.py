"""What other people's instrumentation exports of us: neither token, path secret nor signature."""

from __future__ import annotations

import asyncio
import base64
import inspect
import re
import secrets
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import fastapi
import pytest
from aiohttp import web
from yarl import URL

from avaturn_async.emulator import Emulator, Timing
from avaturn_async.http.urls import sent_to
from avaturn_async.redact import SecretUrl, SignedUrl

from ..docs.kit import PAGES
from ..webhooks.kit import aiohttp_server
from .kit import make_avatars

KINDS = ["aiohttp", "asgi", "fastapi", "sentry", "sentry-fastapi"]
if "telemetry" in inspect.signature(fastapi.FastAPI).parameters:
    KINDS.append("fastapi-own")
#: What the documentation says to exclude, where the receiver has a path secret.
EXCLUDED = "/avaturn"
CAPTURE = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS"


#: Imports all libraries once, and makes a process of it for each run.
PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload([f"{__package__}.traced"])


async def exported(kind: str, auth: str, excluded: str | None = None, **variables: str) -> tuple[str, list[str]]:
    """Run an instrumented app against an emulator; return all that it exported, and all secrets in one list."""
    from . import traced  # whose libraries take a second

    link, other = PROCESSES.Pipe()
    with TemporaryDirectory() as folder, link:
        output = Path(folder, "output")
        process = PROCESSES.Process(target=traced.run, args=(other, output, variables))
        process.start()
        other.close()  # so that the end of the process ends what is received from it
        async with Emulator(timing=Timing(export=0.05, scan=0.05), models="small") as avaturn:
            (avatar_id,) = await make_avatars(avaturn, 1)
            options = {"kind": kind, "auth": auth, "base_url": avaturn.url, "token": avaturn.token}
            link.send({**options, "excluded": excluded, "avatar_id": str(avatar_id)})
            avaturn.webhook_url = await asyncio.to_thread(link.recv)
            link.send("go on")
            found, known = await asyncio.to_thread(link.recv)
            uploads = [request.path for request in avaturn.requests if "upload" in request.path]
            assert uploads
        process.join()
        found.append(output.read_text())
    return "\n".join(found), [*known, avaturn.token, auth.rpartition(":")[2], *uploads]


def hits(text: str, known: list[str]) -> list[str]:
    """Return the secrets that are in a text."""
    parts = [part for each in known for part in re.split("[&=]", each) if len(part) > 5]
    return [part for part in parts if part in text]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_with_basic_auth_nothing_leaks(kind: str) -> None:
    """Spans, metrics, envelopes, breadcrumbs, log records and access logs show the links, but not what opens them."""
    # Sentry's SDK sends bodies under FastAPI unless it has the function of the documentation.
    excluded = EXCLUDED if kind == "sentry-fastapi" else None
    text, known = await exported(kind, f"avaturn:{secrets.token_urlsafe(24)}", excluded)
    assert [] == hits(text, known)
    assert "/files/" in text
    assert "/avaturn" in text
    assert "a callback failed" in text


@pytest.mark.slow
async def test_captured_headers_have_to_be_sanitized() -> None:
    """Instrumentation that is told to export all headers exports the token; the documentation names the variable."""
    captured = {f"{CAPTURE}_CLIENT_REQUEST": ".*", f"{CAPTURE}_SERVER_REQUEST": ".*"}
    auth = f"avaturn:{secrets.token_urlsafe(24)}"
    text, known = await exported("aiohttp", auth, **captured)
    assert [] != hits(text, known)
    text, known = await exported("aiohttp", auth, **captured, **{f"{CAPTURE}_SANITIZE_FIELDS": "authorization"})
    assert [] == hits(text, [*known, base64.b64encode(auth.encode()).decode()])
    assert f"{CAPTURE}_SANITIZE_FIELDS=authorization" in PAGES["observability.md"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_a_path_secret_has_to_be_excluded(kind: str) -> None:
    """What traces a server exports its paths; the documentation names the option that prevents this."""
    secret = secrets.token_urlsafe(24)
    text, known = await exported(kind, secret)
    assert secret in hits(text, known)
    text, known = await exported(kind, secret, EXCLUDED)
    assert [] == hits(text, known)


def test_the_documentation_says_what_to_exclude() -> None:
    """As the test above does."""
    page = PAGES["observability.md"]
    assert f'excluded_urls="{EXCLUDED}"' in page
    assert f'parse_excluded_urls("{EXCLUDED}")' in page
    assert f'{{"exclude": lambda scope: scope["path"].startswith("{EXCLUDED}")}}' in page
    assert f"OTEL_PYTHON_AIOHTTP_SERVER_EXCLUDED_URLS={EXCLUDED}" in page


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (SignedUrl("https://storage.example:81/a/m.glb?sig=sesame"), "https://storage.example:81/a/m.glb"),
        (SecretUrl("https://storage.example/sesame?sig=sesame"), "https://storage.example"),
    ],
    ids=["signed", "upload"],
)
@pytest.mark.parametrize(
    "error",
    [
        aiohttp.ConnectionTimeoutError("Connection timeout to host {url}"),
        aiohttp.ClientOSError(None, "Can not write request body for {url}"),
    ],
    ids=["timeout", "write"],
)
async def test_tracing_sees_neither_the_url_nor_its_errors(url: Any, shown: str, error: aiohttp.ClientError) -> None:
    """Only what the session was given; the server gets the whole."""
    traced: list[str] = []

    async def note(session: Any, context: Any, params: Any) -> None:
        traced.append(f"{params.url} {getattr(params, 'exception', '')!r} {getattr(params, 'exception', '')}")

    async def fail(request: aiohttp.ClientRequest, handler: Any) -> Any:
        assert str(url) == str(request.url)
        text = [part.format(url=request.url) if isinstance(part, str) else part for part in error.args]
        raise type(error)(*text)

    config = aiohttp.TraceConfig()
    for signal in (config.on_request_start, config.on_request_exception):
        signal.append(note)
    async with aiohttp.ClientSession(trace_configs=[config]) as session:
        with pytest.raises(type(error)) as caught:
            await session.get(URL(shown), middlewares=(sent_to(url), fail))
    assert 2 == len(traced)
    assert "sesame" not in str(traced) + repr(caught.value) + str(caught.value)


async def test_the_server_gets_the_whole_url() -> None:
    """With its encoding as it was."""
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.raw_path)
        return web.Response()

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    async with aiohttp_server(app) as port, aiohttp.ClientSession() as session:
        base = f"http://127.0.0.1:{port}"
        await session.get(base, middlewares=(sent_to(SignedUrl(f"{base}/a%2Fb/c?x=%2F&y=+#no")),))
    assert ["/a%2Fb/c?x=%2F&y=+"] == seen
