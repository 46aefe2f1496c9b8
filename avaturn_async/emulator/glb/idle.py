"""The clip in which an avatar stands, breathes and blinks."""

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from .geometry import Quat, add, turn
from .skeleton import JOINTS, joints_of
from .tables import Body, load, other_side

__all__ = ["Channel", "channels", "times"]

FRAMES, RATE = 242, 30
BLINKS = (1.9, 5.4)
STILL = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


class Channel(NamedTuple):
    """What a node does: a row of values at each time."""

    node: str
    path: str
    rows: list[Sequence[float]]


def times(step: int) -> "array[float]":
    """Return every `step`-th key of the clip, and the last one, in seconds."""
    return array("f", (frame / RATE for frame in (*range(0, FRAMES, step), FRAMES)))


def channels(body: Body, morphs: Mapping[str, Sequence[str]], step: int) -> Iterator[Channel]:
    """Yield rotations of joints, the translation of the hips, and weights of the meshes that have morph targets."""
    keys = times(step)
    for name in joints_of(body):
        if body == "T1" or not (name == "Hips" or name.endswith(("Eye", "3", "ToeBase"))):
            yield Channel(name, "rotation", [_rotation(name, key) for key in keys])
    sways = [(0.004 * math.sin(_phase(key)), 0.0, 0.002 * math.sin(2 * _phase(key))) for key in keys]
    yield Channel("Hips", "translation", [add(JOINTS["Hips"].translation, sway) for sway in sways])
    for mesh, names in morphs.items():
        yield Channel(mesh, "weights", [_weights(names, key) for key in keys])


def _rotation(name: str, key: float) -> Quat:
    stance, sway = MOTION.get(name, STILL)
    joint = JOINTS[name]
    x, y, z, w = joint.orientation
    ax, ay, az = (at + by * math.sin(2 * _phase(key)) for at, by in zip(stance, sway, strict=True))
    degrees = math.hypot(ax, ay, az)
    share = math.sin(math.radians(degrees) / 2) / degrees if degrees else 0.0
    turned = (ax * share, ay * share, az * share, math.cos(math.radians(degrees) / 2))
    return turn(joint.rotation, turn(turn((-x, -y, -z, w), turned), joint.orientation))


def _weights(names: Sequence[str], key: float) -> list[float]:
    """Blink twice, and move the mouth slightly."""
    shut = max(0.0, *(1.0 - abs(key - blink) / 0.15 for blink in BLINKS))
    at = {"eyesClosed": shut, "mouthOpen": 0.01 - 0.01 * math.cos(_phase(key))}
    return [at.get(name, 0.0) for name in names]


def _phase(key: float) -> float:
    return 2 * math.pi * key * RATE / FRAMES


GIVEN = load("avatar")["idle"]
MOTION = {
    **GIVEN,
    **{other_side(name): [(x, -y, -z) for x, y, z in pair] for name, pair in GIVEN.items() if "Left" in name},
}
