"""The colours of an avatar, chosen by its seed; its model and its renders agree on them."""

import random
from typing import NamedTuple

from .tables import load

__all__ = ["BLACK", "WHITE", "Color", "Palette", "choose", "mix"]

Color = tuple[int, int, int]
WHITE: Color = (255, 255, 255)
BLACK: Color = (0, 0, 0)


class Palette(NamedTuple):
    """The colours of one avatar."""

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
