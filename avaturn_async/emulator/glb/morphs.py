"""Facial expressions: ARKit's 52 blend shapes and Oculus' 15 visemes, as displacements of regions of the face."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from .surface import Vec, add, scale

__all__ = ["ARKIT", "EYE", "EYEBALLS", "FACE", "MOUTH", "TARGETS", "VISEMES", "Region", "displacements", "influences"]

EYE: Vec = (0.031, 1.652, 0.08)
MOUTH: Vec = (0.0, 1.585, 0.1)
NEGLIGIBLE = 8e-5

Moves = tuple[tuple[str, Vec], ...]


class Region(NamedTuple):
    """A ball that fades towards its surface; `half` keeps what is above (1) or below (-1) its centre."""

    center: Vec
    radius: float
    half: int = 0

    def share(self, point: Vec) -> float:
        """Tell how much of the region's displacement a point takes, 0 to 1."""
        x, y, z = point[0] - self.center[0], point[1] - self.center[1], point[2] - self.center[2]
        near = 1.0 - (x * x + y * y + z * z) / self.radius**2
        if near <= 0.0:
            return 0.0
        ramp = min(1.0, max(0.0, 0.5 + self.half * y / 0.003)) if self.half else 1.0
        return near * near * ramp


def _both(name: str, region: Region) -> dict[str, Region]:
    (x, y, z), radius, half = region
    return {f"{name}Left": region, f"{name}Right": Region((-x, y, z), radius, half)}


REGIONS: dict[str, Region] = {
    "jaw": Region(MOUTH, 0.075, -1),
    "lowerLip": Region(MOUTH, 0.032, -1),
    "upperLip": Region(MOUTH, 0.030, 1),
    "lips": Region(MOUTH, 0.036),
    "innerBrow": Region((0.0, 1.679, 0.095), 0.030),
    **_both("brow", Region((0.042, 1.681, 0.085), 0.028)),
    **_both("lid", Region(EYE, 0.028, 1)),
    **_both("underEye", Region(EYE, 0.021, -1)),
    **_both("eye", Region((EYE[0], EYE[1], EYE[2] + 0.013), 0.011)),
    **_both("corner", Region((0.025, 1.585, 0.088), 0.022)),
    **_both("lowerSide", Region((0.015, 1.581, 0.094), 0.018, -1)),
    **_both("upperSide", Region((0.015, 1.589, 0.094), 0.018, 1)),
    **_both("cheek", Region((0.045, 1.605, 0.075), 0.036)),
    **_both("nostril", Region((0.012, 1.611, 0.108), 0.018)),
}


EYEBALLS = frozenset({"eyeLeft", "eyeRight"})
FACE = frozenset(REGIONS) - EYEBALLS


def _sides(name: str, moves: Moves) -> dict[str, Moves]:
    """Give a shape of the left half of the face, and its mirror image."""
    mirrored = tuple((region, (-x, y, z)) for region, (x, y, z) in moves)
    return {
        f"{name}{side}": tuple((region if region in REGIONS else region + side, move) for region, move in half)
        for side, half in (("Left", moves), ("Right", mirrored))
    }


def _looks() -> dict[str, Moves]:
    shifts = {"In": (-0.004, 0.0, 0.0), "Out": (0.004, 0.0, 0.0), "Down": (0.0, -0.004, 0.0), "Up": (0.0, 0.004, 0.0)}
    lids = {"In": -0.001, "Out": 0.001, "Down": -0.003, "Up": 0.0015}
    looks: dict[str, Moves] = {}
    for way, shift in shifts.items():
        looks |= _sides(f"eyeLook{way}", (("eye", shift), ("lid", (0.0, lids[way], 0.0))))
    return looks


ARKIT: dict[str, Moves] = {
    "browInnerUp": (("innerBrow", (0.0, 0.009, 0.0)),),
    **_sides("browDown", (("brow", (-0.002, -0.006, 0.001)),)),
    **_sides("browOuterUp", (("brow", (0.001, 0.008, -0.001)),)),
    **_sides("eyeBlink", (("lid", (0.0, -0.019, 0.006)), ("underEye", (0.0, 0.003, 0.001)))),
    **_sides("eyeSquint", (("lid", (0.0, -0.006, 0.002)), ("underEye", (0.0, 0.005, 0.001)))),
    **_sides("eyeWide", (("lid", (0.0, 0.004, -0.001)),)),
    **_looks(),
    "jawForward": (("jaw", (0.0, 0.0, 0.01)),),
    "jawLeft": (("jaw", (0.01, 0.0, 0.0)),),
    "jawRight": (("jaw", (-0.01, 0.0, 0.0)),),
    "jawOpen": (("jaw", (0.0, -0.024, -0.006)),),
    "mouthClose": (("lowerLip", (0.0, 0.004, 0.001)), ("upperLip", (0.0, -0.001, 0.001))),
    "mouthFunnel": (("lips", (0.0, 0.0, 0.01)), ("lowerLip", (0.0, -0.004, 0.0)), ("upperLip", (0.0, 0.003, 0.0))),
    "mouthPucker": (("lips", (0.0, 0.0, 0.009)), ("cornerLeft", (-0.009, 0, 0)), ("cornerRight", (0.009, 0, 0))),
    "mouthLeft": (("lips", (0.009, 0.0, 0.0)),),
    "mouthRight": (("lips", (-0.009, 0.0, 0.0)),),
    "mouthRollLower": (("lowerLip", (0.0, 0.002, -0.007)),),
    "mouthRollUpper": (("upperLip", (0.0, -0.002, -0.007)),),
    "mouthShrugLower": (("lowerLip", (0.0, 0.005, 0.003)),),
    "mouthShrugUpper": (("upperLip", (0.0, 0.005, 0.002)),),
    **_sides("mouthSmile", (("corner", (0.006, 0.008, -0.003)), ("cheek", (0.001, 0.003, 0.002)))),
    **_sides("mouthFrown", (("corner", (0.001, -0.008, -0.001)),)),
    **_sides("mouthDimple", (("corner", (0.004, 0.001, -0.005)),)),
    **_sides("mouthStretch", (("corner", (0.008, -0.003, -0.004)),)),
    **_sides("mouthPress", (("lowerSide", (0.0, 0.003, -0.001)), ("upperSide", (0.0, -0.003, -0.001)))),
    **_sides("mouthLowerDown", (("lowerSide", (0.0, -0.007, 0.0)),)),
    **_sides("mouthUpperUp", (("upperSide", (0.0, 0.007, 0.0)),)),
    "cheekPuff": (("cheekLeft", (0.009, 0.0, 0.006)), ("cheekRight", (-0.009, 0.0, 0.006))),
    **_sides("cheekSquint", (("cheek", (0.0, 0.006, 0.002)),)),
    **_sides("noseSneer", (("nostril", (0.001, 0.005, 0.0)),)),
    "tongueOut": (("lowerLip", (0.0, -0.009, 0.003)),),
}

VISEMES: dict[str, dict[str, float]] = {
    "viseme_sil": {"mouthClose": 0.1},
    "viseme_PP": {"mouthClose": 0.6, "mouthPressLeft": 0.5, "mouthPressRight": 0.5},
    "viseme_FF": {"mouthRollLower": 0.7, "mouthShrugUpper": 0.3},
    "viseme_TH": {"jawOpen": 0.2, "tongueOut": 0.5},
    "viseme_DD": {"jawOpen": 0.2, "mouthShrugUpper": 0.2},
    "viseme_kk": {"jawOpen": 0.25, "mouthStretchLeft": 0.2, "mouthStretchRight": 0.2},
    "viseme_CH": {"jawOpen": 0.1, "mouthFunnel": 0.6},
    "viseme_SS": {"mouthStretchLeft": 0.4, "mouthStretchRight": 0.4, "mouthLowerDownLeft": 0.3},
    "viseme_nn": {"jawOpen": 0.15, "mouthDimpleLeft": 0.2, "mouthDimpleRight": 0.2},
    "viseme_RR": {"jawOpen": 0.15, "mouthPucker": 0.3},
    "viseme_aa": {"jawOpen": 0.8},
    "viseme_E": {"jawOpen": 0.35, "mouthStretchLeft": 0.4, "mouthStretchRight": 0.4},
    "viseme_I": {"jawOpen": 0.2, "mouthSmileLeft": 0.4, "mouthSmileRight": 0.4},
    "viseme_O": {"jawOpen": 0.5, "mouthFunnel": 0.6},
    "viseme_U": {"jawOpen": 0.2, "mouthPucker": 0.8},
}

TARGETS: tuple[str, ...] = (*ARKIT, *VISEMES)


def displacements(points: Sequence[Vec], regions: frozenset[str]) -> dict[str, dict[int, Vec]]:
    """Tell for each target which points it moves, and by how much in metres; targets that move none are left out."""
    shares = {name: influences(points, REGIONS[name]) for name in sorted(regions)}
    moved = {target: dict(_moved(_parts(target), shares)) for target in TARGETS}
    return {target: moves for target, moves in moved.items() if moves}


def influences(points: Sequence[Vec], region: Region) -> dict[int, float]:
    """Tell which points a region reaches, and how much of its displacement each takes."""
    return {index: share for index, point in enumerate(points) if (share := region.share(point))}


def _parts(target: str) -> Iterator[tuple[str, Vec]]:
    if target in ARKIT:
        yield from ARKIT[target]
        return
    for shape, weight in VISEMES[target].items():
        yield from ((region, scale(move, weight)) for region, move in ARKIT[shape])


def _moved(parts: Iterator[tuple[str, Vec]], shares: Mapping[str, Mapping[int, float]]) -> Iterator[tuple[int, Vec]]:
    sums: dict[int, Vec] = {}
    for region, move in parts:
        for index, share in shares.get(region, {}).items():
            sums[index] = add(sums.get(index, (0.0, 0.0, 0.0)), scale(move, share))
    return ((index, move) for index, move in sums.items() if max(map(abs, move)) > NEGLIGIBLE)
