"""Validation of requests against the contract, with errors in the shape of FastAPI's."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

__all__ = ["SLOTS", "UUID_SCHEMA", "ApiError", "Issue", "check", "contract", "invalid", "parse", "require", "schema"]

Loc = tuple[str | int, ...]
Schema = Mapping[str, Any]

MAX_DEPTH = 32
UUID_SCHEMA: Schema = {"type": "string", "format": "uuid"}
UUID_PATTERN = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
JPEG = b"\xff\xd8\xff"


class Issue(NamedTuple):
    """One violation of the contract, as FastAPI reports it: location, message, and the name of the rule."""

    loc: Loc
    msg: str
    type: str


class ApiError(Exception):
    """Ends a request with a status and a `detail`."""

    def __init__(self, status: int, detail: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(str(detail))
        self.status = status
        self.detail = detail
        self.headers = headers


@cache
def contract() -> dict[str, Any]:
    """Return the contract that ships with the package; callers must not change it."""
    document: dict[str, Any] = json.loads(resources.files(__package__).joinpath("openapi.json").read_bytes())
    return document


def schema(name: str) -> Schema:
    """Return one of the contract's schemas."""
    found: Schema = contract()["components"]["schemas"][name]
    return found


SLOTS = tuple(schema("AssetSlots")["properties"])


def invalid(issues: Iterable[Issue]) -> ApiError:
    """Return the 422 that lists these issues."""
    return ApiError(422, [issue._asdict() for issue in issues])


def require(value: Any, wanted: Schema, loc: Loc) -> Any:
    """Return a value that follows a schema, or raise the 422 that lists its issues."""
    issues = [*check(value, wanted, loc)]
    if issues:
        raise invalid(issues)
    return value


def parse(body: bytes, content_type: str) -> Any:
    """Decode a JSON body, or raise a 422. NaN, infinities and deep nesting are refused: no response could have them."""
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


def check(value: Any, wanted: Schema, loc: Loc) -> Iterator[Issue]:
    """Yield the issues of a value, by those keywords of JSON Schema that the contract uses; unknown fields pass."""
    if "$ref" in wanted:
        wanted = schema(wanted["$ref"].rpartition("/")[2])
    if "anyOf" in wanted:  # something, or null
        if value is not None:
            yield from check(value, wanted["anyOf"][0], loc)
        return
    kinds = wanted.get("type", "object" if "oneOf" in wanted else "anything")
    kind, *others = kinds if isinstance(kinds, list) else [kinds]
    if value is None and "null" in others:
        return
    if kind == "object":
        yield from _check_object(value, wanted, loc)
    elif kind == "string":
        yield from _check_string(value, wanted, loc)
    elif kind == "boolean" and value not in ("true", "false"):  # in queries alone
        yield Issue(loc, "Input should be a valid boolean", "bool_parsing")
    elif kind == "number" and (isinstance(value, bool) or not isinstance(value, int | float)):
        yield Issue(loc, "Input should be a valid number", "float_type")


def _check_object(value: Any, wanted: Schema, loc: Loc) -> Iterator[Issue]:
    if not isinstance(value, Mapping):
        yield _not_an_object(loc)
        return
    if "discriminator" in wanted:
        tag, mapping = wanted["discriminator"]["propertyName"], wanted["discriminator"]["mapping"]
        if tag not in value:
            yield Issue(loc, f"Unable to extract tag using discriminator '{tag}'", "union_tag_not_found")
        elif not isinstance(value[tag], str) or value[tag] not in mapping:
            members = ", ".join(map(repr, mapping))
            yield Issue(loc, f"Input tag found using '{tag}' does not match any of {members}", "union_tag_invalid")
        else:
            yield from check(value, {"$ref": mapping[value[tag]]}, (*loc, value[tag]))
        return
    fields = wanted.get("properties", {})
    for name in [*fields, *(name for name in value if name not in fields)]:
        if name in value:
            inner = fields.get(name, wanted.get("additionalProperties", {}))
            yield from check(value[name], inner, (*loc, name))
        elif name in wanted.get("required", ()):
            yield Issue((*loc, name), "Field required", "missing")


def _check_string(value: Any, wanted: Schema, loc: Loc) -> Iterator[Issue]:
    members = wanted.get("enum", ())
    if wanted.get("contentMediaType") == "image/jpeg":  # a file of a form, given by its first bytes
        if not value.startswith(JPEG):
            yield Issue(loc, "Input should be a JPEG image", "image_type")
    elif not isinstance(value, str):
        yield Issue(loc, "Input should be a valid string", "string_type")
    elif wanted.get("format") == "uuid" and not UUID_PATTERN.fullmatch(value):
        yield Issue(loc, f"String should match pattern '^{UUID_PATTERN.pattern}$'", "uuid_parsing")
    elif not re.fullmatch(wanted.get("pattern", ".*"), value, re.DOTALL):
        yield Issue(loc, f"String should match pattern '{wanted['pattern']}'", "string_pattern_mismatch")
    elif members and value not in members:
        yield Issue(loc, f"Input should be {' or '.join(map(repr, members))}", "enum")


def _not_an_object(loc: Loc) -> Issue:
    return Issue(loc, "Input should be a valid dictionary or object", "model_attributes_type")
