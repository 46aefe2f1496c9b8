"""Checks of JSON values and query parameters against the contract's shapes."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .problems import Complaint, Loc, invalid

__all__ = [
    "Check",
    "choice",
    "nullable",
    "number",
    "parse",
    "record",
    "require",
    "string",
    "tagged",
    "texts",
    "uuid",
]

Check = Callable[[Any, Loc], Iterator[Complaint]]

MAX_DEPTH = 32

UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


def string(pattern: str | None = None, kind: str = "string_pattern_mismatch") -> Check:
    """Make a check for a string that matches the whole of `pattern`."""
    matches = re.compile(pattern or r"(?s:.*)").fullmatch

    def check(value: Any, loc: Loc) -> Iterator[Complaint]:
        if not isinstance(value, str):
            yield Complaint(loc, "Input should be a valid string", "string_type")
        elif not matches(value):
            yield Complaint(loc, f"String should match pattern '^{pattern}$'", kind)

    return check


uuid = string(UUID, "uuid_parsing")


def number(value: Any, loc: Loc) -> Iterator[Complaint]:
    """Check for a number; the decoder has refused those that are not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield Complaint(loc, "Input should be a valid number", "float_type")


def choice(*members: str) -> Check:
    """Make a check for one of a few strings."""
    wanted = " or ".join(map(repr, members))

    def check(value: Any, loc: Loc) -> Iterator[Complaint]:
        if value not in members:
            yield Complaint(loc, f"Input should be {wanted}", "enum")

    return check


def nullable(inner: Check) -> Check:
    """Make a check that lets null through."""
    return lambda value, loc: iter(()) if value is None else inner(value, loc)


def texts(value: Any, loc: Loc) -> Iterator[Complaint]:
    """Check for an object whose values are all strings."""
    if not isinstance(value, Mapping):
        yield _no_object(loc)
    else:
        for key, item in value.items():
            yield from string()(item, (*loc, key))


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """Make a check for an object with these fields; others are let through unlooked at."""
    fields = {**required, **(optional or {})}

    def check(value: Any, loc: Loc) -> Iterator[Complaint]:
        if not isinstance(value, Mapping):
            yield _no_object(loc)
            return
        for name, inner in fields.items():
            if name in value:
                yield from inner(value[name], (*loc, name))
            elif name in required:
                yield Complaint((*loc, name), "Field required", "missing")

    return check


def tagged(tag: str, members: Mapping[str, Check]) -> Check:
    """Make a check for one of several objects, told apart by the field `tag`."""
    wanted = ", ".join(map(repr, members))

    def check(value: Any, loc: Loc) -> Iterator[Complaint]:
        if not isinstance(value, Mapping):
            yield _no_object(loc)
        elif tag not in value:
            yield Complaint(loc, f"Unable to extract tag using discriminator '{tag}'", "union_tag_not_found")
        elif not isinstance(value[tag], str) or value[tag] not in members:
            yield Complaint(loc, f"Input tag found using '{tag}' does not match any of {wanted}", "union_tag_invalid")
        else:
            yield from members[value[tag]](value, (*loc, value[tag]))

    return check


def require(value: Any, check: Check, loc: Loc) -> Any:
    """Return a value that passes a check, or raise the 422 that says what is wrong with it."""
    complaints = [*check(value, loc)]
    if complaints:
        raise invalid(complaints)
    return value


def parse(body: bytes, content_type: str) -> Any:
    """Decode a JSON body, or raise the 422 of one that is none: NaN, infinities and deep nesting included."""
    if not body:
        raise invalid([Complaint(("body",), "Field required", "missing")])
    if content_type != "application/json":
        raise invalid([_no_object(("body",))])
    try:
        value = json.loads(body.decode(), parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        raise invalid([Complaint(("body",), "JSON decode error", "json_invalid")]) from None
    if _deep(value, MAX_DEPTH):
        raise invalid([Complaint(("body",), "JSON nested too deeply", "json_invalid")])
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _deep(value: Any, left: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    items = value.values() if isinstance(value, dict) else value
    return left == 0 or any(_deep(item, left - 1) for item in items)


def _no_object(loc: Loc) -> Complaint:
    return Complaint(loc, "Input should be a valid dictionary or object", "model_attributes_type")
