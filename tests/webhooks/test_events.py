"""Any bytes give an event, an unknown event, or one typed refusal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from avaturn_async import (
    AvatarReadyWebhook,
    ExportReadyWebhook,
    RenderReadyWebhook,
    UnknownEvent,
    WebhookError,
    parse_event,
)
from avaturn_async.redact import MaskedBytes
from avaturn_async.webhooks import key_of

from ..leaks import leaks
from .samples import AVATAR, RENDER, avatar_event, export_body, export_event, render_body, render_event

MAX_DEPTH = 32
EVENTS = (AvatarReadyWebhook, RenderReadyWebhook, ExportReadyWebhook, UnknownEvent)


def refusal(body: bytes | str) -> str:
    """Return what a refusal says."""
    with pytest.raises(WebhookError) as caught:
        parse_event(body)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return str(caught.value)


def nested(levels: int) -> bytes:
    """Return an event of so many levels, the outermost object included."""
    return b'{"event": "new", "x": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def test_an_export_is_read() -> None:
    """An export's event is read, and what is new in it is kept."""
    event = parse_event(export_body(export_url="https://e", version=7))
    assert export_event(export_url="https://e", extra={"version": 7}) == event


def test_a_render_is_read() -> None:
    """A render's event is read, from bytes and from a str."""
    assert render_event() == parse_event(render_body()) == parse_event(render_body().decode())


def test_an_avatar_is_read() -> None:
    """An avatar's event needs only the id."""
    assert avatar_event() == parse_event(json.dumps({"event": "avatar.ready", "avatar_id": str(AVATAR)}).encode())


def test_keys() -> None:
    """Each kind of event has a mailbox key of its own."""
    keys = [key_of(event) for event in (export_event(), avatar_event(), render_event())]
    assert [f"export:{AVATAR}", f"avatar:{AVATAR}", f"render:{RENDER}"] == keys


def test_an_unknown_event_keeps_its_body() -> None:
    """An event of another name is not an error, and loses nothing."""
    event = parse_event(b'{"event": "body.ready", "deep": {"er": [1, 2.5, null]}}')
    expected = UnknownEvent("body.ready", {"event": "body.ready", "deep": {"er": [1, 2.5, None]}})
    assert expected == event
    assert hash(expected) == hash(event)


def test_links_in_an_unknown_event_are_masked() -> None:
    """Its repr shows no query of a link, at any depth, and the links are the same."""
    event = parse_event(b'{"event": "new", "urls": [{"a": "https://h/p?signature=s3cret"}]}')
    assert isinstance(event, UnknownEvent)
    assert "s3cret" not in repr(event)
    assert "https://h/p" in repr(event)
    assert [{"a": "https://h/p?signature=s3cret"}] == event.body["urls"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_what_is_no_number_is_refused(number: str) -> None:
    """Python's extensions of JSON and numbers out of range are refused."""
    assert refusal(f'{{"event": "x", "n": [{number}]}}')


def test_depth_is_bounded() -> None:
    """32 levels are read, 33 and 100,000 are not."""
    assert isinstance(parse_event(nested(MAX_DEPTH)), UnknownEvent)
    for levels in (MAX_DEPTH + 1, 100_000):
        assert refusal(nested(levels))


@pytest.mark.parametrize(
    "body",
    [b'{"event": "\xff"}', '{"event": "x"}'.encode("utf-16"), b'\xef\xbb\xbf{"event": "x"}', '{"event": "\ud800"}'],
    ids=["bytes", "utf-16", "bom", "surrogate"],
)
def test_what_is_not_utf_8_is_refused(body: bytes | str) -> None:
    """Other encodings and lone surrogates are refused."""
    assert "the webhook can't be read: " in refusal(body)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"avatar.ready"', b"1", b"{", b"{}", b'{"event": 1}'])
def test_what_is_no_event_is_refused(body: bytes) -> None:
    """JSON of another shape is refused."""
    assert "the webhook can't be read" in refusal(body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"event": "avatar.ready"}', "$.avatar_id: it is missing"),
        (export_body(user_id=5), "$.user_id: expected a string, got a number"),
        (export_body(status=None), "$.status: expected a string, got null"),
        (render_body(id="7"), "$.id: "),
        (b"[]", "$: expected an object"),
        (b"{}", "$.event: expected a string"),
    ],
)
def test_the_place_is_named(body: bytes, said: str) -> None:
    """A refusal names the path of what is wrong."""
    assert refusal(body).startswith(f"the webhook can't be read: {said}")


@pytest.mark.parametrize("cut", range(10, 150, 20))
def test_a_refusal_shows_no_link(cut: int) -> None:
    """Neither the message nor the locals of a traceback show the query of a link, wherever the body is cut."""
    for body in (export_body(export_url="https://h/p?signature=s3cret", user_id=5), export_body(status=1)):
        for damaged in (body, body[:cut], body.replace(b"}", b"")):
            with pytest.raises(WebhookError) as caught:
                parse_event(MaskedBytes(damaged))
            assert [] == leaks(caught.value, "s3cret")


def json_values() -> st.SearchStrategy[Any]:
    """Make any JSON values."""
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    return st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(st.binary())
def test_any_bytes(body: bytes) -> None:
    """Whatever the bytes, the parser is total."""
    assert is_total(body)


NAMES = ["avatar.ready", "render.ready", "export.ready", "new"]
FIELDS = ["avatar_id", "user_id", "session_id", "status", "id", "render_url", "export_url", "extra"]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(NAMES),
    st.dictionaries(st.sampled_from(FIELDS), json_values() | st.just(str(AVATAR))),
)
def test_any_fields(name: str, fields: dict[str, Any]) -> None:
    """Whatever the fields of a known event, the parser is total."""
    assert is_total(json.dumps({"event": name} | fields).encode())


@given(st.sampled_from([export_body(), render_body()]), st.integers(0, 200), st.binary(max_size=4))
def test_any_damage(body: bytes, place: int, damage: bytes) -> None:
    """Whatever becomes of a good event on its way, the parser is total."""
    assert is_total(body[:place] + damage + body[place + len(damage) :])


def is_total(body: bytes) -> bool:
    """Say whether `body` gives an event or a refusal; any other error is raised."""
    try:
        return isinstance(parse_event(body), EVENTS)
    except WebhookError:
        return True
