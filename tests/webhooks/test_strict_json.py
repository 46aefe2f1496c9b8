"""The quick way to read JSON takes nothing that the strict one refuses, and reads it in the same way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from avaturn_async.webhooks import strict_json
from avaturn_async.webhooks.strict_json import parse_strict

from .samples import export_body

TEXT = st.text(max_size=8) | st.sampled_from(['"', "\\", "a", ":", ",", "\x00"])
VALUES = TEXT | st.none() | st.booleans() | st.integers() | st.floats() | st.lists(TEXT, max_size=2)
PAIRS = st.lists(st.tuples(st.sampled_from(["a", "b", 'c"']) | TEXT, VALUES), max_size=4)


def written(pairs: list[tuple[str, Any]], *, ascii_only: bool) -> bytes:
    """Write an object, with keys that may come twice."""
    inner = ", ".join(
        f"{json.dumps(k, ensure_ascii=ascii_only)}:{json.dumps(v, ensure_ascii=ascii_only)}" for k, v in pairs
    )
    return f"{{{inner}}}".encode("utf-8", "surrogatepass")


def outcome(body: bytes) -> Any:
    """Return what the strict way makes of a body: a value, or the refusal."""
    try:
        return strict_json._parse(body)
    except ValueError as error:
        return str(error)


def check(body: bytes) -> None:
    """Compare the two ways."""
    quick = strict_json._parse_plain(body)
    if quick is not None:
        assert quick == outcome(body)


@given(PAIRS, st.booleans())
@example([("a", "x"), ("a", "x")], False)
@example([("a", None), ("a", None)], False)
def test_the_quick_way_agrees(pairs: list[tuple[str, Any]], ascii_only: bool) -> None:
    """For objects of all kinds, also those whose keys come twice."""
    check(written(pairs, ascii_only=ascii_only))


@given(st.binary(max_size=40), st.integers(0, 100))
def test_the_quick_way_agrees_on_damage(noise: bytes, at: int) -> None:
    """For an event with bytes in it that nobody meant."""
    body = export_body()
    check(body[:at] + noise + body[at:])


def test_an_event_takes_the_quick_way() -> None:
    """Else it would not be one."""
    assert json.loads(export_body()) == strict_json._parse_plain(export_body())


@pytest.mark.parametrize(
    "body",
    [b'{"a":"x","a":"x"}', b'{"a":null,"a":null}', b'{"a":1e999}', b'{"a":NaN}', b'{"a":"\xff"}', b"\xef\xbb\xbf{}"],
)
def test_what_is_refused(body: bytes) -> None:
    """Whichever way is taken."""
    with pytest.raises(ValueError, match=r"."):
        parse_strict(body)


def test_without_orjson(monkeypatch: pytest.MonkeyPatch) -> None:
    """The strict way alone does it."""
    monkeypatch.setattr(strict_json, "orjson", None)
    assert json.loads(export_body()) == parse_strict(export_body())
