"""The colours of an avatar, chosen by its seed; its model and its renders agree on them."""

import random
from typing import NamedTuple

__all__ = ["Color", "Palette", "choose", "mix"]

Color = tuple[int, int, int]


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
    return Palette(*(colors[int(dice.random() * len(colors))] for colors in CHOICES))


def mix(color: Color, other: Color, share: float) -> Color:
    """Blend a `share` of the other colour into the first."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(color, other, strict=True))
    return red, green, blue


SKINS: tuple[Color, ...] = ((246, 213, 190), (232, 190, 160), (206, 156, 120), (158, 107, 76), (104, 68, 48))
HAIRS: tuple[Color, ...] = ((34, 28, 26), (74, 48, 32), (128, 84, 48), (190, 150, 92), (140, 136, 132))
SHIRTS: tuple[Color, ...] = (
    (54, 96, 160),
    (170, 58, 62),
    (62, 130, 98),
    (224, 222, 214),
    (116, 84, 150),
    (216, 150, 54),
)
TROUSERS: tuple[Color, ...] = ((44, 56, 84), (58, 58, 62), (126, 108, 84), (34, 36, 42))
SHOES: tuple[Color, ...] = ((236, 236, 232), (40, 40, 44), (120, 74, 46))
IRISES: tuple[Color, ...] = ((72, 46, 28), (64, 104, 148), (84, 116, 72), (108, 92, 60))
CHOICES = (SKINS, HAIRS, SHIRTS, TROUSERS, SHOES, IRISES)
