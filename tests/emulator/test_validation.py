"""Invalid requests, answered as FastAPI does."""

import gzip
import json
from typing import Any

import pytest

from avaturn_async.emulator import Emulator

from .kit import NOBODY, Caller

DRESS = f"avatars/{NOBODY}/customization"
OUTFIT = {"assets": {}, "body": "body_0"}


@pytest.mark.parametrize(
    ("path", "query", "issues"),
    [
        ("exports/new", {}, [("avatar_id", "missing")]),
        ("exports/new", {"avatar_id": "x"}, [("avatar_id", "uuid_parsing")]),
        ("exports/new", {"avatar_id": NOBODY.replace("-", "")}, [("avatar_id", "uuid_parsing")]),
        ("exports/new", {"avatar_id": [NOBODY, NOBODY]}, [("avatar_id", "string_type")]),
        ("renders/new", {}, [("avatar_id", "missing"), ("scene", "missing")]),
        ("renders/new", {"avatar_id": NOBODY, "scene": ""}, [("scene", "string_pattern_mismatch")]),
        ("renders/new", {"avatar_id": NOBODY, "scene": "a-b"}, [("scene", "string_pattern_mismatch")]),
        ("renders/new", {"avatar_id": NOBODY, "scene": "ab\n"}, [("scene", "string_pattern_mismatch")]),
        ("renders/new", {"avatar_id": NOBODY, "scene": "a", "format": "gif"}, [("format", "enum")]),
    ],
)
async def test_wrong_queries(caller: Caller, path: str, query: dict[str, Any], issues: list[tuple[str, str]]) -> None:
    """Each invalid parameter is named with the rule that it violates."""
    status, body = await caller.answer("POST", path, params=query)
    assert status == 422
    assert [(issue["loc"], issue["type"]) for issue in body["detail"]] == [
        (["query", name], rule) for name, rule in issues
    ]
    assert all(issue["msg"] for issue in body["detail"])


@pytest.mark.parametrize("value", ["True", "1", ""])
async def test_a_boolean_is_true_or_false(caller: Caller, value: str) -> None:
    """The contract's boolean is written as JSON writes it."""
    status, body = await caller.answer("GET", "users/x/avatars", params={"include_not_ready": value})
    assert (status, body["detail"][0]["loc"]) == (422, ["query", "include_not_ready"])


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "avatars/x/customization", "id"),
        ("PUT", "avatars/x/customization", "id"),
        ("DELETE", "users/y/avatars/x", "avatar_id"),
    ],
)
async def test_wrong_paths(caller: Caller, method: str, path: str, name: str) -> None:
    """The ids of avatars in paths must be UUIDs."""
    status, body = await caller.answer(method, path)
    assert (status, body["detail"][0]["loc"]) == (422, ["path", name])


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        pytest.param(b"", "missing", id="empty"),
        pytest.param(b"{", "json_invalid", id="incomplete"),
        pytest.param(b"\xff", "json_invalid", id="not-utf-8"),
        pytest.param(b'{"user_id": NaN}', "json_invalid", id="nan"),
        pytest.param(b'{"user_id": 1e999}', "json_invalid", id="infinity"),
        pytest.param(b'{"user_id": ' + b"1" * 5000 + b"}", "json_invalid", id="many-digits"),
        pytest.param(b"[" * 100_000, "json_invalid", id="bombs-the-stack"),
        pytest.param(b'{"user_id": "x", "new": ' + b"[" * 40 + b"]" * 40 + b"}", "json_invalid", id="too-deep"),
        pytest.param(b"[]", "model_attributes_type", id="array"),
        pytest.param(b'"x"', "model_attributes_type", id="string"),
    ],
)
async def test_bodies_without_an_object(caller: Caller, body: bytes, rule: str) -> None:
    """They are refused as a whole."""
    status, answer = await caller.answer("POST", "avatars/new", data=body, headers={"Content-Type": "application/json"})
    assert (status, answer["detail"][0]["loc"], answer["detail"][0]["type"]) == (422, ["body"], rule)


async def test_json_needs_its_content_type(caller: Caller) -> None:
    """A body of another type is not read."""
    headers = {"Content-Type": "text/plain"}
    status, _ = await caller.answer("POST", "avatars/new", data=b'{"user_id": "x"}', headers=headers)
    assert status == 422


async def test_encoded_bodies_are_not_decoded(caller: Caller) -> None:
    """The contract has no Content-Encoding, and a wrong one breaks nothing."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    for body in (b'{"user_id": "x"}', gzip.compress(b'{"user_id": "x"}')):
        status, _ = await caller.answer("POST", "avatars/new", data=body, headers=headers)
        assert status in (404, 422)


async def test_nested_unknown_fields_are_accepted(caller: Caller) -> None:
    """Up to a bounded depth."""
    extra = json.loads("[" * 20 + "1.5" + "]" * 20)
    assert (await caller.answer("POST", "avatars/new", json={"user_id": "x", "new": extra}))[0] == 404


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({}, ["user_id"]),
        ({"user_id": 1}, ["user_id"]),
        ({"user_id": "x", "config": None}, ["config"]),
        ({"user_id": "x", "config": {}}, ["config"]),
        ({"user_id": "x", "config": {"type": "edit"}}, ["config"]),
        ({"user_id": "x", "config": {"type": []}}, ["config"]),
        ({"user_id": "x", "config": {"type": "edit_existing"}}, ["config", "edit_existing", "avatar_id"]),
    ],
)
async def test_wrong_sessions(caller: Caller, body: dict[str, Any], loc: list[str]) -> None:
    """The type decides which config is expected."""
    status, answer = await caller.answer("POST", "sessions/new", json=body)
    assert (status, answer["detail"][0]["loc"]) == (422, ["body", *loc])


@pytest.mark.parametrize(
    ("change", "loc"),
    [
        ({"assets": None}, ["assets"]),
        ({"assets": {"clothing": {}}}, ["assets", "clothing", "id"]),
        ({"assets": {"clothing": {"id": "x"}}}, ["assets", "clothing", "id"]),
        (
            {"assets": {"hair_and_headwear": {"id": NOBODY, "color": "#12345678"}}},
            ["assets", "hair_and_headwear", "color"],
        ),
        ({"assets": {"eyewear": {"id": NOBODY, "color": "#123456"}}}, ["assets", "eyewear", "color"]),
        ({"body": 0}, ["body"]),
        ({"age": None}, ["age"]),
        ({"metadata": []}, ["metadata"]),
        ({"metadata": {"a": 1}}, ["metadata", "a"]),
        ({"bone_scale": {"head": "1"}}, ["bone_scale", "head"]),
        ({"bone_scale": {"head": True}}, ["bone_scale", "head"]),
        ({"skin_tone_correction": "1"}, ["skin_tone_correction"]),
    ],
)
async def test_wrong_customizations(caller: Caller, change: dict[str, Any], loc: list[str]) -> None:
    """The first error names the field."""
    status, answer = await caller.answer("PUT", DRESS, json=OUTFIT | change)
    assert (status, answer["detail"][0]["loc"]) == (422, ["body", *loc])


async def test_a_customization_with_all_fields_is_accepted(emulator: Emulator, caller: Caller) -> None:
    """It comes back as it was sent."""
    avatar_id = await caller.scanned()
    outfit = emulator.catalogue.outfit()
    outfit["assets"]["hair_and_headwear"]["color"] = "#00Aa99"
    outfit["assets"]["eyewear"]["color"] = "#00Aa99ff"
    outfit["assets"]["footwear"] = None
    body = {"age": "adult", "metadata": {"a": "b"}, "bone_scale": {"head": -3.5}, "skin_tone_correction": 4}
    await caller.call("PUT", f"avatars/{avatar_id}/customization", json=outfit | body)
    assert (await caller.call("GET", f"avatars/{avatar_id}/customization")) == outfit | body
