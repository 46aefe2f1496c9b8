"""Turn JSON into models and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, TypeVar, cast, get_origin, get_type_hints
from uuid import UUID

import attrs
from cattrs import AttributeValidationNote, BaseValidationError, Converter, IterableValidationNote
from cattrs.cols import list_structure_factory
from cattrs.errors import CattrsError
from cattrs.gen import make_dict_structure_fn

from .. import models
from ..errors import ResponseFormatError

try:
    import orjson
except ImportError:  # pragma: no cover - the extra `speedups` is installed wherever the tests run
    orjson = None  # type: ignore[assignment]

__all__ = ["dumps", "load", "loads", "structure", "unstructure"]

T = TypeVar("T")

_ABSENT = object()


def load(body: bytes, kind: type[T]) -> T:
    """Parse `body` as JSON of the model `kind`; a ResponseFormatError says what was wrong, and where."""
    return structure(loads(body), kind)


def loads(body: bytes) -> Any:
    """Parse `body` as JSON, or raise ResponseFormatError."""
    problem = "is not JSON"
    try:
        # orjson refuses subclasses of bytes, but takes a view of one.
        return json.loads(body, parse_constant=_no_number) if orjson is None else orjson.loads(memoryview(body))
    except RecursionError:
        problem = "is nested too deeply"
    except ValueError:
        pass
    raise ResponseFormatError(f"the answer {problem}: it begins with {body[:60]!r}")


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def dumps(value: Any) -> bytes:
    """Serialize a model, or plain JSON values, compactly and without nulls in models."""
    plain = unstructure(value) if attrs.has(type(value)) else value
    return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode()


def structure(value: Any, kind: type[T]) -> T:
    """Make a model of plain JSON values; a ResponseFormatError names the path of what was wrong."""
    try:
        made: T = _hook(cast("Hashable", kind))(value, kind)
        return made
    except (CattrsError, KeyError, ValueError, TypeError, AttributeError):
        pass
    try:  # once more, slower, to learn where
        return _converter(detailed=True).structure(value, kind)
    except Exception as error:  # noqa: BLE001 - whatever a hook raised, it is told as our type
        where, problem = _locate(error)
    raise ResponseFormatError(f"the answer does not follow the contract at {where}: {problem}", where=where)


def unstructure(model: Any) -> dict[str, Any]:
    """Return the JSON object of a model: no nulls, and what was kept in `extra` put back."""
    plain = {
        field.name: _plain(value)
        for field in attrs.fields(type(model))
        if field.name != "extra" and (value := getattr(model, field.name)) is not None
    }
    kept = {name: value for name, value in getattr(model, "extra", {}).items() if value is not None}
    return kept | plain


def _plain(value: Any) -> Any:
    if attrs.has(type(value)):
        return unstructure(value)
    if isinstance(value, UUID | models.OpenEnum):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


@lru_cache
def _hook(kind: Any) -> Callable[[Any, Any], Any]:
    return _converter(detailed=False).get_structure_hook(kind)


@lru_cache
def _converter(*, detailed: bool) -> Converter:
    converter = Converter(detailed_validation=detailed)
    converter.register_structure_hook(str, _strict(str, "a string"))
    converter.register_structure_hook(int, _strict(int, "a whole number"))
    converter.register_structure_hook(float, _strict((int, float), "a number"))
    converter.register_structure_hook(bool, lambda value, _: _strict_bool(value))
    converter.register_structure_hook(UUID, lambda value, _: models.as_uuid(value, "the value"))
    converter.register_structure_hook_func(
        lambda kind: kind == str | int, _strict((str, int), "a string or a whole number")
    )
    converter.register_structure_hook_func(lambda kind: kind == Mapping[str, Any], lambda value, _: value)
    config = _session_config(converter)
    converter.register_structure_hook_func(lambda kind: kind == models.SessionConfig, config)
    converter.register_structure_hook_func(
        lambda kind: kind == models.SessionConfig | None, lambda value, _: None if value is None else config(value, _)
    )
    converter.register_structure_hook_factory(_is_open_enum, _open_enum)
    converter.register_structure_hook_factory(_is_array, lambda kind: _array(kind, converter))
    converter.register_structure_hook_factory(attrs.has, lambda kind: _keep_extra(kind, converter))
    return converter


def _strict(kind: type | tuple[type, ...], said: str) -> Callable[[Any, Any], Any]:
    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(f"expected {said}, got {_summary(value)}")
        return value

    return hook


def _strict_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, got {_summary(value)}")
    return value


def _is_open_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, models.OpenEnum)


def _open_enum(kind: type[Any]) -> Callable[[Any, Any], Any]:
    strict = _strict(str, "a string")
    return lambda value, _: kind(strict(value, None))


def _is_array(kind: Any) -> bool:
    return get_origin(kind) in (list, Sequence)


def _array(kind: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    structure_items = list_structure_factory(kind, converter)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, list):
            raise TypeError(f"expected an array, got {_summary(value)}")
        return structure_items(value, kind)

    return hook


def _session_config(converter: Converter) -> Callable[[Any, Any], Any]:
    kinds = {
        "create": models.CreateSessionConfig,
        "create_or_edit_existing": models.CreateOrEditExistingSessionConfig,
        "edit_existing": models.EditExistingSessionConfig,
    }

    def hook(value: Any, _: Any) -> Any:
        kind = kinds.get(str(value.get("type"))) if isinstance(value, dict) else None
        if kind is None:
            raise ValueError(f"expected an object with a type of {', '.join(kinds)}, got {_summary(value)}")
        return converter.structure(value, kind)

    return hook


def _keep_extra(kind: type[attrs.AttrsInstance], converter: Converter) -> Callable[[Any, Any], Any]:
    structure_known = make_dict_structure_fn(kind, converter)
    names = {field.name for field in attrs.fields(kind)} - {"extra"}
    required = [field.name for field in attrs.fields(kind) if field.metadata.get("required")]

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise TypeError(f"expected an object, got {_summary(value)}")
        known = {name: item for name, item in value.items() if name in names}
        if len(known) < len(value):
            known["extra"] = {name: item for name, item in value.items() if name not in names}
        for name in required:
            known.setdefault(name, _ABSENT)
        return structure_known(known, kind)

    def quick_hook(value: Any, _: Any) -> Any:
        return kind(**value) if type(value) is dict and value.keys() <= names else hook(value, _)

    return quick_hook if _checks_itself(kind) and not required and not converter.detailed_validation else hook


def _checks_itself(kind: type[attrs.AttrsInstance]) -> bool:
    """Say whether a model takes JSON as it is: its fields' converters and validators do what hooks would do."""
    types = get_type_hints(kind)
    return all(
        field.name == "extra" or (field.validator is not None and _is_simple(types[field.name]))
        for field in attrs.fields(kind)
    )


def _is_simple(kind: Any) -> bool:
    return kind in (UUID, str, str | None) or get_origin(kind) is Literal or _is_open_enum(kind)


def _summary(value: Any) -> str:
    if value is None or value is _ABSENT:
        return "nothing" if value is _ABSENT else "null"
    return {dict: "an object", list: "an array", bool: "a boolean", str: "a string"}.get(type(value), "a number")


def _locate(error: BaseException) -> tuple[str, str]:
    """Follow the first failure of cattrs' error tree down to its leaf; return its path and its problem."""
    path = "$"
    while isinstance(error, BaseValidationError):
        error = error.exceptions[0]
        path += "".join(_step(note) for note in getattr(error, "__notes__", ()))
    if isinstance(error, KeyError):
        return path, "it is missing"
    return path, str(error) or type(error).__name__


def _step(note: str) -> str:
    if isinstance(note, AttributeValidationNote):
        return f".{note.name}"
    if isinstance(note, IterableValidationNote):
        return f"[{note.index}]"
    return ""
