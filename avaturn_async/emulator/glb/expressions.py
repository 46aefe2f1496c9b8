"""Facial expressions: displacements of fading regions around points of a face with closed eyes and mouth."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from .geometry import Vec, add, scale, unit
from .skeleton import place
from .tables import both_sides, load

__all__ = ["OPENING", "Region", "displaced", "displacements"]

NOWHERE: Vec = (0.0, 0.0, 0.0)


class Region(NamedTuple):
    """A ball that fades towards its surface; `half` keeps what is above (1) or below (-1) its centre.

    The boundary between the halves is sharp along an opening of half width `slit`, and softens beyond it.
    """

    center: Vec
    radius: float
    half: int = 0
    slit: float = 0.0

    def share(self, point: Vec) -> tuple[float, Vec] | None:
        """Return the share (0 to 1) of a displacement that a point takes, and its gradient; None for no share."""
        x, y, z = point[0] - self.center[0], point[1] - self.center[1], point[2] - self.center[2]
        near = 1.0 - (x * x + y * y + z * z) / self.radius**2
        if near <= 0.0:
            return None
        softness = 0.0006 + 0.7 * max(0.0, abs(x) - 0.9 * self.slit)
        part = min(1.0, max(0.0, 0.5 + 0.5 * self.half * y / softness)) if self.half else 1.0
        steep = -4.0 * near * part / self.radius**2
        return near * near * part, (steep * x, steep * y, steep * z)


def displacements(
    names: Iterable[str], points: Sequence[Vec], normals: Sequence[Vec], kind: str
) -> Iterator[dict[int, tuple[Vec, Vec]]]:
    """Yield for each expression the points that it moves, by index, with what it adds to position and normal."""
    reached = {
        name: {index: share for index, point in enumerate(points) if (share := region.share(point))}
        for name, region in REGIONS[kind].items()
    }
    for name in names:
        moves: dict[int, tuple[Vec, Vec]] = {}
        for region, (mx, my, mz) in _moves(name):
            for index, (part, slope) in reached.get(region, {}).items():
                nx, ny, nz = normals[index]
                offset, tilt = moves.get(index, (NOWHERE, NOWHERE))
                tilted = add(tilt, scale(slope, -(mx * nx + my * ny + mz * nz)))
                moves[index] = add(offset, (part * mx, part * my, part * mz)), tilted
        yield {
            index: (offset, add(unit(add(normals[index], tilt)), scale(normals[index], -1.0)))
            for index, (offset, tilt) in moves.items()
        }


def displaced(points: Sequence[Vec], moves: Iterable[tuple[Region, Vec]]) -> list[Vec]:
    """Apply displacements of regions to points."""
    result = list(points)
    for region, move in moves:
        for index, point in enumerate(points):
            if share := region.share(point):
                result[index] = add(result[index], scale(move, share[0]))
    return result


def _moves(name: str, weight: float = 1.0) -> Iterator[tuple[str, Vec]]:
    """Resolve an expression into displacements of regions."""
    for part, value in EXPRESSIONS[name].items():
        if isinstance(value, float):
            yield from _moves(part, weight * value)
        else:
            yield part, scale(value, weight)


REGIONS = {
    kind: {name: Region(place("Head", row[:3]), *row[3:]) for name, row in both_sides(rows).items()}
    for kind, rows in load("expressions")["regions"].items()
}
EXPRESSIONS = both_sides(load("expressions")["expressions"])
#: The displacements that open closed eyes: the inverse of a blink.
OPENING = [
    (REGIONS["face"][region], scale(move, -1.0))
    for name in ("eyeBlinkLeft", "eyeBlinkRight")
    for region, move in _moves(name)
]
