"""The data of models, from the files beside this module, and the choice of colours by a seed."""

import random
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

__all__ = ["BLACK", "MAX_SIZE", "WHITE", "Body", "Color", "Models", "Palette", "both_sides", "choose", "load"]
__all__ += ["mix", "morph_targets", "other_side", "rows"]

#: The largest size in bytes that a model can be padded to.
MAX_SIZE = 64 * 1024 * 1024

Body = Literal["T1", "T2"]
Models = Literal["full", "small"]
Color = tuple[int, int, int]
WHITE: Color = (255, 255, 255)
BLACK: Color = (0, 0, 0)


@cache
def load(name: str) -> dict[str, Any]:
    """Read a TOML file."""
    return tomllib.loads(files(__package__).joinpath(f"{name}.toml").read_text("utf-8"))


def rows(name: str) -> list[list[str]]:
    """Read the rows of a table of values separated by tabs, without its comments and its header."""
    lines = files(__package__).joinpath(f"{name}.tsv").read_text("utf-8").splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")][1:]


@cache
def morph_targets() -> Mapping[str, list[str]]:
    """Return the names of the morph targets of each mesh, in Avaturn's order."""
    return {mesh: names.split(" ") for mesh, _, names in rows("morph_targets")}


def other_side(name: str) -> str:
    """Swap Left and Right in a name."""
    return name.replace("Left", "*").replace("Right", "Left").replace("*", "Right")


def both_sides(given: Mapping[str, Any]) -> dict[str, Any]:
    """Extend a table of left-side entries by mirrored right-side ones: in each list, x changes its sign."""
    return {**given, **{other_side(name): _mirrored(value) for name, value in given.items() if "Left" in name}}


def _mirrored(value: Any) -> Any:
    if isinstance(value, dict):
        return {other_side(name): _mirrored(inner) for name, inner in value.items()}
    return [-value[0], *value[1:]] if isinstance(value, list) else value


class Palette(NamedTuple):
    """The colours of one avatar, in its model and its renders."""

    skin: Color
    hair: Color
    shirt: Color
    trousers: Color
    shoes: Color
    iris: Color


def choose(dice: random.Random) -> Palette:
    """Draw the colours of an avatar."""
    choices = load("avatar")["palette"]
    return Palette(**{name: tuple(colors[int(dice.random() * len(colors))]) for name, colors in choices.items()})


def mix(color: Color, other: Color, share: float) -> Color:
    """Blend a `share` of the other colour into the first."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(color, other, strict=True))
    return red, green, blue
