"""Resume tokens: what they hold, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, strategies as st

from avaturn_async import ConfigurationError
from avaturn_async.pending.resume_token import read_token, write_token

BASE = "https://api.avaturn.me"


def token(**changes: Any) -> str:
    """Make a token of an export, or something that is nearly one."""
    fields = json.loads(write_token("export", BASE, 1.5, {"avatar_id": "a"})) | changes
    return json.dumps({name: value for name, value in fields.items() if value is not None})


def test_a_token_holds_what_another_process_needs() -> None:
    """It is JSON with a version, and nothing that is not known."""
    text = write_token("export", BASE, 1_700_000_000.123456, {"avatar_id": "a", "position": None})
    expected = {"v": 1, "kind": "export", "base_url": BASE, "created": 1_700_000_000.123, "avatar_id": "a"}
    assert expected == json.loads(text)
    assert expected == read_token(text, kind="export", base_url=BASE)


@given(st.dictionaries(st.text().filter(lambda name: name not in ("v", "kind", "base_url", "created")), st.text()))
def test_fields_come_back(fields: dict[str, str]) -> None:
    """Whatever a kind of job writes, it reads."""
    read = read_token(write_token("avatar", BASE, 0, fields), kind="avatar", base_url=BASE)
    assert fields == {name: read[name] for name in fields}


@pytest.mark.parametrize("text", ["", "x", "null", "[]", "1", '"{}"', "{", "[" * 100_000, None, 1, b"\xff", ["a"]])
def test_what_is_no_token(text: Any) -> None:
    """The sentence says what is expected."""
    with pytest.raises(ValueError, match=r"a resume token is the JSON text that \.resume_token gave, unchanged"):
        read_token(text, kind="export", base_url=BASE)


@pytest.mark.parametrize("created", [None, "1", True, math.nan, math.inf, [1]])
def test_a_token_says_when_its_job_was_created(created: Any) -> None:
    """Without a number the age of the job would not be known."""
    with pytest.raises(ValueError, match="does not say when its job was created"):
        read_token(token(created=created), kind="export", base_url=BASE)


@pytest.mark.parametrize("version", [None, 0, 2, "1", [1] * 1000])
def test_a_token_of_another_version(version: Any) -> None:
    """It is refused, and not guessed at; the message stays short."""
    with pytest.raises(ValueError, match="this release reads 1") as caught:
        read_token(token(v=version), kind="export", base_url=BASE)
    assert len(str(caught.value)) < 100


def test_a_token_of_another_kind() -> None:
    """An export is not resumed as a render."""
    with pytest.raises(ValueError, match="this resume token is of the kind 'export', not 'avatar'"):
        read_token(token(), kind="avatar", base_url=BASE)


@pytest.mark.parametrize("base_url", [None, "https://other.example", 1])
def test_a_token_of_another_api(base_url: Any) -> None:
    """Its ids would mean something else there."""
    with pytest.raises(ConfigurationError, match=r"but the client's base_url is 'https://api\.avaturn\.me'"):
        read_token(token(base_url=base_url), kind="export", base_url=BASE)
