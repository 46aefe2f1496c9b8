"""The receiver as a WSGI application: beside Flask and Django, and called by hand."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import flask
import pytest
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from avaturn_async import BasicAuth, WebhookReceiver
from avaturn_async.webhooks import key_of

from .kit import PATH, ask, chunked, post, wsgi_server
from .samples import OTHER, SECRET, export_body, export_event

KEY = key_of(export_event())


def in_flask(receiver: WebhookReceiver) -> Any:
    """Mount the receiver beside a Flask application."""
    app = flask.Flask(__name__)
    app.add_url_rule("/", view_func=lambda: "home")
    return DispatcherMiddleware(app, {"/avaturn": receiver.wsgi})


def in_django(receiver: WebhookReceiver) -> Any:
    """Mount the receiver beside a Django project."""
    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
    return DispatcherMiddleware(get_wsgi_application(), {"/avaturn": receiver.wsgi})


urlpatterns = [path("", lambda request: HttpResponse("home"))]


@pytest.mark.parametrize("app", [in_flask, in_django])
async def test_frameworks(app: Any) -> None:
    """Events reach awaiters on another loop, callbacks end before the response, and refusals have their status."""
    receiver, called = WebhookReceiver(SECRET), []

    @receiver.on("export.ready")
    async def callback(event: Any) -> None:
        await asyncio.sleep(0)
        called.append(event)

    with wsgi_server(app(receiver)) as port:
        waiting = receiver.mailbox.wait(KEY, "")
        assert 200 == (await ask(port, post(PATH, export_body())))[0]
        assert [export_event()] == called
        assert export_event() == (await waiting).event
        assert 200 == (await ask(port, post(PATH + "/", export_body())))[0]
        assert 404 == (await ask(port, post(f"/avaturn/{OTHER}", export_body())))[0]
        assert 413 == (await ask(port, post(PATH, b"", length=65_537)))[0]
        assert 415 == (await ask(port, post(PATH, export_body(), "Content-Encoding: gzip")))[0]
        code, headers = await ask(port, post(PATH, b"").replace(b"POST", b"PUT"))
        assert (405, "POST") == (code, headers["allow"])
        assert 400 == (await ask(port, chunked(PATH, [export_body()])))[0]  # a server that does not read chunks
        assert 200 == (await ask(port, post("/", b"").replace(b"POST", b"GET")))[0]


# By hand.


def environ(body: bytes, **changes: Any) -> dict[str, Any]:
    """Make the environment of a POST."""
    made = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": PATH,
        "wsgi.input": io.BytesIO(body),
        "CONTENT_LENGTH": str(len(body)),
    }
    return made | changes


def played(receiver: WebhookReceiver, of: dict[str, Any]) -> tuple[str, dict[str, str], bytes]:
    """Call the application; return status, headers and body."""
    started: list[Any] = []
    body = b"".join(receiver.wsgi(of, lambda status, headers: started.extend([status, dict(headers)])))
    return started[0], started[1], body


def test_a_response() -> None:
    """Status, headers and body are those of the reply, with a length."""
    expected = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": "13"}
    assert ("202 Accepted", expected, b"unknown event") == played(WebhookReceiver(SECRET), environ(b'{"event": "new"}'))


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"CONTENT_LENGTH": ""}, "400"),
        ({"CONTENT_LENGTH": "", "wsgi.input_terminated": True}, "200"),
        ({"CONTENT_LENGTH": "x"}, "400"),
        ({"CONTENT_LENGTH": "-1"}, "400"),
        ({"CONTENT_LENGTH": "9" * 5000}, "413"),
        ({"CONTENT_LENGTH": "\xb2"}, "400"),
        ({"wsgi.input": None}, "400"),
        ({"PATH_INFO": "\xe9"}, "404"),
        ({"HTTP_CONTENT_ENCODING": "identity"}, "200"),
    ],
    ids=["none", "terminated", "text", "negative", "huge", "superscript", "no-input", "odd-path", "identity"],
)
def test_odd_requests(changes: dict[str, Any], status: str) -> None:
    """Lengths and inputs as servers give them, or should not."""
    assert status == played(WebhookReceiver(SECRET), environ(export_body(), **changes))[0][:3]


def test_a_large_body_without_a_length() -> None:
    """A body that the server ends is read up to the limit."""
    large = environ(b" " * 100_000, CONTENT_LENGTH="", **{"wsgi.input_terminated": True})
    assert "413" == played(WebhookReceiver(SECRET), large)[0][:3]


@pytest.mark.parametrize("length", ["+100000", "100_000", " 100000"], ids=["sign", "underscore", "space"])
def test_a_large_body_with_a_length_in_another_form(length: str) -> None:
    """Development servers pass on whatever the header says; no more than the limit is read."""
    sent = environ(b" " * 100_000, CONTENT_LENGTH=length)
    assert "413" == played(WebhookReceiver(SECRET), sent)[0][:3]
    assert sent["wsgi.input"].tell() <= 65_537


def test_a_path_that_is_missing() -> None:
    """PATH_INFO may be absent (PEP 3333)."""
    without = environ(export_body())
    del without["PATH_INFO"]
    assert "404" == played(WebhookReceiver(SECRET), without)[0][:3]


def test_headers_reach_the_verifier() -> None:
    """Credentials are found, and so are the headers that WSGI names differently."""
    assert (
        "200"
        == played(WebhookReceiver(BasicAuth("a", "b")), environ(export_body(), HTTP_AUTHORIZATION="Basic YTpi"))[0][:3]
    )
    seen: list[Any] = []

    class Noting:
        def verify(self, body: bytes, *, path: str, headers: Any) -> bool:
            seen.append(dict(headers))
            return True

    played(WebhookReceiver(Noting()), environ(b"{}", CONTENT_TYPE="a/b", HTTP_X_SIGNATURE="c"))
    assert [{"content-type": "a/b", "content-length": "2", "x-signature": "c"}] == seen
