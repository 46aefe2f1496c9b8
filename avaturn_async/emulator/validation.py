"""Request validation against the contract, and errors in the shapes that FastAPI gives them."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

__all__ = [
    "CUSTOMIZATION",
    "EVENTS",
    "EXPORT",
    "LISTING",
    "RENDER",
    "SESSION",
    "SLOTS",
    "USER",
    "ApiError",
    "Check",
    "Issue",
    "Loc",
    "invalid",
    "parse",
    "require",
    "uuid",
]

Loc = tuple[str | int, ...]

MAX_DEPTH = 32


class Issue(NamedTuple):
    """One violation of the contract, as FastAPI reports it: location, message, and the name of the rule."""

    loc: Loc
    msg: str
    type: str


Check = Callable[[Any, Loc], Iterator[Issue]]


class ApiError(Exception):
    """End a request with this status and `detail`."""

    def __init__(self, status: int, detail: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(str(detail))
        self.status = status
        self.detail = detail
        self.headers = headers


def invalid(issues: Iterable[Issue]) -> ApiError:
    """Return the 422 that lists these issues."""
    return ApiError(422, [issue._asdict() for issue in issues])


def require(value: Any, check: Check, loc: Loc) -> Any:
    """Return a value that passes a check, or raise the 422 that lists its issues."""
    issues = [*check(value, loc)]
    if issues:
        raise invalid(issues)
    return value


def parse(body: bytes, content_type: str) -> Any:
    """Decode a JSON body, or raise a 422. NaN, infinities and deep nesting are refused: no answer could hold them."""
    if not body:
        raise invalid([Issue(("body",), "Field required", "missing")])
    if content_type != "application/json":
        raise invalid([_not_an_object(("body",))])
    try:
        value = json.loads(body.decode())
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        raise invalid([Issue(("body",), "JSON decode error", "json_invalid")]) from None
    if _deeper_than(MAX_DEPTH, value):
        raise invalid([Issue(("body",), "JSON nested too deeply", "json_invalid")])
    return value


def _deeper_than(levels: int, value: Any) -> bool:
    if not isinstance(value, dict | list):
        return False
    items = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper_than(levels - 1, item) for item in items)


def _not_an_object(loc: Loc) -> Issue:
    return Issue(loc, "Input should be a valid dictionary or object", "model_attributes_type")


def _string(pattern: str | None = None, rule: str = "string_pattern_mismatch") -> Check:
    matches = re.compile(pattern or r"(?s:.*)").fullmatch

    def check(value: Any, loc: Loc) -> Iterator[Issue]:
        if not isinstance(value, str):
            yield Issue(loc, "Input should be a valid string", "string_type")
        elif not matches(value):
            yield Issue(loc, f"String should match pattern '^{pattern}$'", rule)

    return check


def _number(value: Any, loc: Loc) -> Iterator[Issue]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield Issue(loc, "Input should be a valid number", "float_type")


def _choice(*members: str) -> Check:
    wanted = " or ".join(map(repr, members))

    def check(value: Any, loc: Loc) -> Iterator[Issue]:
        if value not in members:
            yield Issue(loc, f"Input should be {wanted}", "enum")

    return check


def _nullable(inner: Check) -> Check:
    return lambda value, loc: iter(()) if value is None else inner(value, loc)


def _texts(value: Any, loc: Loc) -> Iterator[Issue]:
    """Check for an object whose values are strings."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _text(item, (*loc, key))
    else:
        yield _not_an_object(loc)


def _record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """Check for an object with these fields; unknown fields pass."""
    fields = {**required, **(optional or {})}

    def check(value: Any, loc: Loc) -> Iterator[Issue]:
        if not isinstance(value, Mapping):
            yield _not_an_object(loc)
            return
        for name, inner in fields.items():
            if name in value:
                yield from inner(value[name], (*loc, name))
            elif name in required:
                yield Issue((*loc, name), "Field required", "missing")

    return check


def _tagged(tag: str, members: Mapping[str, Check]) -> Check:
    """Check for one of several objects that the field `tag` tells apart."""
    wanted = ", ".join(map(repr, members))

    def check(value: Any, loc: Loc) -> Iterator[Issue]:
        if not isinstance(value, Mapping):
            yield _not_an_object(loc)
        elif tag not in value:
            yield Issue(loc, f"Unable to extract tag using discriminator '{tag}'", "union_tag_not_found")
        elif not isinstance(value[tag], str) or value[tag] not in members:
            yield Issue(loc, f"Input tag found using '{tag}' does not match any of {wanted}", "union_tag_invalid")
        else:
            yield from members[value[tag]](value, (*loc, value[tag]))

    return check


# The contract's schemas.

uuid: Check = _string(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", "uuid_parsing")
_text = _string()
_plain_slot = _record({"id": uuid})
_rgb_slot = _record({"id": uuid}, {"color": _nullable(_string("#[0-9a-fA-F]{6}"))})
_rgba_slot = _record({"id": uuid}, {"color": _nullable(_string("#[0-9a-fA-F]{8}"))})
_slots = {"clothing": _plain_slot, "hair_and_headwear": _rgb_slot, "eyewear": _rgba_slot, "footwear": _plain_slot}

SLOTS = tuple(_slots)
USER = _record({"user_id": _text})
LISTING = _record({}, {"include_not_ready": _choice("true", "false")})
EXPORT = _record({"avatar_id": uuid})
RENDER = _record({"avatar_id": uuid, "scene": _string("[a-zA-Z0-9_/]+")}, {"format": _choice("jpg", "png", "webp")})
SESSION = _record(
    {"user_id": _text},
    {
        "config": _tagged(
            "type",
            {
                "create_or_edit_existing": _record({}),
                "create": _record({}),
                "edit_existing": _record({"avatar_id": uuid}),
            },
        )
    },
)
CUSTOMIZATION = _record(
    {"assets": _record({}, {slot: _nullable(check) for slot, check in _slots.items()}), "body": _text},
    {
        "age": _text,
        "metadata": _texts,
        "bone_scale": _nullable(_record({}, {"head": _number, "arms": _number, "chest": _number})),
        "skin_tone_correction": _nullable(_number),
    },
)
_end = {"avatar_id": uuid, "user_id": _text, "status": _choice("ready", "failed")}
EVENTS = {
    "avatar.ready": _record({"avatar_id": uuid}),
    "export.ready": _record(_end, {"export_url": _nullable(_text)}),
    "render.ready": _record({**_end, "id": uuid}, {"render_url": _nullable(_text)}),
}
