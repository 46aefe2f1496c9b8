"""How the exports of a batch ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from ..pending.results import Download, Export

__all__ = ["BatchOutcome", "BatchReport", "percentiles"]

_SHARES = (50, 95, 99)


@attrs.frozen(kw_only=True)
class BatchOutcome:
    """How the export of one avatar ended.

    Attributes:
        avatar_id: the avatar; where the input was no UUID, its text.
        export: the export, or None where it failed or an earlier run had done it.
        download: the file, or None where it failed or none was asked for.
        error: what went wrong, or None.
        attempts: how often the export was asked for, over all runs with one journal; 0 where it never was.
    """

    avatar_id: UUID | str
    export: Export | None = None
    download: Download | None = None
    error: Exception | None = None
    attempts: int = 1

    @property
    def ok(self) -> bool:
        """Say whether it ended well."""
        return self.error is None


@attrs.frozen(kw_only=True)
class BatchReport:
    """How a batch ended.

    Attributes:
        outcomes: one for each avatar, in the order of the input.
        elapsed: seconds that the run took.
        percentiles: seconds from the creation of an export to its end at the 50th, 95th and 99th percentile; empty
            where this run has none that ended well.
    """

    outcomes: list[BatchOutcome] = attrs.field(repr=lambda outcomes: f"<{len(outcomes)} of them>")
    elapsed: float
    percentiles: dict[int, float]

    @property
    def succeeded(self) -> list[BatchOutcome]:
        """The outcomes without an error."""
        return [outcome for outcome in self.outcomes if outcome.ok]

    @property
    def failed(self) -> list[BatchOutcome]:
        """The outcomes with an error."""
        return [outcome for outcome in self.outcomes if not outcome.ok]


def percentiles(waited: Iterable[float]) -> dict[int, float]:
    """Return seconds by percentile, of the nearest rank; nothing where there are none."""
    ranked = sorted(waited)
    return {share: ranked[-(-share * len(ranked) // 100) - 1] for share in _SHARES} if ranked else {}
