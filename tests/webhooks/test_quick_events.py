"""The quick way to read an event takes nothing that the strict one refuses, and makes the same of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from avaturn_async.http import codec
from avaturn_async.models import ExportReadyWebhook, RenderReadyWebhook
from avaturn_async.webhooks import parse_event
from avaturn_async.webhooks.quick_events import quick_event
from avaturn_async.webhooks.strict_json import parse_strict

A, B = "0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00", "0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f01"
EXPORT = {"event": "export.ready", "avatar_id": A, "user_id": "u", "status": "ready", "export_url": "https://x/y?z=1"}
RENDER = {"event": "render.ready", "id": B, "avatar_id": A, "user_id": "u", "status": "ready", "render_url": None}
KINDS = {"export.ready": ExportReadyWebhook, "render.ready": RenderReadyWebhook}

TEXTS = ["", "pending", "queued", A, A.upper(), A[:-1], 'a"']
ODD = st.sampled_from([None, True, 1, 1.5, [], ["a"], {}, {"a": "b"}, *TEXTS])
FIELDS = st.sampled_from([*EXPORT, *RENDER, "more"])


def check(body: bytes) -> None:
    """Compare what the quick way makes of a body with what the codec makes of the strict parser's value."""
    quick = quick_event(body)
    if quick is not None:
        value = parse_strict(body)
        assert codec.structure(value, KINDS[value["event"]]) == quick


def written(pairs: list[tuple[str, Any]]) -> bytes:
    """Write an object whose keys may come twice."""
    return ("{" + ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in pairs) + "}").encode()


@pytest.mark.parametrize("fields", [EXPORT, EXPORT | {"export_url": None, "status": "failed"}, RENDER])
def test_what_is_usual_takes_the_quick_way(fields: dict[str, Any]) -> None:
    """Else it would not be one."""
    body = json.dumps(fields).encode()
    assert codec.structure(fields, KINDS[fields["event"]]) == quick_event(body) == parse_event(body)


@given(st.sampled_from([EXPORT, RENDER]), st.lists(st.tuples(FIELDS, ODD), max_size=3), st.booleans())
@example(EXPORT, [("status", None)], True)
@example(EXPORT, [("event", [])], True)
@example(EXPORT, [("user_id", "u")], True)
@example(EXPORT, [("export_url", None), ("export_url", None)], False)
def test_it_agrees_on_odd_fields(fields: dict[str, Any], odd: list[tuple[str, Any]], first: bool) -> None:
    """Replaced, added, or there twice, whichever of the two comes first."""
    pairs = list(fields.items())
    check(written([*odd, *pairs] if first else [*pairs, *odd]))
    check(json.dumps(fields | dict(odd)).encode())


@given(st.sampled_from([EXPORT, RENDER]), st.sets(FIELDS, max_size=2))
def test_it_agrees_on_missing_fields(fields: dict[str, Any], gone: set[str]) -> None:
    """Which are an error, or have a default."""
    check(json.dumps({name: value for name, value in fields.items() if name not in gone}).encode())


@given(st.binary(max_size=12), st.integers(0, 200), st.integers(0, 12))
def test_it_agrees_on_damage(noise: bytes, at: int, lost: int) -> None:
    """For bytes in it that nobody meant."""
    body = json.dumps(EXPORT).encode()
    check(body[:at] + noise + body[at + lost :])


@pytest.mark.parametrize(
    "body", [b"[]", b"1", b'"event"', b"null", b"{}", b"", b'{"event":{}}', b'{"event":"avatar.ready"}']
)
def test_what_is_another_shape_is_left_to_the_strict_way(body: bytes) -> None:
    """Whatever it is."""
    assert quick_event(body) is None
