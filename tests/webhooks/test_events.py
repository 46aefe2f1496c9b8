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
from avaturn_async.webhooks import key_of
from avaturn_async.webhooks.strict_json import MAX_DEPTH

from .samples import AVATAR, RENDER, avatar_event, export_body, export_event, render_body, render_event

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


@pytest.mark.parametrize(
    "body",
    [
        b'{"event": "x", "event": "y"}',
        b'{"event": "x", "a": {"b": [{"c": 1, "c": 1}]}}',
        b'{"event": "x", "a": 1, "\\u0061": 2}',
    ],
)
def test_duplicate_keys_are_refused(body: bytes) -> None:
    """The same key twice is refused at any depth, however it is written."""
    assert "the webhook can't be read: an object has the same key twice" == refusal(body)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_refused(number: str) -> None:
    """Python's extensions of JSON are refused."""
    assert f"the webhook can't be read: {number} is not JSON" == refusal(f'{{"event": "x", "n": [{number}]}}')


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_numbers_that_overflow_are_refused(number: str) -> None:
    """A number that would be read as an infinity is refused too."""
    assert "the webhook can't be read: a number is too large" == refusal(f'{{"event": "x", "n": {number}}}')


def test_huge_integers() -> None:
    """An integer is exact up to the interpreter's limit of digits, and refused beyond it."""
    event = parse_event(b'{"event": "x", "n": 1' + b"0" * 4000 + b"}")
    assert 10**4000 == event.body["n"] if isinstance(event, UnknownEvent) else None
    assert "the webhook can't be read" in refusal(b'{"event": "x", "n": 1' + b"0" * 60_000 + b"}")


def test_depth_is_bounded() -> None:
    """32 levels are read, and 33 are not."""
    assert isinstance(parse_event(nested(MAX_DEPTH)), UnknownEvent)
    assert "the webhook can't be read: it is nested more than 32 levels deep" == refusal(nested(MAX_DEPTH + 1))


def test_width_is_not_depth() -> None:
    """Many objects side by side are fine, and so are brackets in a str."""
    body = {"event": "x", "wide": [{"a": [n]} for n in range(50)], "text": '[{"\\' * 100}
    assert UnknownEvent("x", body) == parse_event(json.dumps(body))


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b"[{"])
def test_bottomless_nesting_is_refused(opening: bytes) -> None:
    """100,000 levels are a refusal and no RecursionError."""
    assert "levels deep" in refusal(opening * 100_000)


def test_what_is_not_utf_8_is_refused() -> None:
    """Other encodings are refused, with the place."""
    assert "the webhook can't be read: it is not UTF-8 at byte 11" == refusal(b'{"event": "\xff"}')
    assert "the webhook can't be read" in refusal('{"event": "x"}'.encode("utf-16"))
    assert "the webhook can't be read" in refusal(b'\xef\xbb\xbf{"event": "x"}')


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
