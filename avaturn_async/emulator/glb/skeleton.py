"""The skeleton: Mixamo's joint names, standing in a T-pose, facing +Z, its left hand towards +X; metres."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from .surface import Vec, add, scale

__all__ = ["FINGERS", "INFLUENCES", "JOINTS", "SHOULDER", "Joint", "Weights", "finger_path", "weigh"]

INFLUENCES = 4
SHOULDER = 1.405

Weights = list[tuple[int, int]]


class Joint(NamedTuple):
    """A joint, where it is, and where its bone ends."""

    name: str
    parent: str | None
    head: Vec
    tail: Vec


SPINE: tuple[tuple[str, Vec], ...] = (
    ("Hips", (0.0, 0.96, 0.0)),
    ("Spine", (0.0, 1.07, 0.0)),
    ("Spine1", (0.0, 1.19, -0.005)),
    ("Spine2", (0.0, 1.31, -0.01)),
    ("Neck", (0.0, 1.47, -0.015)),
    ("Head", (0.0, 1.55, 0.0)),
    ("", (0.0, 1.76, 0.0)),
)
ARM: tuple[tuple[str, Vec], ...] = (
    ("Shoulder", (0.05, SHOULDER + 0.005, -0.01)),
    ("Arm", (0.175, SHOULDER, -0.01)),
    ("ForeArm", (0.445, SHOULDER, -0.01)),
    ("Hand", (0.69, SHOULDER, -0.01)),
    ("", (0.78, SHOULDER, -0.01)),
)
LEG: tuple[tuple[str, Vec], ...] = (
    ("UpLeg", (0.09, 0.91, 0.0)),
    ("Leg", (0.095, 0.5, 0.0)),
    ("Foot", (0.1, 0.085, -0.01)),
    ("ToeBase", (0.105, 0.03, 0.11)),
    ("", (0.105, 0.03, 0.18)),
)
# The root of each finger, and the vector to its tip.
FINGERS: dict[str, tuple[Vec, Vec]] = {
    "Thumb": ((0.71, SHOULDER - 0.008, 0.02), (0.056, -0.01, 0.048)),
    "Index": ((0.775, SHOULDER, 0.023), (0.083, 0.0, 0.006)),
    "Middle": ((0.779, SHOULDER, 0.001), (0.09, 0.0, 0.0)),
    "Ring": ((0.775, SHOULDER, -0.021), (0.084, 0.0, -0.004)),
    "Pinky": ((0.765, SHOULDER, -0.041), (0.068, 0.0, -0.01)),
}


def finger_path(finger: str, share: float) -> Vec:
    """Give the point at `share` of a left finger's length."""
    root, reach = FINGERS[finger]
    return add(root, scale(reach, share))


def weigh(point: Vec, bones: Sequence[int]) -> Weights:
    """Share a point among the nearest of `bones`, at most four, with weights that add up to 255."""
    near = sorted((_distance(point, JOINTS[bone]), bone) for bone in bones)[:INFLUENCES]
    pulls = [(bone, (distance + 0.004) ** -5) for distance, bone in near]
    total = sum(pull for _, pull in pulls)
    weights = [(bone, round(255 * pull / total)) for bone, pull in pulls[1:]]
    rest = 255 - sum(weight for _, weight in weights)
    return [(pulls[0][0], rest), *((bone, weight) for bone, weight in weights if weight)]


def _distance(point: Vec, joint: Joint) -> float:
    (hx, hy, hz), (tx, ty, tz) = joint.head, joint.tail
    dx, dy, dz = tx - hx, ty - hy, tz - hz
    px, py, pz = point[0] - hx, point[1] - hy, point[2] - hz
    share = (px * dx + py * dy + pz * dz) / (dx * dx + dy * dy + dz * dz)
    share = min(1.0, max(0.0, share))
    return math.hypot(px - share * dx, py - share * dy, pz - share * dz)


def _chain(side: str, parent: str | None, links: Sequence[tuple[str, Vec]]) -> Iterator[Joint]:
    for (name, head), (_, tail) in pairwise(links):
        yield Joint(side + name, parent, _mirrored(side, head), _mirrored(side, tail))
        parent = side + name


def _mirrored(side: str, point: Vec) -> Vec:
    return (-point[0], point[1], point[2]) if side == "Right" else point


def _joints() -> Iterator[Joint]:
    yield from _chain("", None, SPINE)
    for side in ("Left", "Right"):
        yield from _chain(side, "Spine2", ARM)
        for finger in FINGERS:
            links = [(f"Hand{finger}{link + 1}", finger_path(finger, link / 3)) for link in range(4)]
            yield from _chain(side, f"{side}Hand", links)
        yield from _chain(side, "Hips", LEG)


JOINTS: tuple[Joint, ...] = tuple(_joints())
