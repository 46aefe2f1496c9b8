"""Find secrets in everything that a traceback printer can show of an exception.

Printers that show locals (``TracebackException(capture_locals=True)``, rich, Sentry's SDK) call `repr` on each local of
each frame. Some cut long strings first, or take containers and attrs objects apart and show their parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs

import avaturn_async

PACKAGE = str(Path(avaturn_async.__file__).parent)
CUT = 80  # characters that rich shows of a string


def leaks(error: BaseException, *secrets: str, everywhere: bool = False) -> list[str]:
    """Return the places at which `error` shows one of the secrets; an empty list is what a test expects.

    Looked at are text, repr, arguments, attributes and notes of the exception and of all its causes, contexts and
    group members, and the locals of the package's own frames, or with `everywhere` of all frames.
    """
    found = []
    for link in chain(error):
        name = type(link).__name__
        texts = {"str": str(link), "repr": repr(link), "notes": repr(getattr(link, "__notes__", ()))}
        found += [f"{name}: {place}" for place, text in texts.items() if _hit(text, secrets)]
        found += [f"{name}.{key}" for key, value in vars(link).items() if shows(value, *secrets)]
        found += [f"{name}.args" for value in link.args if shows(value, *secrets)]
        for place, value in local_variables(link.__traceback__, everywhere=everywhere):
            if shows(value, *secrets):
                found.append(f"{name}: {place}")
    return found


def chain(error: BaseException) -> list[BaseException]:
    """Return an exception with its causes, contexts and group members, whatever links them."""
    links = [error]
    for link in links:
        members = link.exceptions if isinstance(link, BaseExceptionGroup) else ()
        links += [each for each in (link.__cause__, link.__context__, *members) if each and each not in links]
    return links


def local_variables(traceback: TracebackType | None, *, everywhere: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield the locals of a traceback's frames, each with its place."""
    while traceback is not None:
        frame = traceback.tb_frame
        if everywhere or frame.f_code.co_filename.startswith(PACKAGE):
            where = f"{Path(frame.f_code.co_filename).name}:{traceback.tb_lineno} {frame.f_code.co_name}"
            yield from ((f"{where}: {name}", value) for name, value in frame.f_locals.items())
        traceback = traceback.tb_next


def shows(value: object, *secrets: str, depth: int = 0) -> bool:
    """Say whether a printer shows a secret in `value`, taken whole, cut, or in parts."""
    try:
        shown = [repr(value)]
    except Exception:
        shown = []  # of an object that is still being made
    if isinstance(value, str | bytes):
        shown.append(repr(value[:CUT]))
    if any(_hit(text, secrets) for text in shown):
        return True
    return depth < 5 and any(shows(part, *secrets, depth=depth + 1) for part in _parts(value))


def _parts(value: object) -> list[Any]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if attrs.has(type(value)) and not isinstance(value, type):
        return [getattr(value, field.name, None) for field in attrs.fields(type(value)) if field.repr]
    return []


def _hit(text: str, secrets: tuple[str, ...]) -> bool:
    return any(secret in text for secret in secrets)
