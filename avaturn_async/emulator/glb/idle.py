"""The clip in which an avatar stands, breathes and blinks."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

from .geometry import add, turn
from .skeleton import JOINTS
from .tables import both_sides, load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .geometry import Quat

__all__ = ["hips", "joints", "rotations", "times", "weights"]

FRAMES, RATE = 242, 30
BLINKS = (1.9, 5.4)
STILL = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def times(step: int) -> array[float]:
    """Return every `step`-th key of the clip, and the last one, in seconds."""
    return array("f", (frame / RATE for frame in (*range(0, FRAMES, step), FRAMES)))


def joints(body: str) -> list[str]:
    """Name the joints that a body type's clip rotates."""
    if body == "T1":
        return [name for name in JOINTS if not name.endswith("Eye")]
    return [name for name in JOINTS if name != "Hips" and not name.endswith(("Eye", "3", "ToeBase"))]


def rotations(name: str, keys: Sequence[float]) -> array[float]:
    """Return the rotations of a joint at the given times."""
    stance, sway = MOTION.get(name, STILL)
    joint = JOINTS[name]
    x, y, z, w = joint.orientation
    values = array("f")
    for key in keys:
        angles = [at + by * math.sin(2 * _phase(key)) for at, by in zip(stance, sway, strict=True)]
        values.extend(turn(joint.rotation, turn(turn((-x, -y, -z, w), _degrees(*angles)), joint.orientation)))
    return values


def hips(keys: Sequence[float]) -> array[float]:
    """Return the translations of the hips at the given times."""
    values = array("f")
    for key in keys:
        sway = (0.004 * math.sin(_phase(key)), 0.0, 0.002 * math.sin(2 * _phase(key)))
        values.extend(add(JOINTS["Hips"].translation, sway))
    return values


def weights(names: Sequence[str], keys: Sequence[float]) -> array[float]:
    """Return the weights of morph targets at the given times: two blinks, and a slight motion of the mouth."""
    values = array("f")
    for key in keys:
        shut = max(0.0, *(1.0 - abs(key - blink) / 0.15 for blink in BLINKS))
        at = {"eyesClosed": shut, "mouthOpen": 0.01 - 0.01 * math.cos(_phase(key))}
        values.extend(at.get(name, 0.0) for name in names)
    return values


def _phase(key: float) -> float:
    return 2 * math.pi * key * RATE / FRAMES


def _degrees(x: float, y: float, z: float) -> Quat:
    """Make the rotation about the axis x, y, z by as many degrees as that is long."""
    angle = math.hypot(x, y, z)
    share = math.sin(math.radians(angle) / 2) / angle if angle else 0.0
    return x * share, y * share, z * share, math.cos(math.radians(angle) / 2)


MOTION = both_sides(load("avatar")["idle"], lambda pair: [(x, -y, -z) for x, y, z in pair])
