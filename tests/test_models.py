"""The contract's schemas as classes: what they accept, keep, refuse and show."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any
from uuid import UUID

import attrs
import pytest

from avaturn_async import models
from avaturn_async.emulator.validation import contract
from avaturn_async.models import (
    AssetSlot,
    AssetSlots,
    AssetSlotWithColorRGB,
    AssetSlotWithColorRGBA,
    AvatarBody,
    AvatarListItem,
    BoneScale,
    CreateSessionConfig,
    EditExistingSessionConfig,
    ExportReadyWebhook,
    ExternalAvatarCustomization,
    HTTPValidationError,
    NewAvatarResponse,
    NewExportResponse,
    NewSessionRequest,
    NewSessionResponse,
    NewUserResponse,
    PhotoUpload,
    RenderReadyWebhook,
    RenderResult,
    RenderStatus,
    ScanStatus,
    ValidationError,
    as_uuid,
)

from .leaks import shows

TEXT = "0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00"
ID = UUID(TEXT)
JPEG = b"\xff\xd8\xff\xe0"
SECRET = "sesame"
LINK = f"https://files.example/a/model.glb?signature={SECRET}"
PHOTOS: dict[str, Any] = {"image_frontal": JPEG, "image_side_1": JPEG, "image_side_2": JPEG, "body_type": "male"}
CLASSES = [kind for name in models.__all__ if attrs.has(kind := getattr(models, name))]
#: Classes with other names than their schemas, and schemas that one class is for.
SCHEMAS = {
    "AssetSlotWithColorRGB": ["AssetSlotWithColor-RGB"],
    "AssetSlotWithColorRGBA": ["AssetSlotWithColor-RGBA"],
    "ExternalAvatarCustomization": ["ExternalAvatarCustomization-Input", "ExternalAvatarCustomization-Output"],
}


def schemas() -> dict[str, dict[str, Any]]:
    """Return the contract's schemas by name."""
    found: dict[str, dict[str, Any]] = contract()["components"]["schemas"]
    return found


def test_every_schema_has_a_class() -> None:
    """Each schema of the contract is a class of its name, or stands in the table of exceptions."""
    named = {name for kind in models.__all__ for name in SCHEMAS.get(kind, [kind])}
    assert set() == set(schemas()) - named


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_classes_have_the_fields_of_their_schemas(kind: type[attrs.AttrsInstance]) -> None:
    """The names are the contract's, and what the contract requires has no default that hides its absence."""
    fields = {
        field.name.replace("_", "-") if kind is PhotoUpload else field.name: field for field in attrs.fields(kind)
    }
    for name in SCHEMAS.get(kind.__name__, [kind.__name__]):
        schema = schemas()[name]
        assert set(schema["properties"]) == set(fields) - {"extra"}
        required = {name for name, field in fields.items() if field.default is attrs.NOTHING}
        assert required <= set(schema.get("required", ()))


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_classes_are_frozen_slotted_and_keyword_only(kind: type[attrs.AttrsInstance]) -> None:
    """What was read can't be changed by accident, and no field is set by its position."""
    assert hasattr(kind, "__slots__")
    assert all(field.kw_only for field in attrs.fields(kind))
    assert kind.__setattr__ is not object.__setattr__


def test_frozen() -> None:
    """Assigning to a field fails."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        AvatarListItem(id=ID, status=ScanStatus.READY).status = ScanStatus.FAILED  # type: ignore[misc]


def test_unknown_members_of_enums_survive() -> None:
    """A status that the contract doesn't name is a member of its own: equal, hashable, copied and pickled as itself."""
    paused = RenderStatus("paused")
    assert ("paused", "paused", "paused", False) == (paused, paused.value, paused.name, paused.known)
    assert [paused] * 3 == [RenderStatus("paused"), copy.deepcopy(paused), pickle.loads(pickle.dumps(paused))]
    assert 1 == len({paused, RenderStatus("paused")})
    assert paused not in list(RenderStatus)


def test_known_members_of_enums() -> None:
    """What the contract names is the one member of that name."""
    assert RenderStatus("ready") is RenderStatus.READY
    assert RenderStatus.READY.known
    assert AvatarBody("body_0") is AvatarBody.BODY_0


@pytest.mark.parametrize("value", [None, 1, b"ready"])
def test_enums_take_texts_alone(value: Any) -> None:
    """A value that is no text is no member."""
    with pytest.raises(ValueError, match="is not a valid"):
        ScanStatus(value)


@pytest.mark.parametrize("text", [TEXT, TEXT.upper(), TEXT.replace("-", "")])
def test_uuids_are_converted(text: str) -> None:
    """A UUID may be given as its text."""
    assert ID == as_uuid(text, "avatar_id")
    assert ID == AssetSlot(id=text).id


@pytest.mark.parametrize(
    "text", ["", "x", TEXT[:-1], f" {TEXT}", f"{TEXT}\n", f"{{{TEXT}}}", f"urn:uuid:{TEXT}", "é" * 32]
)
def test_other_texts_are_no_uuids(text: str) -> None:
    """Python's own leniency is not ours; the message names the field."""
    with pytest.raises(ValueError, match="avatar_id must be a UUID"):
        as_uuid(text, "avatar_id")
    with pytest.raises(ValueError, match=r"AssetSlot\.id must be a UUID"):
        AssetSlot(id=text)


def test_other_types_are_no_uuids() -> None:
    """The message names the field and the type."""
    with pytest.raises(TypeError, match=r"AssetSlot\.id must be a UUID or its text, not int"):
        AssetSlot(id=1)


BAD: list[tuple[type[Any], dict[str, Any], type[Exception], str]] = [
    (
        AssetSlotWithColorRGB,
        {"id": ID, "color": "red"},
        ValueError,
        "AssetSlotWithColorRGB.color must be a colour like",
    ),
    (AssetSlotWithColorRGB, {"id": ID, "color": "#a1b2c3ff"}, ValueError, "AssetSlotWithColorRGB.color"),
    (AssetSlotWithColorRGB, {"id": ID, "color": "#a1b2c3\n"}, ValueError, "AssetSlotWithColorRGB.color"),
    (AssetSlotWithColorRGBA, {"id": ID, "color": "#a1b2c3"}, ValueError, "AssetSlotWithColorRGBA.color"),
    (AssetSlotWithColorRGBA, {"id": ID, "color": 1}, ValueError, "AssetSlotWithColorRGBA.color"),
    (AssetSlots, {"clothing": TEXT}, TypeError, "AssetSlots.clothing must be an AssetSlot or None"),
    (AssetSlots, {"eyewear": AssetSlotWithColorRGB(id=ID)}, TypeError, "AssetSlots.eyewear must be"),
    (BoneScale, {"head": "1"}, TypeError, "BoneScale.head must be a number"),
    (BoneScale, {"arms": True}, TypeError, "BoneScale.arms must be a number"),
    (
        ExternalAvatarCustomization,
        {"assets": {}},
        TypeError,
        "ExternalAvatarCustomization.assets must be an AssetSlots",
    ),
    (ExternalAvatarCustomization, {"body": 0}, TypeError, "ExternalAvatarCustomization.body must be a str"),
    (ExternalAvatarCustomization, {"age": 3}, TypeError, "ExternalAvatarCustomization.age must be a str"),
    (ExternalAvatarCustomization, {"metadata": {"a": 1}}, TypeError, "metadata must map str to str; 'a' does not"),
    (ExternalAvatarCustomization, {"metadata": [("a", "b")]}, TypeError, "metadata must be a mapping of str to str"),
    (NewUserResponse, {"id": 1}, TypeError, "NewUserResponse.id must be a str"),
    (NewSessionRequest, {"user_id": None}, TypeError, "NewSessionRequest.user_id must be a str"),
    (NewSessionRequest, {"user_id": "u", "config": "create"}, TypeError, "config must be one of the session configs"),
    (CreateSessionConfig, {"type": "edit_existing"}, ValueError, "CreateSessionConfig.type must be 'create'"),
    (AvatarListItem, {"id": ID, "status": None}, TypeError, "AvatarListItem.status must be a str"),
    (PhotoUpload, PHOTOS | {"image_side_1": b"PNG"}, ValueError, "PhotoUpload.image_side_1 is not a JPEG"),
    (PhotoUpload, PHOTOS | {"image_side_1": b""}, ValueError, "begins with nothing"),
    (PhotoUpload, PHOTOS | {"image_frontal": "me.jpg"}, TypeError, "PhotoUpload.image_frontal must be bytes, not str"),
    (PhotoUpload, PHOTOS | {"body_type": "other"}, ValueError, "PhotoUpload.body_type must be 'male' or 'female'"),
    (PhotoUpload, PHOTOS | {"telephoto": "yes"}, TypeError, "PhotoUpload.telephoto must be a bool"),
    (PhotoUpload, PHOTOS | {"telephoto": 1}, TypeError, "PhotoUpload.telephoto must be a bool"),
]


@pytest.mark.parametrize(("kind", "values", "error", "said"), BAD)
def test_values_are_checked_where_they_are_given(
    kind: type[Any], values: dict[str, Any], error: type[Exception], said: str
) -> None:
    """The message names the class and the field."""
    with pytest.raises(error) as caught:
        kind(**values)
    assert said in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_must_be_finite(value: float) -> None:
    """JSON has no others, so they are refused here and not when they are sent."""
    with pytest.raises(ValueError, match=r"BoneScale\.head must be a finite number"):
        BoneScale(head=value)
    with pytest.raises(ValueError, match=r"skin_tone_correction must be a finite number"):
        ExternalAvatarCustomization(skin_tone_correction=value)


def test_long_values_are_cut_in_messages() -> None:
    """A message stays readable whatever was given."""
    with pytest.raises(ValueError, match="not '#") as caught:
        AssetSlotWithColorRGB(id=ID, color="#" * 10_000)
    assert len(str(caught.value)) < 250


def test_a_customization_is_whole_by_itself() -> None:
    """Without arguments it is the least that the contract accepts."""
    plain = ExternalAvatarCustomization()
    assert (AssetSlots(), AvatarBody.BODY_0) == (plain.assets, plain.body)


def test_unknown_bodies_are_accepted() -> None:
    """Further body presets are not documented, and do no harm."""
    assert "body_7" == ExternalAvatarCustomization(body="body_7").body  # type: ignore[arg-type]


SHOWN: list[Any] = [
    NewSessionResponse(id=ID, url=LINK, custom_upload_url=LINK),
    NewAvatarResponse(avatar_id=ID, upload_url=LINK),
    RenderResult(id=ID, status=RenderStatus.READY, render_url=LINK),
    NewExportResponse(status=RenderStatus.READY, url=LINK),
    ExportReadyWebhook(avatar_id=ID, user_id="u", status=RenderStatus.READY, export_url=LINK),
    RenderReadyWebhook(id=ID, avatar_id=ID, user_id="u", status=RenderStatus.READY, render_url=LINK),
]


@pytest.mark.parametrize("model", SHOWN, ids=lambda model: type(model).__name__)
def test_reprs_hide_what_gives_access(model: Any) -> None:
    """The query of a link is not shown, not even by printers that take a model apart or cut long strings."""
    assert "https://files.example/" in repr(model)
    assert not shows(model, SECRET)


def test_extra_hides_what_gives_access() -> None:
    """At every depth, in keys as well; the values themselves are whole."""
    link = f"https://files.example/{'long/' * 30}model.glb?sig={SECRET}"
    extra = {"urls": [{"glb": link}], link: 1, "text": "plain", "mail": f"https://user:{SECRET}@files.example/"}
    model = NewUserResponse(id="u", extra=extra)
    assert not shows(model, SECRET)
    assert extra == model.extra
    assert link in json.dumps(model.extra)


@pytest.mark.parametrize("model", SHOWN[:2], ids=lambda model: type(model).__name__)
def test_reprs_hide_paths_that_give_access(model: Any) -> None:
    """The links to a session and to an upload are shown by their host alone."""
    assert "model.glb" not in repr(model)


def test_photos_are_not_shown() -> None:
    """The repr has no megabytes, and no faces."""
    assert "image" not in repr(PhotoUpload(**PHOTOS))


@pytest.mark.parametrize("model", [*SHOWN, EditExistingSessionConfig(avatar_id=ID, extra={"a": [1]})])
def test_models_pickle_copy_and_hash(model: Any) -> None:
    """They go through queues, into sets and back."""
    assert [model] * 3 == [pickle.loads(pickle.dumps(model)), copy.copy(model), copy.deepcopy(model)]
    assert 1 == len({model, copy.deepcopy(model)})


def test_findings_keep_their_order() -> None:
    """The place of a finding is a tuple, whatever sequence it came in."""
    assert ("body", 0, "id") == ValidationError(loc=["body", 0, "id"], msg="m", type="t").loc


@pytest.mark.parametrize(
    ("model", "fields"),
    [(ValidationError, {"loc": [None]}), (ValidationError, {"loc": [True]}), (HTTPValidationError, {"detail": [{}]})],
)
def test_lists_are_checked_item_by_item(model: Any, fields: dict[str, Any]) -> None:
    """The message names the field."""
    (name,) = fields
    with pytest.raises(TypeError, match=f"{model.__name__}.{name} must be a list whose items are each a"):
        model(**{"msg": "m", "type": "t"} if model is ValidationError else {}, **fields)


def test_the_extra_of_a_model_belongs_to_it() -> None:
    """Two objects don't share what they keep."""
    assert AssetSlot(id=ID).extra is not AssetSlot(id=ID).extra
