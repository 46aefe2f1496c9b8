"""The figure: a clothed person of simple closed surfaces, each with its swatch and the bones that move it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .skeleton import FINGERS, JOINTS, SHOULDER, finger_path
from .surface import Station, Surface, Vec, ellipsoid, smooth, tube
from .texture import Swatch

__all__ = ["BACKWARDS", "FORWARDS", "SIDES", "UPWARDS", "Part", "bare_arms", "clothes", "mirrored", "part", "shoes"]

UPWARDS: Vec = (0.0, 1.0, 0.0)
FORWARDS: Vec = (0.0, 0.0, 1.0)
BACKWARDS: Vec = (0.0, 0.0, -1.0)
SIDES = (("Left", 1.0), ("Right", -1.0))

BONES = {joint.name: index for index, joint in enumerate(JOINTS)}


class Part(NamedTuple):
    """A surface, its swatch, and the indices of its bones."""

    surface: Surface
    swatch: Swatch
    bones: tuple[int, ...]


def part(surface: Surface, swatch: Swatch, *bones: str) -> Part:
    """Make a part by the names of its bones."""
    return Part(surface, swatch, tuple(BONES[bone] for bone in bones))


def mirrored(surface: Surface, sign: float) -> Surface:
    """Return the surface, or for a sign of -1 its mirror image on the other side of the body."""
    if sign > 0:
        return surface
    points = [(-x, y, z) for x, y, z in surface.points]
    return Surface(points, surface.uvs, [(i, k, j) for i, j, k in surface.triangles])


def clothes() -> Iterator[Part]:
    """Make a shirt and trousers."""
    trunk = ("Hips", "Spine", "Spine1", "Spine2", "LeftShoulder", "RightShoulder")
    yield part(tube(smooth(SHIRT, 14), up=BACKWARDS, columns=18), Swatch.SHIRT, *trunk)
    yield part(tube(smooth(PELVIS, 6), up=BACKWARDS, columns=16), Swatch.TROUSERS, "Hips", "LeftUpLeg", "RightUpLeg")
    for side, sign in SIDES:
        sleeve = tube(smooth(SLEEVE, 7), up=UPWARDS, columns=12)
        yield part(mirrored(sleeve, sign), Swatch.SHIRT, "Spine2", f"{side}Shoulder", f"{side}Arm", f"{side}ForeArm")
        leg = tube(smooth(LEG, 11), up=BACKWARDS, columns=12)
        yield part(mirrored(leg, sign), Swatch.TROUSERS, "Hips", f"{side}UpLeg", f"{side}Leg", f"{side}Foot")


def bare_arms() -> Iterator[Part]:
    """Make arms, hands and fingers."""
    for side, sign in SIDES:
        arm = tube(smooth(ARM, 12), up=UPWARDS, columns=10)
        yield part(mirrored(arm, sign), Swatch.SKIN, f"{side}Arm", f"{side}ForeArm", f"{side}Hand")
        for finger in FINGERS:
            links = (f"{side}Hand{finger}{link}" for link in (1, 2, 3))
            yield part(mirrored(_finger(finger), sign), Swatch.SKIN, f"{side}Hand", *links)


def shoes() -> Iterator[Part]:
    """Make a pair of shoes."""
    for side, sign in SIDES:
        shoe = tube(smooth(SHOE, 8), up=UPWARDS, columns=10)
        yield part(mirrored(shoe, sign), Swatch.SHOES, f"{side}Foot", f"{side}ToeBase")
        shaft = ellipsoid(
            (0.099, 0.08, -0.012), axis=(0, 0.055, 0), up=BACKWARDS, radii=(0.05, 0.043), rows=5, columns=10
        )
        yield part(mirrored(shaft, sign), Swatch.SHOES, f"{side}Leg", f"{side}Foot")


def _finger(finger: str) -> Surface:
    root, tip = finger_path(finger, -0.15), finger_path(finger, 1.03)
    radius = 0.0108 if finger == "Thumb" else 0.0088
    stations = [Station(root, radius, radius)]
    stations += [Station(finger_path(finger, share), radius, radius) for share in (-0.1, 0.35, 0.7)]
    stations += [Station(finger_path(finger, 0.95), 0.7 * radius, 0.7 * radius), Station(tip, 0.0, 0.0)]
    return tube(stations, up=UPWARDS, columns=5)


def _upright(*rows: tuple[float, float, float, float, float]) -> Sequence[Station]:
    """Read rows of y, x, z and the radii in depth and width."""
    return [Station((x, y, z), depth, width) for y, x, z, depth, width in rows]


def _sideways(*rows: tuple[float, float, float, float]) -> Sequence[Station]:
    """Read rows of x, y and the radii in height and depth."""
    return [Station((x, y, -0.01), height, depth) for x, y, height, depth in rows]


SHIRT = _upright(
    (0.905, 0.0, 0.0, 0.105, 0.155),
    (0.905, 0.0, 0.0, 0.116, 0.168),
    (0.98, 0.0, 0.0, 0.112, 0.162),
    (1.08, 0.0, 0.002, 0.100, 0.144),
    (1.18, 0.0, 0.004, 0.108, 0.152),
    (1.28, 0.0, 0.006, 0.118, 0.170),
    (1.36, 0.0, 0.0, 0.112, 0.184),
    (1.415, 0.0, -0.008, 0.090, 0.182),
    (1.45, 0.0, -0.012, 0.074, 0.125),
    (1.478, 0.0, -0.012, 0.062, 0.068),
    (1.480, 0.0, -0.012, 0.0, 0.0),
)
PELVIS = _upright(
    (0.79, 0.0, 0.0, 0.04, 0.06),
    (0.80, 0.0, 0.0, 0.075, 0.115),
    (0.86, 0.0, -0.002, 0.100, 0.150),
    (0.92, 0.0, 0.0, 0.100, 0.152),
    (1.0, 0.0, 0.0, 0.085, 0.132),
    (1.0, 0.0, 0.0, 0.0, 0.0),
)
LEG = _upright(
    (0.93, 0.088, 0.0, 0.0, 0.0),
    (0.90, 0.088, 0.0, 0.092, 0.066),
    (0.80, 0.088, 0.0, 0.092, 0.073),
    (0.65, 0.091, 0.002, 0.078, 0.070),
    (0.51, 0.095, 0.002, 0.062, 0.059),
    (0.38, 0.096, -0.008, 0.062, 0.057),
    (0.20, 0.098, -0.012, 0.052, 0.049),
    (0.085, 0.099, -0.012, 0.056, 0.051),
    (0.085, 0.099, -0.012, 0.0, 0.0),
)
SLEEVE = _sideways(
    (0.10, SHOULDER - 0.02, 0.0, 0.0),
    (0.125, SHOULDER - 0.02, 0.056, 0.062),
    (0.18, SHOULDER - 0.01, 0.059, 0.064),
    (0.25, SHOULDER, 0.052, 0.057),
    (0.36, SHOULDER, 0.053, 0.056),
    (0.365, SHOULDER, 0.0, 0.0),
)
ARM = _sideways(
    (0.24, SHOULDER, 0.040, 0.042),
    (0.26, SHOULDER, 0.043, 0.045),
    (0.34, SHOULDER, 0.042, 0.044),
    (0.44, SHOULDER, 0.037, 0.038),
    (0.50, SHOULDER, 0.038, 0.040),
    (0.60, SHOULDER, 0.030, 0.034),
    (0.67, SHOULDER, 0.022, 0.029),
    (0.70, SHOULDER, 0.019, 0.036),
    (0.74, SHOULDER, 0.017, 0.044),
    (0.775, SHOULDER, 0.013, 0.041),
    (0.79, SHOULDER, 0.0, 0.0),
)
SHOE = [
    Station((0.099, 0.045, -0.075), 0.0, 0.0),
    Station((0.099, 0.045, -0.068), 0.034, 0.034),
    Station((0.099, 0.047, -0.02), 0.047, 0.043),
    Station((0.102, 0.043, 0.05), 0.043, 0.044),
    Station((0.106, 0.033, 0.12), 0.033, 0.049),
    Station((0.107, 0.027, 0.17), 0.024, 0.040),
    Station((0.107, 0.024, 0.195), 0.0, 0.0),
]
