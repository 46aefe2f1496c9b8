"""Parse JSON, and turn it into models and back."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, get_args, get_origin
from uuid import UUID

import attrs

from .. import models
from ..errors import ResponseFormatError
from ..redact import MaskedBytes

if TYPE_CHECKING:
    from cattrs import Converter

try:
    import orjson
except ImportError:  # pragma: no cover - the extra `speedups` is installed wherever the tests run
    orjson = None  # type: ignore[assignment]

__all__ = ["MAX_DEPTH", "MismatchError", "dumps", "load", "parse_json", "structure", "unstructure"]

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Objects and arrays within each other; neither the API nor its webhooks come near.
MAX_DEPTH = 32

_ABSENT = object()


class MismatchError(ValueError):
    """JSON that does not have the shape of a model; the message quotes nothing of it.

    Attributes:
        where: path to the value, such as ``$.assets.clothing.id``.
    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where


def load(body: bytes, kind: type[T]) -> T:
    """Parse the body of a response as JSON of a model.

    Raises:
        ResponseFormatError: it is no JSON, or not of that model.
    """
    where = "$"
    try:
        return structure(parse_json(body), kind)
    except MismatchError as error:
        where, problem = error.where, f"does not follow the contract at {error}"
    except ValueError as error:
        problem = f"is not JSON: {error}"
    raise ResponseFormatError(f"the response {problem}", where=where)


def parse_json(body: bytes | str) -> Any:
    """Parse JSON (RFC 8259), with or without orjson by the same rules.

    Raises:
        ValueError: it is not UTF-8 or not JSON, has a number beyond a float's range, a lone surrogate, or more than
            `MAX_DEPTH` levels. The message quotes nothing of it.
    """
    if not isinstance(body, MaskedBytes):
        body = MaskedBytes(body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body)
    value: Any = None
    try:
        # orjson refuses subclasses of bytes, but takes a view of one.
        value = _parse_without_orjson(body) if orjson is None else orjson.loads(memoryview(body))
        if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
            _check_depth(value)
        return value
    except RecursionError:
        problem = f"nested more than {MAX_DEPTH} levels deep"
    except UnicodeError:
        problem = "invalid UTF-8, or a lone surrogate"
    except ValueError as error:
        problem = str(error)
    del value
    raise ValueError(problem)  # here, where neither context nor locals hold any of the content


def _parse_without_orjson(body: bytes) -> Any:
    value = json.loads(str(body, "utf-8"), parse_constant=_refuse_constant, parse_float=_finite_float)
    if b"\\u" in body:
        json.dumps(value, ensure_ascii=False).encode()  # fails on lone surrogates, as orjson does
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number is out of range")
    return number


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [item for item in level if isinstance(item, dict | list)]
        level = [child for each in containers for child in (each.values() if isinstance(each, dict) else each)]
        if not containers:
            return
    raise RecursionError


def dumps(value: Any) -> bytes:
    """Serialize a model or plain JSON values, compactly and, in models, without nulls."""
    plain = unstructure(value) if attrs.has(type(value)) else value
    return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode()


def unstructure(model: Any) -> dict[str, Any]:
    """Return the JSON object of a model: without nulls, and with `extra` put back."""
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


def structure(value: Any, kind: type[T]) -> T:
    """Make a model, or a list of models, of parsed JSON.

    Unknown fields are kept in `extra`. So are optional fields of an unexpected type, so that a model that is read,
    changed and written loses nothing. Items of a list that can't be read are left out and logged, unless all of them
    are.

    Raises:
        MismatchError: a required field is missing or of another type.
    """
    hook = _converter().get_structure_hook(kind)
    try:
        made: T = hook(value, kind)
        return made
    except Exception as error:  # noqa: BLE001 - cattrs raises whatever a hook or a class raises, in groups
        where, problem = _explain(error)
    del value  # tracebacks that print locals must not show it
    raise MismatchError(where, problem)


class _TypeMismatchError(Exception):
    """A value of another type than expected; the text is safe to show."""

    def __init__(self, expected: str, value: Any) -> None:
        names = {type(None): "null", dict: "an object", list: "an array", bool: "a boolean", str: "a string"}
        got = "nothing" if value is _ABSENT else names.get(type(value), "a number")
        super().__init__(f"expected {expected}, got {got}")


def _explain(error: Exception) -> tuple[str, str]:
    """Return the path and the problem of the first failure in cattrs' tree of errors."""
    from cattrs import transform_error

    def problem_of(error: BaseException, _: type | None) -> str:
        if isinstance(error, KeyError):
            return "it is missing"
        return str(error) if isinstance(error, _TypeMismatchError) else "its value is not allowed"

    problem, _, where = transform_error(error, format_exception=problem_of)[0].rpartition(" @ ")
    return where, problem


@cache
def _converter() -> Converter:
    """Build the converter at first use: importing cattrs takes longer than importing the rest of the package."""
    from cattrs import Converter

    converter = Converter()
    for kind, types, expected in [
        (str, (str,), "a string"),
        (int, (int,), "a whole number"),
        (float, (int, float), "a number"),
        (bool, (bool,), "true or false"),
    ]:
        converter.register_structure_hook(kind, _scalar(types, expected))
    converter.register_structure_hook_func(
        lambda kind: kind == str | int, _scalar((str, int), "a string or a whole number")
    )
    converter.register_structure_hook_func(lambda kind: kind == Mapping[str, Any], _scalar((dict,), "an object"))
    converter.register_structure_hook(UUID, _uuid)
    converter.register_structure_hook(models.SessionConfig, lambda value, _: _session_config(value, converter))
    converter.register_structure_hook_func(_is_literal, _literal)
    converter.register_structure_hook_func(_is_open_enum, _scalar((str,), "a string"))  # converted by the model
    converter.register_structure_hook_factory(_is_optional, lambda kind: _optional_hook(kind, converter))
    converter.register_structure_hook_factory(_is_array, lambda kind: _array_hook(kind, converter))
    converter.register_structure_hook_factory(attrs.has, lambda kind: _model_hook(kind, converter))
    return converter


def _scalar(types: tuple[Any, ...], expected: str) -> Callable[[Any, Any], Any]:
    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise _TypeMismatchError(expected, value)
        return value

    return hook


def _uuid(value: Any, _: Any) -> UUID:
    try:
        return models.as_uuid(value, "it")
    except (TypeError, ValueError):
        raise _TypeMismatchError("a UUID", value) from None


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _literal(value: Any, kind: Any) -> Any:
    if value not in get_args(kind):
        raise _TypeMismatchError(" or ".join(map(repr, get_args(kind))), value)
    return value


def _is_open_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, models.OpenEnum)


def _session_config(value: Any, converter: Converter) -> models.SessionConfig:
    kinds = {attrs.fields(kind).type.default: kind for kind in get_args(models.SessionConfig)}
    kind = kinds.get(value.get("type")) if isinstance(value, dict) else None
    if kind is None:
        raise _TypeMismatchError(f"an object with a type of {', '.join(kinds)}", value)
    config: models.SessionConfig = converter.structure(value, kind)
    return config


def _is_optional(kind: Any) -> bool:
    return get_origin(kind) is UnionType and len(get_args(kind)) == 2 and get_args(kind)[1] is NoneType


def _optional_hook(kind: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    item_kind = get_args(kind)[0]
    structure_item = converter.get_structure_hook(item_kind)
    return lambda value, _: None if value is None else structure_item(value, item_kind)


def _is_array(kind: Any) -> bool:
    return get_origin(kind) in (list, Sequence)


def _array_hook(kind: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    from cattrs.cols import list_structure_factory

    (item_kind,) = get_args(kind)
    structure_all = list_structure_factory(kind, converter)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, list):
            raise _TypeMismatchError("an array", value)
        items = []
        for index, item in enumerate(value if attrs.has(item_kind) else ()):
            try:
                items.append(converter.structure(item, item_kind))
            except Exception as error:  # noqa: BLE001 - cattrs raises anything
                where, problem = _explain(error)
                logger.warning("left out item %d of a list of %s: %s: %s", index, item_kind.__name__, where, problem)
        return items or structure_all(value, kind)

    return hook


def _model_hook(kind: type[attrs.AttrsInstance], converter: Converter) -> Callable[[Any, Any], Any]:
    from cattrs.gen import make_dict_structure_fn

    make = make_dict_structure_fn(kind, converter)
    fields = [field for field in attrs.fields(kind) if field.name != "extra"]
    names = {field.name for field in fields}
    demanded = {field.name: _ABSENT for field in fields if field.metadata.get("required")}
    optional = {field.name for field in fields if field.default is not attrs.NOTHING} - demanded.keys()

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise _TypeMismatchError("an object", value)
        try:
            if demanded.keys() <= value.keys() <= names:
                return kind(**value)  # faster than what follows, which reads the rest and tells what is wrong
        except (TypeError, ValueError):
            pass
        extra = {name: item for name, item in value.items() if name not in names}
        try:
            return make({**demanded, **value, "extra": extra}, kind)
        except Exception:
            needed = {name: item for name, item in value.items() if name in names - optional}
            unreadable = {
                name: item for name, item in value.items() if name in optional and not can_make({**needed, name: item})
            }
            if not unreadable:
                raise
        readable = {name: item for name, item in value.items() if name not in unreadable}
        return make({**demanded, **readable, "extra": extra | unreadable}, kind)

    def can_make(value: dict[str, Any]) -> bool:
        try:
            make(value, kind)
        except Exception:  # noqa: BLE001 - cattrs raises anything
            return False
        return True

    return hook
