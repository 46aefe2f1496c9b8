"""The README: its commands, its examples, and what it names."""

from __future__ import annotations

import re
from importlib.metadata import metadata
from pathlib import Path

from .docs.kit import COMMANDS, EXAMPLES, README

ROOT = Path(__file__).parents[1]


def test_the_two_commands() -> None:
    """They are the README's only commands of a shell, word for word."""
    assert COMMANDS == re.findall(r"```console\n(.*?)\n```", README, re.DOTALL)


def test_examples_are_those_of_the_documentation() -> None:
    """Each block of Python is an example of the pages, word for word, and so is run by their tests."""
    blocks = dict(re.findall(r"<!-- example: (\w+) -->\n```python\n(.*?)```", README, re.DOTALL))
    assert len(blocks) == README.count("```python") > 1
    assert blocks == {name: EXAMPLES[name] for name in blocks}


def test_links_work_on_a_package_index() -> None:
    """A relative link leads nowhere on PyPI, so there is none; files that are named exist."""
    assert [] == re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    named = re.findall(r"`([\w/-]+\.(?:json|md))`", README)
    assert len(named) > 10
    assert [] == [name for name in named if not (ROOT / name).exists()]


def test_the_extras_exist() -> None:
    """The table names all of them."""
    table = README.partition("| extra | for |")[2].partition("\n\n")[0]
    extras = set(re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines() if "`" in line)))
    assert set(metadata("avaturn-async").get_all("Provides-Extra") or ()) == extras


def test_it_is_short() -> None:
    """It says what the SDK is for; everything else is in the documentation."""
    assert len(README.splitlines()) <= 120
