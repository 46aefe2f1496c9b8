"""Parse JSON strictly: what two parsers could read differently is refused."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

try:
    import orjson
except ImportError:  # pragma: no cover - the extra `speedups` is installed wherever the tests run
    orjson = None  # type: ignore[assignment]

__all__ = ["MAX_DEPTH", "parse_strict"]

#: Objects and arrays within each other.
MAX_DEPTH = 32


def parse_strict(body: bytes | str) -> Any:
    """Return what `body` says; a ValueError names why it is refused.

    Refused are: what is not UTF-8, duplicate keys, NaN, infinities, numbers that overflow and more than 32 levels
    (RFC 8259 leaves all of these to the parser).
    """
    value = _parse_plain(body) if orjson is not None and isinstance(body, bytes) else None
    return _parse(body) if value is None else value


def _parse_plain(body: bytes) -> dict[str, str | bool | None] | None:
    """Parse quickly what an event usually is, an object of strings without escapes; return None for all else.

    A key that comes twice leaves more quotes in the text than what was parsed of it has strings.
    """
    try:
        value = orjson.loads(body)
    except ValueError:
        return None
    if type(value) is not dict or b"\\" in body:
        return None
    strings = len(value)
    for item in value.values():
        if type(item) is str:
            strings += 1
        elif item is not None and type(item) is not bool:
            return None
    return value if body.count(b'"') == 2 * strings else None


def _parse(body: bytes | str) -> Any:
    text = body if isinstance(body, str) else _decode(body)
    _check_depth(text)
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)


def _decode(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        position = error.start
    raise ValueError(f"it is not UTF-8 at byte {position}")


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth, quoted, escaped = 0, False, False
    for character in text:
        if quoted:
            quoted = escaped or character != '"'
            escaped = not escaped and character == "\\"
        elif character == '"':
            quoted = True
        elif character in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
        elif character in "]}":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
