"""Authentic webhooks are accepted, others are not, and secrets show nowhere."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from avaturn_async import BasicAuth, PathSecret, Unauthenticated, WebhookReceiver

from .samples import OTHER, SECRET, export_body


def shown(function: Callable[[], Any]) -> str:
    """Return the traceback of what `function` raises, with the locals of all frames below this one."""
    try:
        function()
    except Exception as error:
        frames = traceback.TracebackException.from_exception(error, capture_locals=True)
        del frames.stack[:2]
        return "".join(frames.format())
    raise AssertionError("it did not raise")


def basic(text: str, scheme: str = "Basic") -> dict[str, str]:
    """Return the headers of Basic authentication."""
    return {"authorization": f"{scheme} {base64.b64encode(text.encode()).decode()}"}


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("prefix", ["", "/", "/avaturn/", "/a/b/", "/?/"])
def test_a_path_secret_is_the_last_segment(prefix: str, slash: str) -> None:
    """The part before the secret does not matter, nor does a trailing slash."""
    assert PathSecret(SECRET).verify(b"", path=prefix + SECRET + slash, headers={}) is True


@pytest.mark.parametrize(
    "path",
    ["", "/", SECRET[:-1], SECRET + "x", f"/{SECRET}//", f"/{SECRET}/x", SECRET.upper(), SECRET + "é", "\ud800", OTHER],
)
def test_another_path_is_refused(path: str) -> None:
    """Anything but the secret is refused."""
    assert PathSecret(SECRET).verify(b"", path=path, headers={}) is False


def test_a_path_secret_rotates() -> None:
    """All secrets are accepted, and the first makes the urls."""
    verifier = PathSecret(SECRET, OTHER)
    assert [True, True] == [verifier.verify(b"", path=f"/{each}", headers={}) for each in (SECRET, OTHER)]
    assert SECRET == WebhookReceiver(verifier).path


@pytest.mark.parametrize(
    "odd", ["", "hunter2", "hunter2" * 4 + "/", "hunter2 " * 4, "hunter2\u00e9" * 4, "hunter2" * 4 + "\n"]
)
@pytest.mark.parametrize("make", [PathSecret, lambda odd: PathSecret(SECRET, odd), WebhookReceiver])
def test_short_and_odd_secrets_are_refused(odd: str, make: Callable[[str], object]) -> None:
    """A secret that would be guessed or not survive a url is refused without being shown."""
    with pytest.raises(ValueError, match=r"path secret( 2)? must be at least 22 characters"):
        make(odd)
    said = shown(lambda: PathSecret(SECRET, odd)) + shown(lambda: WebhookReceiver(odd))
    assert "hunter2" not in said
    assert SECRET not in said


def test_no_secret_and_no_str_are_refused() -> None:
    """A path secret is a str."""
    with pytest.raises(ValueError, match="at least one secret"):
        PathSecret()
    with pytest.raises(ValueError, match="the path secret must be"):
        PathSecret(SECRET.encode())  # type: ignore[arg-type]
    assert SECRET not in shown(lambda: PathSecret(SECRET.encode()))  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
def test_basic_auth(scheme: str) -> None:
    """User and password are accepted, whatever the case of the scheme, and a colon in the password is fine."""
    verifier = BasicAuth("us\u00e9r", "pass:word")
    assert verifier.verify(b"", path="", headers=basic("us\u00e9r:pass:word", scheme)) is True


@pytest.mark.parametrize(
    "headers",
    [{}, basic("user:wrong"), basic("user:pass:word", "Bearer"), basic("user"), {"authorization": "Basic \ud800"}],
)
def test_other_credentials_are_refused(headers: Mapping[str, str]) -> None:
    """Anything but user and password is refused."""
    assert BasicAuth("user", "pass:word").verify(b"", path="", headers=headers) is False


@pytest.mark.parametrize(
    ("user", "password"), [("", "hunter2"), ("a:b", "hunter2"), ("a", ""), ("a", None), (1, "hunter2")]
)
def test_odd_credentials_are_refused(user: Any, password: Any) -> None:
    """What Basic can't carry is refused without being shown."""
    with pytest.raises(ValueError, match=r"BasicAuth\.(user|password) must not be empty"):
        BasicAuth(user, password)
    assert "hunter2" not in shown(lambda: BasicAuth(user, password))


def test_unauthenticated_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    """A receiver that believes anybody says so in one warning."""
    receiver = WebhookReceiver(Unauthenticated())
    assert not receiver.authenticated
    assert "" == receiver.path
    assert Unauthenticated().verify(b"", path="", headers={}) is True
    assert [logging.WARNING] == [record.levelno for record in caplog.records]


class Raising:
    """A verifier that fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def verify(self, body: bytes, *, path: str, headers: Mapping[str, str]) -> bool:
        """Raise."""
        raise self.error


@pytest.mark.parametrize(
    "error", [ValueError(SECRET), KeyError(SECRET), RecursionError(), UnicodeError(), MemoryError()]
)
async def test_a_verifier_that_raises_refuses(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a verifier raises is a refusal, and its words are not repeated."""
    reply = await WebhookReceiver(Raising(error)).handle(export_body(), path=SECRET)
    assert 401 == reply.status
    assert f"the verifier raised {type(error).__name__}; the webhook was refused" == caplog.records[-1].getMessage()
    assert SECRET not in caplog.text


class Truthy(Raising):
    """A verifier that says something else than True."""

    def verify(self, body: bytes, *, path: str, headers: Mapping[str, str]) -> Any:
        """Return what is merely true."""
        return "yes"


async def test_only_true_is_true() -> None:
    """A coroutine that nobody awaited, or any other object, does not authenticate."""
    assert 401 == (await WebhookReceiver(Truthy(ValueError())).handle(export_body())).status


class StandardWebhooks:
    """The scheme of standardwebhooks.com, as a gateway before the receiver might use it."""

    def __init__(self, secret: str) -> None:
        self._key = base64.b64decode(secret)

    def sign(self, body: bytes, headers: Mapping[str, str]) -> str:
        """Return the signature."""
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        return "v1," + base64.b64encode(hmac.digest(self._key, signed, hashlib.sha256)).decode()

    def verify(self, body: bytes, *, path: str, headers: Mapping[str, str]) -> bool:
        """Compare the signature with each that is given."""
        expected = self.sign(body, headers).encode()
        return any(hmac.compare_digest(expected, each.encode()) for each in headers["webhook-signature"].split())


HEADERS = {"Webhook-Id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "WEBHOOK-TIMESTAMP": "1614265330"}
GATEWAY = StandardWebhooks("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


def test_the_published_example() -> None:
    """The scheme's own example gives its own signature."""
    lowered = {name.lower(): value for name, value in HEADERS.items()}
    assert "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" == GATEWAY.sign(b'{"test": 2432232314}', lowered)


async def test_a_signature_is_verified() -> None:
    """The protocol carries a signature over id, time and body; header names may come in any case."""
    lowered = {name.lower(): value for name, value in HEADERS.items()}
    receiver = WebhookReceiver(GATEWAY)
    signed = HEADERS | {"webhook-SIGNATURE": f"v1,AAAA {GATEWAY.sign(export_body(), lowered)}"}
    assert 200 == (await receiver.handle(export_body(), headers=signed)).status
    assert 401 == (await receiver.handle(export_body() + b" ", headers=signed)).status
    assert 401 == (await receiver.handle(export_body(), headers=HEADERS)).status
    assert 401 == (await receiver.handle(export_body(), headers=signed | {"Webhook-Id": "msg_2"})).status


def test_secrets_are_in_no_repr() -> None:
    """What is printed of a verifier or a receiver shows no secret."""
    verifiers = [PathSecret(SECRET, OTHER), BasicAuth("user", SECRET), Unauthenticated()]
    printed = " ".join(f"{each!r} {each} {WebhookReceiver(each)!r} {WebhookReceiver(each)}" for each in verifiers)
    printed += repr(WebhookReceiver(SECRET).path) + repr(WebhookReceiver(SECRET).routes())
    expected = [False, False, False]
    assert expected == [
        each in printed for each in (SECRET, OTHER, base64.b64encode(f"user:{SECRET}".encode()).decode())
    ]


def test_what_is_no_verifier_is_refused() -> None:
    """A receiver asks for something that verifies, and does not show what it got."""
    with pytest.raises(TypeError, match=r"auth must be a path secret or a Verifier with .*not bytes"):
        WebhookReceiver(SECRET.encode())  # type: ignore[arg-type]
    assert SECRET not in shown(lambda: WebhookReceiver(SECRET.encode()))  # type: ignore[arg-type]


def test_an_awaited_verifier_is_refused() -> None:
    """An async verify method would refuse every webhook."""

    class Awaited:
        async def verify(self, body: bytes, *, path: str, headers: Any) -> bool:
            """Accept."""
            return True

    with pytest.raises(TypeError, match="synchronous verify"):
        WebhookReceiver(Awaited())  # type: ignore[arg-type]


@pytest.mark.parametrize("body_timeout", [0, -1, float("nan"), float("inf")])
def test_an_odd_timeout_is_refused(body_timeout: float) -> None:
    """The timeout of a body is a positive number of seconds."""
    with pytest.raises(ValueError, match="body_timeout must be a positive number of seconds"):
        WebhookReceiver(SECRET, body_timeout=body_timeout)


@pytest.mark.parametrize("max_body", [0, -1, True, 1.5, None])
def test_an_odd_limit_is_refused(max_body: Any) -> None:
    """The limit of a body is a positive int."""
    with pytest.raises(ValueError, match="max_body must be a positive number of bytes"):
        WebhookReceiver(SECRET, max_body=max_body)
