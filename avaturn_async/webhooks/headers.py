"""Headers for verifiers, which most never read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["LazyHeaders"]


class LazyHeaders(Mapping[str, str]):
    """Headers by their names in lower case, put together when the first is asked for."""

    __slots__ = ("_found", "_items")

    def __init__(self, items: Callable[[], Iterable[tuple[str, str]]]) -> None:
        self._items = items
        self._found: dict[str, str] | None = None

    def _known(self) -> dict[str, str]:
        if self._found is None:
            self._found = {str(name).lower(): value for name, value in self._items()}
        return self._found

    def __getitem__(self, name: str) -> str:
        return self._known()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __len__(self) -> int:
        return len(self._known())

    def __repr__(self) -> str:
        return "<headers>"
