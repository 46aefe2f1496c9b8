"""Answers other than success, in the shapes that FastAPI gives them."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

__all__ = ["Complaint", "Loc", "ProblemError", "invalid"]

Loc = tuple[str | int, ...]


class Complaint(NamedTuple):
    """One thing that is wrong with a request: where, what, and the name of the rule."""

    loc: Loc
    msg: str
    type: str


class ProblemError(Exception):
    """A request ends with this status, and this as `detail`."""

    def __init__(self, status: int, detail: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(str(detail))
        self.status = status
        self.detail = detail
        self.headers = headers


def invalid(complaints: Iterable[Complaint]) -> ProblemError:
    """Make the 422 that lists what is wrong."""
    return ProblemError(422, [complaint._asdict() for complaint in complaints])
