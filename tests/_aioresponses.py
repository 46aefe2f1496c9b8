"""aioresponses 0.7.9 for aiohttp >= 3.14, whose responses want a `stream_writer` that aioresponses does not give."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import aiohttp
from aioresponses import aioresponses

__all__ = ["Responses"]


class _Response(aiohttp.ClientResponse):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, stream_writer=Mock(output_size=0), **kwargs)


class Responses(aioresponses):
    """`aioresponses` whose responses can be made."""

    def add(self, url: Any, *args: Any, **kwargs: Any) -> None:
        """Say what the next request of this method and url is answered."""
        kwargs.setdefault("response_class", _Response)
        super().add(url, *args, **kwargs)
