"""The path secret is masked in the access logs of the servers that receivers are mounted in."""

from __future__ import annotations

import asyncio
import gc
import logging
import logging.config
import secrets
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from starlette.applications import Starlette
from starlette.routing import Mount

from avaturn_async import BasicAuth, PathSecret, WebhookReceiver

from .kit import aiohttp_server, ask, free_port, granian_server, hypercorn_server, listening, post, uvicorn_server
from .samples import OTHER, SECRET, export_body

PATH = f"/avaturn/{SECRET}"
ENCODED = f"%{ord(SECRET[0]):02x}{SECRET[1:]}"


async def send_one(port: int) -> None:
    """Send a webhook, one with an older secret, and one whose path is percent-encoded although it need not be."""
    for path in (PATH, f"/avaturn/{OTHER}/?from={PATH}", f"/avaturn/{ENCODED}?%0A"):
        await ask(port, post(path, export_body(), f"Referer: https://x{PATH}"))


def check(text: str) -> None:
    """Find the masked lines of three webhooks in a log, and no secret."""
    assert 3 <= text.count("/avaturn/***"), text
    assert SECRET[1:] not in text
    assert OTHER not in text


def receiver() -> WebhookReceiver:
    """Make a receiver that accepts an older secret too."""
    return WebhookReceiver(PathSecret(SECRET, OTHER))


@pytest.fixture
def kept() -> WebhookReceiver:
    """Keep a receiver for as long as a test runs."""
    return receiver()


FORMATS = ['%a "%r" %s "%{Referer}i"', "%r %s %b"]


@pytest.mark.parametrize("log_format", FORMATS, ids=["referer", "short"])
@pytest.mark.parametrize("by", ["setup", "routes"])
async def test_aiohttp(by: str, log_format: str, caplog: pytest.LogCaptureFixture) -> None:
    """Lines of aiohttp, and the fields that it adds to its records."""
    caplog.set_level(logging.INFO, "aiohttp.access")
    app = web.Application()
    if by == "setup":
        receiver().setup(app)
    else:
        app.add_routes(receiver().routes())
    async with aiohttp_server(app, access_log_format=log_format) as port:
        await send_one(port)
    check(caplog.text)
    assert not [each for each in caplog.records if SECRET in repr(vars(each)) or OTHER in repr(vars(each))]


def mounted() -> Any:
    """Mount a receiver in Starlette."""
    return Starlette(routes=[Mount("/avaturn", receiver().asgi)])


async def test_uvicorn(capfd: pytest.CaptureFixture[str]) -> None:
    """Uvicorn configures its loggers when the application is mounted already, and formats the arguments itself."""
    app = mounted()
    async with uvicorn_server(app, log_level="info"):  # with log_config, its own
        pass
    async with uvicorn_server(app, log_level="trace") as port:
        await send_one(port)
    logged = capfd.readouterr()
    check(logged.out)
    check(logged.err)  # the scopes that it logs while debugging


async def test_hypercorn(capfd: pytest.CaptureFixture[str]) -> None:
    """Hypercorn's arguments are a mapping with rules of its own."""
    async with hypercorn_server(
        mounted(), accesslog="-", access_log_format='%(r)s %(R)s %(s)s "%({referer}i)s" %({no}i)s'
    ) as port:
        await send_one(port)
    logged = capfd.readouterr().out
    check(logged)
    assert '404 "' not in logged
    assert logged.count('/avaturn/***" -') == 3


async def test_granian(capfd: pytest.CaptureFixture[str]) -> None:
    """Granian's arguments are a plain dict."""
    async with granian_server(
        mounted(), log_access=True, log_access_format="%(path)s %(query_string)s %(status)d"
    ) as port:
        await send_one(port)
    check(capfd.readouterr().out)


SERVER = """
from avaturn_async import PathSecret, WebhookReceiver
receiver = WebhookReceiver(PathSecret({secrets}))
application = receiver.wsgi
"""


async def test_gunicorn(tmp_path: Path) -> None:
    """In a worker of gunicorn."""
    (tmp_path / "app.py").write_text(SERVER.format(secrets=f"{SECRET!r}, {OTHER!r}"))
    port = free_port()
    options = [
        "--bind",
        f"127.0.0.1:{port}",
        "--access-logfile",
        "-",
        "--workers",
        "1",
        "--log-level",
        "debug",
        "--worker-tmp-dir",
        str(tmp_path),
    ]
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gunicorn",
        "app",
        *options,
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        await listening(port)
        await send_one(port)
    finally:
        server.terminate()
        logged = (await server.communicate())[0].decode()
    check(logged)


async def test_the_embedded_server(caplog: pytest.LogCaptureFixture) -> None:
    """The embedded server has an access log of its own."""
    caplog.set_level(logging.DEBUG)
    async with receiver().serve() as server:
        await send_one(server.port)
    check(caplog.text)


async def test_a_handler_of_your_own(caplog: pytest.LogCaptureFixture) -> None:
    """A receiver that is not mounted, but called by `handle`, is masked too."""
    caplog.set_level(logging.INFO, "aiohttp.access")
    secret, app = secrets.token_urlsafe(24), web.Application()
    kept = WebhookReceiver(secret)

    async def handler(request: web.Request) -> web.Response:
        reply = await kept.handle(await request.read(), path=request.path, headers=request.headers)
        return web.Response(status=reply.status)

    app.router.add_post("/avaturn/{tail:.*}", handler)
    async with aiohttp_server(app, access_log_format="%r %s") as port:
        assert 200 == (await ask(port, post(f"/avaturn/{secret}", export_body())))[0]
    assert "POST /avaturn/*** HTTP/1.1 200" in caplog.text
    assert secret not in caplog.text


# Whichever way the loggers are configured.


def logged_by(name: str, message: str, *arguments: Any) -> str:
    """Log a message, and return what handlers get of it."""
    seen: list[logging.LogRecord] = []
    logger, handler = logging.getLogger(name), logging.Handler()
    handler.emit = seen.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        logger.warning(message, *arguments)
    finally:
        logger.removeHandler(handler)
    return seen[0].getMessage()


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    "name",
    [
        *("uvicorn.access", "gunicorn.access", "werkzeug", "django.server", "django.request"),
        *("django.security.csrf", "litestar"),
    ],
)
def test_loggers_that_are_configured_later(name: str) -> None:
    """A configuration by dictConfig that comes later replaces handlers, and the secret stays masked."""
    handlers = {"null": {"class": "logging.NullHandler"}}
    loggers = {name: {"handlers": ["null"], "level": "INFO", "propagate": False}}
    logging.config.dictConfig(
        {"version": 1, "disable_existing_loggers": False, "handlers": handlers, "loggers": loggers}
    )
    try:
        assert "POST /***" == logged_by(name, "%s /%s", "POST", SECRET)
    finally:
        logging.getLogger(name).propagate = True


@pytest.mark.usefixtures("kept")
def test_percent_encoded_paths() -> None:
    """What else is percent-encoded stays readable, and no control character comes from it."""
    assert "/*** %0A\u00e9" == logged_by("uvicorn.access", "/%s %s", SECRET, "%0A\u00e9")
    assert "/***?a=b%0Ac%C3%A9" == logged_by("uvicorn.access", "/%s", f"{ENCODED}?a=b%0Ac%c3%a9")
    assert "b'/***'" == logged_by("uvicorn.access", "%r", f"/{ENCODED}".encode())
    assert r"/***?\udcff" == logged_by("aiohttp.access", "/%s", f"{ENCODED}?\udcff")  # a byte that is not UTF-8


@pytest.mark.usefixtures("kept")
def test_arguments_keep_their_types() -> None:
    """What holds no secret is left as it is; numbers stay numbers, mappings stay of their type."""

    class Atoms(dict[str, Any]):
        def __missing__(self, key: str) -> str:
            return "-"

    atoms = Atoms(r=f"POST {PATH}", s=200, nested={"path": PATH})
    assert "POST /avaturn/*** 200 - {'path': '/avaturn/***'}" == logged_by(
        "gunicorn.access", "%(r)s %(s)d %(f)s %(nested)s", atoms
    )
    assert SECRET in atoms["r"]
    assert "a 7" == logged_by("gunicorn.access", "%s %d", "a", 7)
    version = sys.version_info
    assert f"{version!r} 7" == logged_by("gunicorn.access", "%r %d", version, 7)


def test_receivers_that_are_gone_cost_nothing() -> None:
    """A receiver that was dropped is forgotten, and filters do not pile up."""
    found = []
    for _ in range(3):
        secret = secrets.token_urlsafe(24)
        WebhookReceiver(secret)
        gc.collect()
        found.append((len(logging.getLogger("uvicorn.access").filters), secret in logged_by("uvicorn.access", secret)))
    assert [(1, True)] * 3 == found


def test_other_verifiers_install_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only path secrets are in a path."""
    logger = logging.getLogger("uvicorn.access")
    monkeypatch.setattr(logger, "filters", [])
    WebhookReceiver(BasicAuth("a", "b"))
    assert [] == logger.filters
