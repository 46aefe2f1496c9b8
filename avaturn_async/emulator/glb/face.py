"""The head: a lofted skull, sculpted by the same fading regions that expressions use, with features laid on it."""

from collections.abc import Iterator

from .figure import BACKWARDS, FORWARDS, SIDES, UPWARDS, Part, mirrored, part
from .morphs import EYE, MOUTH, Region, influences
from .surface import Station, Surface, Vec, add, ellipsoid, scale, smooth, tube
from .texture import Swatch

__all__ = ["eyes", "hair", "head", "teeth"]

SKULL = [
    Station((0.0, y, z), depth, width)
    for y, z, depth, width in (
        (1.445, -0.018, 0.060, 0.062),
        (1.45, -0.018, 0.060, 0.062),
        (1.50, -0.012, 0.055, 0.054),
        (1.528, 0.004, 0.066, 0.054),
        (1.546, 0.012, 0.081, 0.054),
        (1.565, 0.009, 0.089, 0.063),
        (1.60, 0.003, 0.095, 0.071),
        (1.64, 0.0, 0.098, 0.076),
        (1.68, -0.002, 0.098, 0.078),
        (1.715, -0.005, 0.092, 0.073),
        (1.742, -0.008, 0.070, 0.057),
        (1.757, -0.010, 0.040, 0.033),
        (1.762, -0.010, 0.0, 0.0),
    )
]
SCULPTURE: tuple[tuple[Region, Vec], ...] = (
    (Region((0.0, 1.609, 0.098), 0.026), (0.0, 0.0, 0.022)),
    (Region((0.0, 1.632, 0.098), 0.024), (0.0, 0.0, 0.012)),
    (Region((0.033, 1.652, 0.090), 0.030), (0.0, 0.0, -0.014)),
    (Region((-0.033, 1.652, 0.090), 0.030), (0.0, 0.0, -0.014)),
    (Region((0.0, 1.546, 0.093), 0.030), (0.0, -0.004, 0.007)),
    (Region((0.0, 1.680, 0.095), 0.050), (0.0, 0.0, 0.004)),
)


def head() -> Iterator[Part]:
    """Make the neck and the head with all that an expression moves."""
    yield part(_sculpted(tube(smooth(SKULL, 27), up=BACKWARDS, columns=24, squash=0.45)), Swatch.SKIN, *NECK)
    yield part(_bow(MOUTH, 0.0015, 0.0034), Swatch.MOUTH, "Head")
    yield part(_bow(add(MOUTH, (0.0, 0.0036, 0.0)), 0.0040, 0.0055), Swatch.LIPS, "Head")
    yield part(_bow(add(MOUTH, (0.0, -0.0044, -0.0005)), 0.0050, 0.0060), Swatch.LIPS, "Head")
    for _, sign in SIDES:
        yield part(mirrored(_lid(), sign), Swatch.SKIN, "Head")
        yield part(mirrored(tube(smooth(BROW, 6), up=UPWARDS, columns=4), sign), Swatch.HAIR, "Head")
        ear = ellipsoid(
            (0.078, 1.636, -0.006), axis=(0.005, 0.031, -0.006), up=FORWARDS, radii=(0.018, 0.008), rows=6, columns=8
        )
        yield part(mirrored(ear, sign), Swatch.SKIN, "Head")


def eyes() -> Iterator[Part]:
    """Make eyeballs whose last rows, at the front, are the iris and the pupil."""
    for _, sign in SIDES:
        ball = ellipsoid(EYE, axis=(0.0, 0.0, 0.0135), up=UPWARDS, radii=(0.0125, 0.0145), rows=10, columns=12)
        yield part(mirrored(ball, sign), Swatch.EYE, "Head")


def teeth() -> Iterator[Part]:
    """Make the upper teeth, hidden until the jaw opens."""
    yield part(_bow(add(MOUTH, (0.0, 0.0025, 0.0012)), 0.0024, 0.003, half_width=0.018), Swatch.TEETH, "Head")


def hair(*, long: bool) -> Iterator[Part]:
    """Make a cap of hair, and what falls behind the head."""
    stations = [Station(add(CROWN, scale(TILT, step)), depth, width) for step, depth, width in CAP]
    yield part(tube(smooth(stations, 10), up=BACKWARDS, columns=20), Swatch.HAIR, "Head")
    fall = tube(smooth(FALL if long else NAPE, 8), up=BACKWARDS, columns=14)
    yield part(fall, Swatch.HAIR, "Head", "Neck", *(("Spine2",) if long else ()))


def _sculpted(surface: Surface) -> Surface:
    points = list(surface.points)
    for region, move in SCULPTURE:
        for index, share in influences(surface.points, region).items():
            points[index] = add(points[index], scale(move, share))
    return surface._replace(points=points)


def _bow(center: Vec, height: float, depth: float, *, half_width: float = 0.026) -> Surface:
    """Bend a thin tube around the teeth, thickest in the middle."""
    stations = []
    for step in range(-4, 5):
        share = step / 4
        thickness = (1.0 - share * share) ** 0.5
        place = add(center, (share * half_width, 0.0, -0.0085 * share * share))
        stations.append(Station(place, height * thickness, depth * thickness))
    return tube(stations, up=UPWARDS, columns=6)


def _lid() -> Surface:
    center = add(EYE, (0.0, 0.0062, -0.0005))
    return ellipsoid(center, axis=(0.0165, 0.0, 0.0), up=UPWARDS, radii=(0.0125, 0.0142), rows=6, columns=8)


NECK = ("Spine2", "Neck", "Head")
BROW = [
    Station((0.011, 1.676, 0.098), 0.0, 0.0),
    Station((0.016, 1.677, 0.098), 0.0038, 0.003),
    Station((0.032, 1.681, 0.094), 0.0034, 0.003),
    Station((0.048, 1.679, 0.083), 0.0022, 0.003),
    Station((0.055, 1.675, 0.076), 0.0, 0.0),
]
CROWN: Vec = (0.0, 1.674, -0.012)
TILT: Vec = (0.0, 1.0, -0.45)
CAP = (
    (-0.02, 0.0, 0.0),
    (-0.02, 0.104, 0.078),
    (-0.01, 0.113, 0.086),
    (0.01, 0.114, 0.0885),
    (0.04, 0.106, 0.084),
    (0.07, 0.088, 0.070),
    (0.092, 0.055, 0.044),
    (0.102, 0.0, 0.0),
)
NAPE = [
    Station((0.0, 1.71, -0.045), 0.0, 0.0),
    Station((0.0, 1.69, -0.048), 0.055, 0.074),
    Station((0.0, 1.62, -0.05), 0.054, 0.074),
    Station((0.0, 1.565, -0.048), 0.040, 0.062),
    Station((0.0, 1.535, -0.046), 0.0, 0.0),
]
FALL = [
    Station((0.0, 1.72, -0.045), 0.0, 0.0),
    Station((0.0, 1.70, -0.05), 0.055, 0.075),
    Station((0.0, 1.62, -0.055), 0.055, 0.088),
    Station((0.0, 1.52, -0.062), 0.042, 0.092),
    Station((0.0, 1.42, -0.082), 0.030, 0.085),
    Station((0.0, 1.36, -0.09), 0.0, 0.0),
]
