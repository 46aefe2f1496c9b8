"""JSON to models and back."""

from __future__ import annotations

import contextlib
import json
from typing import Any
from unittest import mock
from uuid import UUID

import attrs
import pytest
from hypothesis import given, strategies as st

from avaturn_async.errors import ResponseFormatError
from avaturn_async.http import codec
from avaturn_async.models import (
    AssetSlot,
    AssetSlots,
    AssetSlotWithColorRGB,
    AssetSlotWithColorRGBA,
    AvatarBody,
    AvatarListItem,
    AvatarReadyWebhook,
    BoneScale,
    CreateOrEditExistingSessionConfig,
    CreateSessionConfig,
    EditExistingSessionConfig,
    ErrorBody,
    ExportReadyWebhook,
    ExternalAvatarCustomization,
    HTTPValidationError,
    NewAvatarResponse,
    NewExportResponse,
    NewSessionRequest,
    NewSessionResponse,
    NewUserResponse,
    RenderReadyWebhook,
    RenderResult,
    RenderStatus,
    SessionConfig,
    ValidationError,
)
from avaturn_async.redact import MaskedBytes

from ..leaks import leaks

TEXT = "0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00"
ID = UUID(TEXT)

# What JSON there is, nulls in objects being dropped when a model is sent.
scalars = st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
uuids = st.uuids().map(str)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-1000, 1000)
hex_digits = st.text("0123456789abcdefABCDEF", min_size=6, max_size=6)


def objects(required: dict[str, Any], optional: dict[str, Any]) -> Any:
    """Make objects with these fields, and others that the contract does not name."""
    named = set(required) | set(optional)
    unknown = st.dictionaries(st.text().filter(lambda name: name not in named), values, max_size=3)
    known = st.fixed_dictionaries(required, optional=optional)
    return st.tuples(unknown, known).map(lambda parts: parts[0] | parts[1])


plain_slots = objects({"id": uuids}, {})
rgb_slots = objects({"id": uuids}, {"color": hex_digits.map("#{}".format)})
rgba_slots = objects({"id": uuids}, {"color": hex_digits.map("#{}00".format)})
assets = objects(
    {}, {"clothing": plain_slots, "hair_and_headwear": rgb_slots, "eyewear": rgba_slots, "footwear": plain_slots}
)
customizations = objects(
    {"assets": assets, "body": st.text()},
    {
        "age": st.text(),
        "metadata": st.dictionaries(st.text(), st.text(), max_size=3),
        "bone_scale": objects({}, {"head": numbers, "arms": numbers, "chest": numbers}),
        "skin_tone_correction": numbers,
    },
)
statuses = st.sampled_from(["pending", "ready", "failed"]) | st.text()


@given(customizations)
def test_read_change_write_erases_nothing(sent: dict[str, Any]) -> None:
    """A customization that is read, changed and written differs from what was read in what was changed alone."""
    read = codec.load(json.dumps(sent).encode(), ExternalAvatarCustomization)
    assert sent == json.loads(codec.dumps(read))
    changed = attrs.evolve(read, age="adult", assets=attrs.evolve(read.assets, footwear=AssetSlot(id=ID)))
    expected = {**sent, "age": "adult", "assets": {**sent["assets"], "footwear": {"id": TEXT}}}
    assert expected == json.loads(codec.dumps(changed))


KINDS: list[tuple[type[Any], Any]] = [
    (NewUserResponse, objects({"id": st.text()}, {})),
    (NewSessionResponse, objects({"id": uuids, "url": st.text()}, {"custom_upload_url": st.text()})),
    (NewAvatarResponse, objects({"avatar_id": uuids, "upload_url": st.text()}, {})),
    (AvatarListItem, objects({"id": uuids, "status": statuses}, {})),
    (RenderResult, objects({"id": uuids, "status": statuses}, {"render_url": st.text()})),
    (NewExportResponse, objects({"status": statuses}, {"url": st.text()})),
    (
        RenderReadyWebhook,
        objects(
            {
                "event": st.just("render.ready"),
                "id": uuids,
                "avatar_id": uuids,
                "user_id": st.text(),
                "status": statuses,
            },
            {"render_url": st.text()},
        ),
    ),
    (ErrorBody, objects({}, {"detail": st.text()})),
]


@pytest.mark.parametrize(("kind", "bodies"), KINDS, ids=[kind.__name__ for kind, _ in KINDS])
@given(data=st.data())
def test_models_come_back_as_they_were(kind: type[Any], bodies: Any, data: st.DataObject) -> None:
    """JSON to model to JSON is the same JSON, and the same model again."""
    body = data.draw(bodies)
    model = codec.load(json.dumps(body).encode(), kind)
    assert body == codec.unstructure(model)
    assert model == codec.load(codec.dumps(model), kind)


@given(st.binary() | values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_a_model_or_one_error(body: bytes) -> None:
    """Whatever an answer is, nothing but ResponseFormatError comes out."""
    for kind in (ExternalAvatarCustomization, HTTPValidationError, list[AvatarListItem]):
        with contextlib.suppress(ResponseFormatError):
            codec.load(body, kind)


def test_nulls_are_not_sent() -> None:
    """A field without a value is left out, at every depth."""
    model = ExternalAvatarCustomization(
        assets=AssetSlots(clothing=AssetSlot(id=ID, extra={"shade": None})),
        bone_scale=BoneScale(head=1),
        extra={"a": None},
    )
    expected = {"assets": {"clothing": {"id": TEXT}}, "body": "body_0", "bone_scale": {"head": 1}}
    assert expected == codec.unstructure(model)


def test_nulls_are_read() -> None:
    """What the contract lets be null is None."""
    body = b'{"assets":{"clothing":null},"body":"body_0","age":null,"metadata":null,"bone_scale":null}'
    assert ExternalAvatarCustomization() == codec.load(body, ExternalAvatarCustomization)


def test_unknown_fields_are_kept() -> None:
    """They are in `extra`, one that is called extra included."""
    model = codec.load(b'{"id":"u","plan":{"seats":[1,null]},"extra":1}', NewUserResponse)
    assert {"plan": {"seats": [1, None]}, "extra": 1} == model.extra


def test_extra_never_replaces_a_field() -> None:
    """What a class names is sent from its field."""
    assert {"id": "u"} == codec.unstructure(NewUserResponse(id="u", extra={"id": "forged"}))


def test_unreadable_fields_keep_their_order() -> None:
    """What a model keeps does not depend on the hashes of strings."""
    slots = dict.fromkeys(("footwear", "clothing", "eyewear", "hair_and_headwear"), 1)
    assert list(slots) == list(codec.structure(slots, AssetSlots).extra)


def test_unknown_statuses_are_read() -> None:
    """They are members of their own."""
    status = codec.load(b'{"status":"queued"}', NewExportResponse).status
    assert (RenderStatus("queued"), False) == (status, status.known)


@pytest.mark.parametrize(
    "config", [CreateSessionConfig(), CreateOrEditExistingSessionConfig(), EditExistingSessionConfig(avatar_id=ID)]
)
def test_session_configs_are_told_apart_by_their_type(config: SessionConfig) -> None:
    """A request of a session comes back with the class of its config."""
    request = NewSessionRequest(user_id="u", config=config)
    assert request == codec.load(codec.dumps(request), NewSessionRequest)


def test_a_session_without_a_config() -> None:
    """It is left out, not null."""
    assert b'{"user_id":"u"}' == codec.dumps(NewSessionRequest(user_id="u"))


LOOK = ExternalAvatarCustomization
MISMATCHES: list[tuple[Any, Any, str]] = [
    (AssetSlot, {}, "$.id: it is missing"),
    (AssetSlot, {"id": "x?secret"}, "$.id: expected a UUID, got a string"),
    (LOOK, {"assets": {}}, "$.body: expected a string, got nothing"),
    (LOOK, {"body": "b"}, "$.assets: expected an object, got nothing"),
    (LOOK, {"assets": None, "body": "b"}, "$.assets: expected an object, got null"),
    (LOOK, {"assets": {}, "body": 1}, "$.body: expected a string, got a number"),
    (NewUserResponse, [], "$: expected an object, got an array"),
    (NewUserResponse, {"id": 1}, "$.id: expected a string, got a number"),
    (NewUserResponse, {"id": True}, "$.id: expected a string, got a boolean"),
    (list[AvatarListItem], {}, "$: expected an array, got an object"),
    (list[AvatarListItem], [{"id": TEXT}], "$[0].status: it is missing"),
    (ValidationError, {"loc": ["a", 1.5], "msg": "m", "type": "t"}, "$.loc[1]: expected a string or a whole number"),
    (ValidationError, {"loc": ["a", True], "msg": "m", "type": "t"}, "$.loc[1]: expected a string or a whole number"),
    (ExportReadyWebhook, {"event": "x?secret"}, "$.avatar_id: it is missing"),
    (CreateSessionConfig, {"type": "x?secret"}, "$.type: expected 'create', got a string"),
]


@pytest.mark.parametrize(("kind", "value", "problem"), MISMATCHES)
def test_an_error_names_the_place(kind: Any, value: Any, problem: str) -> None:
    """The message has the path and the problem, and none of the content."""
    with pytest.raises(codec.MismatchError) as caught:
        codec.structure(value, kind)
    assert str(caught.value).startswith(problem)
    assert caught.value.where == problem.partition(":")[0]
    assert [] == leaks(caught.value, "secret")


ODD: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
    (AssetSlotWithColorRGB, {"id": TEXT, "color": "red"}, {"color": "red"}),
    (AssetSlotWithColorRGBA, {"id": TEXT, "color": "#fff"}, {"color": "#fff"}),
    (AssetSlots, {"clothing": {}, "footwear": {"id": TEXT}}, {"clothing": {}}),
    (BoneScale, {"head": "1", "arms": 2}, {"head": "1"}),
    (
        LOOK,
        {"assets": {}, "body": "b", "age": 1, "skin_tone_correction": True},
        {"age": 1, "skin_tone_correction": True},
    ),
    (LOOK, {"assets": {}, "body": "b", "metadata": {"a": 1}, "new": 1}, {"metadata": {"a": 1}, "new": 1}),
    (
        AvatarReadyWebhook,
        {"event": "avatar.ready", "avatar_id": TEXT, "user_id": 1, "session_id": [], "status": {}},
        {"user_id": 1, "session_id": [], "status": {}},
    ),
    (NewExportResponse, {"status": "ready", "url": 5}, {"url": 5}),
]


@pytest.mark.parametrize(("kind", "value", "kept"), ODD)
def test_odd_optional_fields_are_kept(kind: Any, value: dict[str, Any], kept: dict[str, Any]) -> None:
    """They count as absent, stay in `extra`, and go back as they came."""
    model = codec.structure(value, kind)
    assert kept == model.extra
    assert value == codec.unstructure(model)


def test_a_change_replaces_an_odd_field() -> None:
    """The field of the class has precedence over what was kept."""
    slot = codec.structure({"id": TEXT, "color": "red"}, AssetSlotWithColorRGB)
    assert {"id": TEXT, "color": "#a1b2c3"} == codec.unstructure(attrs.evolve(slot, color="#a1b2c3"))


def test_one_unreadable_item_does_not_take_the_others_with_it(caplog: pytest.LogCaptureFixture) -> None:
    """It is left out, and the log says where and why."""
    items = [{"id": TEXT, "status": "ready"}, {"id": "x?secret", "status": "ready"}, 5]
    assert [TEXT] == [str(item.id) for item in codec.structure(items, list[AvatarListItem])]
    assert "left out item 1 of a list of AvatarListItem: $.id: expected a UUID, got a string" in caplog.text
    assert "left out item 2" in caplog.text
    assert "secret" not in caplog.text


@pytest.fixture(params=["orjson", "json"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Parse with orjson, or without."""
    if request.param == "json":
        monkeypatch.setattr(codec, "orjson", None)
    return str(request.param)


NOT_JSON = {
    "empty": b"",
    "html": b"<html>secret",
    "latin-1": b'"secret\xff"',
    "cut": b'{"url": "https://a.example/?secret',
    "NaN": b'{"a":NaN}',
    "overflow": b'{"a":1e999}',
    "lone surrogate": b'{"a":"secret\\ud800"}',
    "encoded surrogate": b'"\xed\xa0\x80"',
    "byte order mark": b"\xef\xbb\xbf{}",
    "deep": b'{"a":' * 33 + b'"secret"' + b"}" * 33,
    "deeper": b"[" * 100_000,
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_no_json(parser: str, body: bytes) -> None:
    """With either parser it is one ValueError that shows nothing of the content."""
    with pytest.raises(ValueError, match=r".") as caught:
        codec.parse_json(body)
    assert [] == leaks(caught.value, "secret")
    with pytest.raises(ResponseFormatError, match="the response is not JSON: ") as caught_response:
        codec.load(MaskedBytes(body), NewUserResponse)
    assert [] == leaks(caught_response.value, "secret")


def test_text_is_parsed_like_bytes(parser: str) -> None:
    """A lone surrogate in it is refused, too."""
    assert {"a": "é"} == codec.parse_json('{"a":"é"}')
    with pytest.raises(ValueError, match=r"UTF-8|surrogate"):
        codec.parse_json('"\ud800"')


def test_depth_is_not_width(parser: str) -> None:
    """Many small values pass, and so do as many levels as are allowed."""
    wide = b"[" + b",".join([b'{"a":[]}'] * 1000) + b"]"
    assert 1000 == len(codec.parse_json(wide))
    assert [] != codec.parse_json(b"[" * codec.MAX_DEPTH + b"]" * codec.MAX_DEPTH)


def test_both_parsers_agree(parser: str) -> None:
    """The model does not depend on what is installed."""
    body = '{"id":"é","n":[1,2.5,true,null]}'.encode()
    assert NewUserResponse(id="é", extra={"n": [1, 2.5, True, None]}) == codec.load(body, NewUserResponse)


def test_huge_whole_numbers_are_numbers() -> None:
    """A whole number beyond what a float holds does no harm."""
    with mock.patch.object(codec, "orjson", None):
        body = b'{"assets":{},"body":"b","bone_scale":{"head":1' + b"0" * 400 + b"}}"
        scale = codec.load(body, ExternalAvatarCustomization).bone_scale
    assert BoneScale(head=10**400) == scale


def test_what_json_has_not_is_refused_when_it_is_sent() -> None:
    """A NaN in `extra` is no JSON."""
    with pytest.raises(ValueError, match="JSON"):
        codec.dumps(NewUserResponse(id="u", extra={"a": float("nan")}))


def test_plain_values_are_serialized_as_they_are() -> None:
    """`dumps` is for models and for what is JSON already."""
    assert b'{"a":[1,null]}' == codec.dumps({"a": [1, None]})


def test_a_body_is_sent_by_its_name() -> None:
    """Enums are sent as texts."""
    assert "body_0" == codec.unstructure(ExternalAvatarCustomization(body=AvatarBody.BODY_0))["body"]


def test_findings_are_sent_as_an_array() -> None:
    """A sequence of models is an array of objects."""
    body = {"detail": [{"loc": ["body", 0], "msg": "m", "type": "t", "ctx": {}}]}
    assert body == codec.unstructure(codec.structure(body, HTTPValidationError))
