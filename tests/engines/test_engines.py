"""The examples of engines: every model is saved whole, while the API fails and workers are killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.kit import FULL

from .kit import ENGINES, Engine, run_engine

pytestmark = [pytest.mark.engines, pytest.mark.timeout(380)]


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
async def test_workers_that_are_killed_lose_nothing(engine: Engine, tmp_path: Path) -> None:
    """Each export costs at most four requests to exports/new on average; models saved twice are counted."""
    if FULL:
        count = 400 if engine.name == "temporal_exports" else 2_000
        result = await run_engine(
            engine, tmp_path, count=count, workers=4, kills=lambda seconds, _: int(seconds / 4), recovery=12
        )
    else:
        count = 60
        result = await run_engine(
            engine, tmp_path, count=count, workers=2, kills=lambda _, done: int(done >= 15), recovery=3
        )
    print(f"{engine.name}: {result}")
    assert count == result.saved
    assert result.posts <= 4
    assert result.kills
