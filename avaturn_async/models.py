"""The contract's schemas as attrs classes, under their schema names.

All are frozen and keyword-only. Fields that the contract does not name are kept in `extra` and sent back. Constructors
check their values, and raise a ``ValueError`` or ``TypeError`` that names the field. Urls, and strings in `extra` that
look like one, are instances of str whose repr does not show the parts that give access.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal, Self, TypeAlias, cast
from uuid import UUID

import attrs

from .redact import SecretUrl, SignedUrl, mask_links, without_query

__all__ = [
    "AssetSlot",
    "AssetSlotWithColorRGB",
    "AssetSlotWithColorRGBA",
    "AssetSlots",
    "AvatarBody",
    "AvatarListItem",
    "AvatarReadyWebhook",
    "BoneScale",
    "CreateOrEditExistingSessionConfig",
    "CreateSessionConfig",
    "EditExistingSessionConfig",
    "ErrorBody",
    "ExportReadyWebhook",
    "ExternalAvatarCustomization",
    "HTTPValidationError",
    "NewAvatarRequest",
    "NewAvatarResponse",
    "NewExportResponse",
    "NewSessionRequest",
    "NewSessionResponse",
    "NewUserResponse",
    "OpenEnum",
    "PhotoUpload",
    "RenderReadyWebhook",
    "RenderResult",
    "RenderStatus",
    "ScanStatus",
    "SessionConfig",
    "ValidationError",
    "as_uuid",
]

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}")
_RGB = r"#[0-9a-fA-F]{6}"
_RGBA = r"#[0-9a-fA-F]{8}"
_JPEG = b"\xff\xd8\xff"

#: Marks a field that has a default in Python although JSON must have it.
REQUIRED = {"required": True}


def as_uuid(value: str | UUID, name: str) -> UUID:
    """Return `value` as a UUID, or raise a ValueError or TypeError that calls it `name`."""
    if isinstance(value, UUID):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a UUID or its text, not {type(value).__name__}")
    if not _UUID.fullmatch(value):
        raise ValueError(f"{name} must be a UUID, such as 0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00, not {value[:80]!r}")
    return UUID(value)


class OpenEnum(StrEnum):
    """An enum that accepts values it does not define, as members of their own: the API may add some."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_ = value
        member._value_ = value
        return member

    def __repr__(self) -> str:
        return f"<{type(self).__name__}.{without_query(self._name_)}: {mask_links(self._value_)!r}>"

    @property
    def known(self) -> bool:
        """Whether the contract names this value."""
        return self._name_ in type(self).__members__


class ScanStatus(OpenEnum):
    """State of the processing of an avatar's photos."""

    PENDING = "pending"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"


class RenderStatus(OpenEnum):
    """State of a render or an export."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"


class AvatarBody(OpenEnum):
    """A body preset; further members are not documented."""

    BODY_0 = "body_0"


def _where(instance: Any, attribute: attrs.Attribute[Any]) -> str:
    return f"{type(instance).__name__}.{attribute.name}"


# Converters leave values that they can't convert to the validators, which know the field's name.


def _uuid(value: str | UUID) -> UUID:
    return UUID(value) if isinstance(value, str) and _UUID.fullmatch(value) else cast("UUID", value)


def _body(value: str) -> AvatarBody:
    return AvatarBody(value) if isinstance(value, str) else value


def _scan_status(value: str) -> ScanStatus:
    return ScanStatus(value) if isinstance(value, str) else value


def _render_status(value: str) -> RenderStatus:
    return RenderStatus(value) if isinstance(value, str) else value


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value


def _masked(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return mask_links(dict(value)) if value else {}


def _is_uuid(instance: Any, attribute: attrs.Attribute[UUID], value: Any) -> None:
    if not isinstance(value, UUID):
        as_uuid(value, _where(instance, attribute))


def _is_a(kind: type | tuple[type, ...], said: str) -> Any:
    def check(instance: Any, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, kind):
            raise TypeError(f"{_where(instance, attribute)} must be {said}, not {value!r:.80}")

    return check


def _matches(pattern: str, said: str) -> Any:
    def check(instance: Any, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(f"{_where(instance, attribute)} must be a colour like {said}, not {value!r:.80}")

    return check


def _constant(expected: str) -> Any:
    def check(instance: Any, attribute: attrs.Attribute[Any], value: object) -> None:
        if value != expected:
            raise ValueError(f"{_where(instance, attribute)} must be {expected!r}, not {value!r:.80}")

    return attrs.field(default=expected, validator=check, metadata=REQUIRED)


def _strings(instance: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{_where(instance, attribute)} must be a mapping of str to str, not {value!r:.80}")
    for key, item in value.items():
        if not isinstance(key, str) or not isinstance(item, str):
            raise TypeError(f"{_where(instance, attribute)} must map str to str; {key!r:.40} does not")


def _jpeg(instance: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bytes):
        raise TypeError(f"{_where(instance, attribute)} must be bytes, not {type(value).__name__}")
    if not value.startswith(_JPEG):
        raise ValueError(
            f"{_where(instance, attribute)} is not a JPEG: it begins with {value[:4].hex(' ') or 'nothing'}"
        )


def _number(instance: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{_where(instance, attribute)} must be a number, not {value!r:.80}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{_where(instance, attribute)} must be a finite number, not {value!r}")


_optional = attrs.validators.optional
_text = _is_a(str, "a str")
_optional_text = _is_a((str, type(None)), "a str")


def _url(kind: type[str], *, required: bool = False) -> Any:
    """Return a field for a url that is an instance of `kind`, a masked str."""

    def convert(value: object) -> object:
        return kind(value) if isinstance(value, str) else value

    if required:
        return attrs.field(converter=convert, validator=_text)
    return attrs.field(default=None, converter=convert, validator=_optional_text)


def _list_of(check_item: Any) -> Any:
    return attrs.validators.deep_iterable(check_item, _is_a(tuple, "a list"))


def _step(instance: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(
            f"{_where(instance, attribute)} must be a list whose items are each a str or int, not {value!r:.80}"
        )


def _slot(kind: type[Any]) -> Any:
    return _is_a((kind, type(None)), f"an {kind.__name__} or None")


def _extra() -> Any:
    return attrs.field(factory=dict, hash=False, converter=_masked, validator=_is_a(dict, "a mapping"))


class _Schema:
    """The methods that all models share: generating them for each would take half of the time of importing them."""

    __slots__ = ()

    def _fields(self) -> Any:
        return attrs.fields(type(self))  # type: ignore[arg-type]  # a subclass has them

    def __repr__(self) -> str:
        # A link may come in any field.
        shown = (f"{field.name}={mask_links(getattr(self, field.name))!r}" for field in self._fields() if field.repr)
        return f"{type(self).__name__}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, field.name) == getattr(other, field.name) for field in self._fields())

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, field.name) for field in self._fields() if field.hash is None)))


# What an avatar looks like.


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AssetSlot(_Schema):
    """An asset in a slot."""

    id: UUID = attrs.field(converter=_uuid, validator=_is_uuid)
    extra: Mapping[str, Any] = _extra()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AssetSlotWithColorRGB(_Schema):
    """An asset with a colour without alpha, ``#rrggbb``: hair and headwear."""

    id: UUID = attrs.field(converter=_uuid, validator=_is_uuid)
    color: str | None = attrs.field(default=None, validator=_optional(_matches(_RGB, "#a1b2c3")))
    extra: Mapping[str, Any] = _extra()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AssetSlotWithColorRGBA(_Schema):
    """An asset with a colour with alpha, ``#rrggbbaa``: eyewear."""

    id: UUID = attrs.field(converter=_uuid, validator=_is_uuid)
    color: str | None = attrs.field(default=None, validator=_optional(_matches(_RGBA, "#a1b2c3ff")))
    extra: Mapping[str, Any] = _extra()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AssetSlots(_Schema):
    """At most one asset in each slot."""

    clothing: AssetSlot | None = attrs.field(default=None, validator=_slot(AssetSlot))
    hair_and_headwear: AssetSlotWithColorRGB | None = attrs.field(default=None, validator=_slot(AssetSlotWithColorRGB))
    eyewear: AssetSlotWithColorRGBA | None = attrs.field(default=None, validator=_slot(AssetSlotWithColorRGBA))
    footwear: AssetSlot | None = attrs.field(default=None, validator=_slot(AssetSlot))
    extra: Mapping[str, Any] = _extra()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class BoneScale(_Schema):
    """Body proportions; the web editor offers -100 to 100, the API's range is not stated."""

    head: float | None = attrs.field(default=None, validator=_optional(_number))
    arms: float | None = attrs.field(default=None, validator=_optional(_number))
    chest: float | None = attrs.field(default=None, validator=_optional(_number))
    extra: Mapping[str, Any] = _extra()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ExternalAvatarCustomization(_Schema):
    """The assets, body and other parameters of an avatar: the contract's Input and Output in one.

    It is serialized without nulls and with `extra`, so that one that is read, changed with ``attrs.evolve`` and written
    loses nothing.
    """

    assets: AssetSlots = attrs.field(
        factory=AssetSlots, validator=_is_a(AssetSlots, "an AssetSlots"), metadata=REQUIRED
    )
    body: AvatarBody = attrs.field(
        default=AvatarBody.BODY_0, converter=_body, validator=_is_a(AvatarBody, "a str"), metadata=REQUIRED
    )
    age: str | None = attrs.field(default=None, validator=_optional_text)
    metadata: Mapping[str, str] | None = attrs.field(default=None, validator=_optional(_strings), hash=False)
    bone_scale: BoneScale | None = attrs.field(default=None, validator=_slot(BoneScale))
    skin_tone_correction: float | None = attrs.field(default=None, validator=_optional(_number))
    extra: Mapping[str, Any] = _extra()


# Users, sessions, avatars.


@attrs.frozen(kw_only=True, eq=False, repr=False)
class NewUserResponse(_Schema):
    """A new user; its id is an opaque string."""

    id: str = attrs.field(validator=_text)
    extra: Mapping[str, Any] = _extra()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CreateSessionConfig(_Schema):
    """Open the creation flow."""

    type: Literal["create"] = _constant("create")
    extra: Mapping[str, Any] = _extra()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CreateOrEditExistingSessionConfig(_Schema):
    """Open the dashboard if the user has avatars, else the creation flow."""

    type: Literal["create_or_edit_existing"] = _constant("create_or_edit_existing")
    extra: Mapping[str, Any] = _extra()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class EditExistingSessionConfig(_Schema):
    """Open the editor for one avatar."""

    avatar_id: UUID = attrs.field(converter=_uuid, validator=_is_uuid)
    type: Literal["edit_existing"] = _constant("edit_existing")
    extra: Mapping[str, Any] = _extra()


SessionConfig: TypeAlias = CreateOrEditExistingSessionConfig | CreateSessionConfig | EditExistingSessionConfig

_CONFIGS = (CreateOrEditExistingSessionConfig, CreateSessionConfig, EditExistingSessionConfig)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class NewSessionRequest(_Schema):
    """The body of a request to sessions/new."""

    user_id: str = attrs.field(validator=_text)
    config: SessionConfig | None = attrs.field(
        default=None, validator=_is_a((*_CONFIGS, type(None)), "one of the session configs")
    )
    extra: Mapping[str, Any] = _extra()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class NewSessionResponse(_Schema):
    """A short-lived link that opens the Avaturn UI."""

    id: UUID = attrs.field(converter=_uuid, validator=_is_uuid)
    url: str = _url(SecretUrl, required=True)
    custom_upload_url: str | None = _url(SecretUrl)
    extra: Mapping[str, Any] = _extra()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class NewAvatarRequest(_Schema):
    """The body of a request to avatars/new."""

    user_id: str = attrs.field(validator=_text)
    extra: Mapping[str, Any] = _extra()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class NewAvatarResponse(_Schema):
    """A provisional avatar, whose photos are uploaded to `upload_url`."""

    avatar_id: UUID = attrs.field(converter=_uuid, validator=_is_uuid)
    upload_url: str = _url(SecretUrl, required=True)
    extra: Mapping[str, Any] = _extra()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class PhotoUpload(_Schema):
    """The form that is posted to an upload url: three JPEGs, and how they are to be interpreted."""

    image_frontal: bytes = attrs.field(validator=_jpeg, repr=False)
    image_side_1: bytes = attrs.field(validator=_jpeg, repr=False)
    image_side_2: bytes = attrs.field(validator=_jpeg, repr=False)
    body_type: Literal["male", "female"] = attrs.field()
    telephoto: bool = attrs.field(default=False, validator=_is_a(bool, "a bool"))

    @body_type.validator
    def _known_body_type(self, _: Any, value: object) -> None:
        if value not in ("male", "female"):
            raise ValueError(f"PhotoUpload.body_type must be 'male' or 'female', not {value!r:.80}")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AvatarListItem(_Schema):
    """An avatar of a user."""

    id: UUID = attrs.field(converter=_uuid, validator=_is_uuid)
    status: ScanStatus = attrs.field(converter=_scan_status, validator=_is_a(ScanStatus, "a str"))
    extra: Mapping[str, Any] = _extra()


# Jobs.


@attrs.frozen(kw_only=True, eq=False, repr=False)
class RenderResult(_Schema):
    """A rendering task; `render_url` is a temporary link."""

    id: UUID = attrs.field(converter=_uuid, validator=_is_uuid)
    status: RenderStatus = attrs.field(converter=_render_status, validator=_is_a(RenderStatus, "a str"))
    render_url: str | None = _url(SignedUrl)
    extra: Mapping[str, Any] = _extra()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class NewExportResponse(_Schema):
    """The state of an export; `url` is a temporary link, present once it is ready."""

    status: RenderStatus = attrs.field(converter=_render_status, validator=_is_a(RenderStatus, "a str"))
    url: str | None = _url(SignedUrl)
    extra: Mapping[str, Any] = _extra()


# Webhooks.


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AvatarReadyWebhook(_Schema):
    """An avatar's photos were processed; all fields but the id are inferred (contract)."""

    avatar_id: UUID = attrs.field(converter=_uuid, validator=_is_uuid)
    user_id: str | None = attrs.field(default=None, validator=_optional_text)
    session_id: str | None = attrs.field(default=None, validator=_optional_text)
    status: ScanStatus | None = attrs.field(
        default=None,
        converter=attrs.converters.optional(_scan_status),
        validator=_is_a((ScanStatus, type(None)), "a str"),
    )
    event: Literal["avatar.ready"] = _constant("avatar.ready")
    extra: Mapping[str, Any] = _extra()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class RenderReadyWebhook(_Schema):
    """A rendering task succeeded or failed; `id` is the one in the response of renders/new."""

    id: UUID = attrs.field(converter=_uuid, validator=_is_uuid)
    avatar_id: UUID = attrs.field(converter=_uuid, validator=_is_uuid)
    user_id: str = attrs.field(validator=_text)
    status: RenderStatus = attrs.field(converter=_render_status, validator=_is_a(RenderStatus, "a str"))
    render_url: str | None = _url(SignedUrl)
    event: Literal["render.ready"] = _constant("render.ready")
    extra: Mapping[str, Any] = _extra()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ExportReadyWebhook(_Schema):
    """An export task succeeded or failed; the event does not name the avatar's version."""

    avatar_id: UUID = attrs.field(converter=_uuid, validator=_is_uuid)
    user_id: str = attrs.field(validator=_text)
    status: RenderStatus = attrs.field(converter=_render_status, validator=_is_a(RenderStatus, "a str"))
    export_url: str | None = _url(SignedUrl)
    event: Literal["export.ready"] = _constant("export.ready")
    extra: Mapping[str, Any] = _extra()


# Errors as the API words them.


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ValidationError(_Schema):
    """One finding in the body of a 422 (not an exception)."""

    loc: Sequence[str | int] = attrs.field(converter=_tuple, validator=_list_of(_step))
    msg: str = attrs.field(validator=_text)
    type: str = attrs.field(validator=_text)
    extra: Mapping[str, Any] = _extra()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class HTTPValidationError(_Schema):
    """The body of a 422."""

    detail: Sequence[ValidationError] = attrs.field(
        default=(),
        converter=_tuple,
        validator=_list_of(_is_a(ValidationError, "a list whose items are each a ValidationError")),
    )
    extra: Mapping[str, Any] = _extra()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ErrorBody(_Schema):
    """The body of other errors, as far as it is documented."""

    detail: str | None = attrs.field(default=None, validator=_optional_text)
    extra: Mapping[str, Any] = _extra()
