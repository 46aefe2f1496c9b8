"""Vectors and rotations; the skeleton in the rest pose of Avaturn's exports, a T-pose facing +Z; and the idle clip."""

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from .tables import Body, load, other_side, rows

__all__ = ["JOINTS", "Joint", "Quat", "Vec", "add", "channels", "cross", "joints_of", "place", "rotate"]
__all__ += ["scale", "times", "turn", "unit", "weigh"]

Vec = tuple[float, float, float]
Quat = tuple[float, float, float, float]

#: Joints that move one vertex; lengths are in metres.
INFLUENCES = 4
LEAF = 0.03
FRAMES, RATE = 242, 30
BLINKS = (1.9, 5.4)
STILL = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def add(*vectors: Vec) -> Vec:
    """Add vectors up."""
    x = y = z = 0.0
    for vector in vectors:
        x += vector[0]
        y += vector[1]
        z += vector[2]
    return x, y, z


def scale(vector: Vec, factor: float) -> Vec:
    """Multiply a vector by a number."""
    return vector[0] * factor, vector[1] * factor, vector[2] * factor


def cross(p: Vec, q: Vec) -> Vec:
    """Return the vector product."""
    return p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]


def unit(vector: Vec) -> Vec:
    """Scale a vector to the length 1."""
    return scale(vector, 1.0 / math.hypot(*vector))


def turn(first: Quat, second: Quat) -> Quat:
    """Multiply rotations: `second` in the frame of `first`."""
    ax, ay, az, aw = first
    bx, by, bz, bw = second
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def rotate(rotation: Quat, vector: Vec) -> Vec:
    """Rotate a vector."""
    x, y, z, w = rotation
    return turn(turn(rotation, (*vector, 0.0)), (-x, -y, -z, w))[:3]


class Joint(NamedTuple):
    """A joint: its transform below its parent, its transform in the world, and the vector to the end of its bone."""

    parent: str
    translation: Vec
    rotation: Quat
    position: Vec
    orientation: Quat
    reach: Vec

    @property
    def inverse_bind_matrix(self) -> tuple[float, ...]:
        """The matrix, by columns, that takes points of the rest pose into the joint's frame."""
        x, y, z, w = self.orientation
        columns = [rotate((-x, -y, -z, w), axis) for axis in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
        origin = scale(rotate((-x, -y, -z, w), self.position), -1.0)
        return (*columns[0], 0.0, *columns[1], 0.0, *columns[2], 0.0, *origin, 1.0)


def joints_of(body: str) -> tuple[str, ...]:
    """Return the names of the joints of a body type; only a T2 has joints for the eyes."""
    return tuple(name for name in JOINTS if body == "T2" or not name.endswith("Eye"))


def place(joint: str, offset: Sequence[float]) -> Vec:
    """Return the point at an offset from a joint, in the axes of the world."""
    x, y, z = offset
    return add(JOINTS[joint].position, (x, y, z)) if joint else (x, y, z)


def weigh(point: Vec, bones: Sequence[str]) -> list[tuple[int, int]]:
    """Return four pairs of joint and weight for the nearest of `bones`; the weights add up to 255."""
    near = sorted((_distance(point, JOINTS[bone]), INDEX[bone]) for bone in bones)[:INFLUENCES]
    pulls = [(index, (distance + 0.004) ** -5) for distance, index in near]
    total = sum(pull for _, pull in pulls)
    others = [(index, weight) for index, pull in pulls[1:] if (weight := round(255 * pull / total))]
    first = (pulls[0][0], 255 - sum(weight for _, weight in others))
    return [first, *others, *[(0, 0)] * (INFLUENCES - 1 - len(others))]


def _distance(point: Vec, joint: Joint) -> float:
    (hx, hy, hz), (dx, dy, dz) = joint.position, joint.reach
    px, py, pz = point[0] - hx, point[1] - hy, point[2] - hz
    share = min(1.0, max(0.0, (px * dx + py * dy + pz * dz) / (dx * dx + dy * dy + dz * dz)))
    return math.hypot(px - share * dx, py - share * dy, pz - share * dz)


def _joints() -> dict[str, Joint]:
    table = rows("rest_pose")
    joints: dict[str, Joint] = {}
    for name, parent, *numbers in table:
        tx, ty, tz, *quaternion = map(float, numbers)
        qx, qy, qz, qw = (value / math.hypot(*quaternion) for value in quaternion)
        origin, frame = (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)
        if parent in joints:
            origin, frame = joints[parent].position, joints[parent].orientation
        position, orientation = add(origin, rotate(frame, (tx, ty, tz))), turn(frame, (qx, qy, qz, qw))
        # Bones end at the joint below that is farthest along +Y.
        length = max((float(row[3]) for row in table if row[1] == name), default=LEAF)
        reach = rotate(orientation, (0.0, length, 0.0))
        joints[name] = Joint(parent, (tx, ty, tz), (qx, qy, qz, qw), position, orientation, reach)
    return joints


def times(step: int) -> "array[float]":
    """Return every `step`-th key of the clip, and the last one, in seconds."""
    return array("f", (frame / RATE for frame in (*range(0, FRAMES, step), FRAMES)))


def channels(
    body: Body, morphs: Mapping[str, Sequence[str]], step: int
) -> Iterator[tuple[str, str, list[Sequence[float]]]]:
    """Yield the channels of the clip: a node, its property, and a row of values for each time.

    Joints rotate, the hips move, and the weights of the meshes that have morph targets change.
    """
    keys = times(step)
    for name in joints_of(body):
        if body == "T1" or not (name == "Hips" or name.endswith(("Eye", "3", "ToeBase"))):
            yield name, "rotation", [_rotation(name, key) for key in keys]
    sways = [(0.004 * math.sin(_phase(key)), 0.0, 0.002 * math.sin(2 * _phase(key))) for key in keys]
    yield "Hips", "translation", [add(JOINTS["Hips"].translation, sway) for sway in sways]
    for mesh, names in morphs.items():
        yield mesh, "weights", [_weights(names, key) for key in keys]


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


JOINTS = _joints()
INDEX = {name: index for index, name in enumerate(JOINTS)}
GIVEN = load("avatar")["idle"]
MOTION: dict[str, list[tuple[float, float, float]]] = {
    **GIVEN,
    **{other_side(name): [(x, -y, -z) for x, y, z in pair] for name, pair in GIVEN.items() if "Left" in name},
}
