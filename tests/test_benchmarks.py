"""The programs that measure: each is there, and the cheap parts of them hold."""

from __future__ import annotations

import asyncio
import importlib

import pytest

from benchmarks import kit
from benchmarks.__main__ import PROGRAMS, header, merged


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_can_be_run(name: str) -> None:
    """It is importable without the libraries that only it needs, or says which it lacks, and has a `run`."""
    for needed in {"receiving": ["uvicorn"], "workers": ["psutil", "uvicorn"], "batches": []}.get(name, []):
        pytest.importorskip(needed)
    assert callable(importlib.import_module(f"benchmarks.{name}").run)


def test_goals() -> None:
    """A row says whether its goal is met."""
    assert kit.at_most("a", "b", "c", "d", 1.2, 1.15, "x").met is False
    assert kit.at_most("a", "b", "c", "d", 1.1, 1.15, "x").met is True
    assert kit.at_least("a", "b", "c", "d", 0.8, 0.75).met is True
    assert kit.at_least("a", "b", "c", "d", 0.7, 0.75).met is False
    assert kit.at_most("a", "b", "c", "d", 9, None).met is None
    assert "| a | b | c | d | 1.2x | <= 1.15x | no |" in kit.table([kit.at_most("a", "b", "c", "d", 1.2, 1.15, "x")])


def test_the_ratio_is_taken_within_rounds() -> None:
    """A round in which everything is slow does not count more than another."""
    assert 2 == kit.ratio([2, 200, 4], [1, 100, 2])


async def test_rounds_alternate() -> None:
    """Each work runs in each round, in both directions, and the first round does not count."""
    ran: list[str] = []

    def work(name: str) -> object:
        async def run() -> float:
            ran.append(name)
            return float(len(ran))

        return run

    found = await kit.alternate({"a": work("a"), "b": work("b")}, 2)  # type: ignore[dict-item]
    assert ["b", "a", "a", "b", "b", "a"] == ran
    assert {"a": [3.0, 6.0], "b": [4.0, 5.0]} == found


async def test_gaps_are_seen() -> None:
    """A loop that is blocked for 30 ms has a gap of that."""
    async with kit.Gaps() as gaps:
        await asyncio.sleep(0.005)
        kit.time.sleep(0.03)
        await asyncio.sleep(0.005)
    assert gaps.longest >= 25


def test_the_header_names_versions() -> None:
    """And the machine, without what tells where it stands."""
    pytest.importorskip("uvloop")
    assert "CPython" in header()
    assert "aiohttp 3." in header()


def test_rows_are_merged_into_the_results() -> None:
    """Rows that answer the same question are replaced where they stand, new ones follow, and all others stay."""
    pytest.importorskip("uvloop")

    def row(what: str, ours: str) -> kit.Row:
        return kit.Row(what, "s", ours, "", "1")

    results = merged("# Results\n\n## Results\n", [row("a", "1"), row("b", "2"), row("b", "3"), row("c", "4")])
    results = merged(results, [row("b", "5"), row("d", "6")])
    assert results.startswith("# Results\n\n## Results\n\nMeasured on ")
    assert [("a", "1"), ("b", "5"), ("d", "6"), ("c", "4")] == [
        (cells[1].strip(), cells[3].strip()) for cells in (line.split("|") for line in results.splitlines()[8:])
    ]
