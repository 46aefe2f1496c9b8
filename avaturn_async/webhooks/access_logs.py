"""Mask path secrets in the logs of web servers and frameworks that run in this process."""

from __future__ import annotations

import copy
import logging
import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..redact import Secret

__all__ = ["mask_in_access_logs"]

LOGGERS = (
    *("aiohttp.access", "uvicorn.access", "hypercorn.access", "granian.access", "gunicorn.access"),
    *("werkzeug", "django.server"),  # the development servers of Flask and Django
    # What else names paths: refusals, failures, and requests at the level of debugging.
    *("django.request", "django.security.csrf", "litestar", "gunicorn.error", "uvicorn.asgi"),
)

_lock = threading.Lock()
_secrets: WeakKeyDictionary[object, tuple[Secret, ...]] = WeakKeyDictionary()


def mask_in_access_logs(owner: object, secrets: Iterable[Secret]) -> None:
    """Mask `secrets` in what the loggers of web servers in this process write, for as long as `owner` lives.

    The filter survives a later configuration by `logging.config`, which replaces handlers only.
    """
    with _lock:
        _secrets[owner] = tuple(secrets)
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_mask_record)


def _mask_record(record: logging.LogRecord) -> bool:
    """Mask secrets in a record: in its message, its arguments and the fields that the server added."""
    with _lock:
        known = {secret for secrets in _secrets.values() for secret in secrets}
    if known:
        fields = vars(record)
        fields |= {name: _masked(value, known) for name, value in fields.items()}
    return True


def _masked(value: Any, secrets: set[Secret]) -> Any:
    """Return `value`, or a copy with masked text; its type stays, since formatters rely on it."""
    if isinstance(value, str):
        for secret in secrets:
            if secret in value:
                value = value.replace(secret, "***")
    elif isinstance(value, bytes):
        for secret in secrets:
            value = value.replace(secret.encode(), b"***")
    elif isinstance(value, tuple):
        return tuple(_masked(item, secrets) for item in value)
    elif isinstance(value, dict):
        masked = {name: _masked(item, secrets) for name, item in value.items()}
        if masked != value:
            value = copy.copy(value)
            value.update(masked)
    return value
