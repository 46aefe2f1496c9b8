"""aioresponses 0.7.9 for aiohttp >= 3.14, whose responses need a `stream_writer` that aioresponses does not pass."""

from __future__ import annotations

from inspect import signature
from typing import Any
from unittest.mock import Mock

import aiohttp
from aioresponses import aioresponses

__all__ = ["Responses"]

_NEEDS_WRITER = "stream_writer" in signature(aiohttp.ClientResponse).parameters


class _Response(aiohttp.ClientResponse):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if _NEEDS_WRITER:
            kwargs["stream_writer"] = Mock(output_size=0)
        super().__init__(*args, **kwargs)


class Responses(aioresponses):
    """`aioresponses` for every aiohttp that the package supports."""

    def add(self, url: Any, *args: Any, **kwargs: Any) -> None:
        """Say what the next request of this method and url is answered."""
        kwargs.setdefault("response_class", _Response)
        super().add(url, *args, **kwargs)
