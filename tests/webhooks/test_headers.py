"""Headers are put together for who asks."""

from __future__ import annotations

from collections.abc import Iterator

from avaturn_async.webhooks.headers import LazyHeaders


def test_they_are_made_once_and_late() -> None:
    """Nothing is read until a name is asked for, and nothing twice."""
    read = 0

    def items() -> Iterator[tuple[str, str]]:
        nonlocal read
        read += 1
        yield "Content-Type", "text/plain"
        yield "X", "1"

    headers = LazyHeaders(items)
    assert ("<headers>", 0) == (repr(headers), read)
    assert "text/plain" == headers["content-type"] == headers.get("content-type")
    assert {"content-type": "text/plain", "x": "1"} == dict(headers)
    assert (None, 2, 1) == (headers.get("Content-Type"), len(headers), read)
