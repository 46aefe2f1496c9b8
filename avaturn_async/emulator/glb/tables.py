"""The data that models are made of, from the files beside this module."""

import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal, TypeVar

__all__ = ["Body", "Models", "both_sides", "load", "morph_targets", "other_side", "rows"]

T = TypeVar("T")

Body = Literal["T1", "T2"]
Models = Literal["full", "small"]


@cache
def load(name: str) -> dict[str, Any]:
    """Read a TOML file."""
    return tomllib.loads(_text(f"{name}.toml"))


def rows(name: str) -> list[list[str]]:
    """Read the rows of a table of values separated by tabs, without its comments and its header."""
    return [line.split("\t") for line in _text(f"{name}.tsv").splitlines() if not line.startswith("#")][1:]


@cache
def morph_targets() -> Mapping[str, list[str]]:
    """Return the names of the morph targets of each mesh, in Avaturn's order."""
    return {mesh: names.split(" ") for mesh, _, names in rows("morph_targets")}


def other_side(name: str) -> str:
    """Swap Left and Right in a name."""
    return name.replace("Left", "*").replace("Right", "Left").replace("*", "Right")


def both_sides(given: Mapping[str, T], mirrored: Callable[[T], T]) -> dict[str, T]:
    """Extend a table of left-side entries by their mirrored right-side ones."""
    right = {other_side(name): mirrored(value) for name, value in given.items() if "Left" in name}
    return {**given, **right}


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")
