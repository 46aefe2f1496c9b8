"""The surfaces of the figure, lofted through elliptical cross-sections, and the expressions of its face.

An expression displaces fading regions around points of a face with closed eyes and mouth.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .skeleton import Vec, add, cross, place, scale, unit, weigh
from .tables import both_sides, load, other_side

__all__ = ["Shape", "displacements", "normals", "shape"]

Triangle = tuple[int, int, int]
UPS: dict[str, Vec] = {"y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0), "-z": (0.0, 0.0, -1.0)}
HAIRLINE = 0.0004
NOWHERE: Vec = (0.0, 0.0, 0.0)


class Station(NamedTuple):
    """One cross-section of a tube: its centre, and its radii along and across the tube's `up`."""

    center: Vec
    up: float
    side: float


class Surface(NamedTuple):
    """Points, their texture coordinates (0 to 1), and outward counter-clockwise triangles."""

    points: list[Vec]
    uvs: list[tuple[float, float]]
    triangles: list[Triangle]

    def mirrored(self) -> "Surface":
        """Return the surface's mirror image on the other side of the body."""
        return Surface([(-x, y, z) for x, y, z in self.points], self.uvs, [(i, k, j) for i, j, k in self.triangles])


def tube(stations: Sequence[Station], *, up: Vec, columns: int, squash: float, cuts: Collection[int]) -> Surface:
    """Loft a surface through `stations`; the first and the last are points.

    Cross-sections are perpendicular to the line from the first to the last station. `squash` (0 to 1) moves columns
    from the side of `up` to the opposite side. A row in `cuts` is not connected to the next one.
    """
    axis = unit(add(stations[-1].center, scale(stations[0].center, -1.0)))
    side = unit(cross(axis, up))
    upright = cross(side, axis)
    angles = [2 * math.pi * column / columns for column in range(columns)]
    warped = [angle + squash * math.sin(angle) for angle in angles]
    directions = [(scale(upright, math.cos(angle)), scale(side, math.sin(angle))) for angle in warped]
    last = len(stations) - 1
    points, uvs = [stations[0].center], [(0.5, 0.0)]
    for row, station in enumerate(stations[1:-1], 1):
        ring = [add(station.center, scale(a, station.up), scale(b, station.side)) for a, b in directions]
        points += [*ring, ring[0]]
        uvs += [(column / columns, row / last) for column in range(columns + 1)]
    return Surface([*points, stations[-1].center], [*uvs, (0.5, 1.0)], list(_triangles(last - 1, columns, cuts)))


def _triangles(rows: int, columns: int, cuts: Collection[int]) -> Iterator[Triangle]:
    width = columns + 1
    end = 1 + rows * width
    for column in range(columns):
        yield 0, 2 + column, 1 + column
        for row in range(rows - 1):
            if row + 1 not in cuts:
                corner = 1 + row * width + column
                yield corner, corner + 1, corner + width + 1
                yield corner, corner + width + 1, corner + width
        yield end - width + column, end - width + column + 1, end


def smooth(stations: Sequence[Station], steps: int) -> list[Station]:
    """Divide each interval between stations into `steps`, along the Catmull-Rom curve through all of them."""
    flat = [(*station.center, station.up, station.side) for station in stations]
    padded = [flat[0], *flat, flat[-1]]
    result = []
    for piece in range(len(flat) - 1):
        for step in range(steps):
            t = step / steps
            x, y, z, up, side = (
                q + 0.5 * t * (r - p + t * (2 * p - 5 * q + 4 * r - s + t * (3 * (q - r) + s - p)))
                for p, q, r, s in zip(*padded[piece : piece + 4], strict=True)
            )
            result.append(Station((x, y, z), max(up, 0.0), max(side, 0.0)))
    return [*result, stations[-1]]


def normals(points: Sequence[Vec], triangles: Iterable[Triangle]) -> list[Vec]:
    """Average the normals of the triangles around each point; points in the same place count as one."""
    sums: dict[Vec, Vec] = dict.fromkeys(points, (0.0, 0.0, 0.0))
    for corners in triangles:
        p, q, r = (points[corner] for corner in corners)
        face = cross((q[0] - p[0], q[1] - p[1], q[2] - p[2]), (r[0] - p[0], r[1] - p[1], r[2] - p[2]))
        for point in (p, q, r):
            sums[point] = add(sums[point], face)
    return [unit(sums[point]) for point in points]


class Shape(NamedTuple):
    """Triangles, and the attributes of vertices; `closed` are their points with eyes and mouth closed."""

    triangles: list[Triangle]
    points: list[Vec]
    closed: list[Vec]
    uvs: list[tuple[float, float]]
    weights: list[tuple[int, int]]
    """Four pairs of joint and weight for each vertex."""


def shape(groups: Sequence[str], joints: Sequence[str], detail: int) -> Shape:
    """Join the surfaces of groups; `detail` multiplies the rows and columns of small models."""
    joined = Shape([], [], [], [], [])
    for form in (form for group in groups for form in load("figure")[group]):
        surface, bones = _surface(form, detail), form["bones"]
        area = form.get("area", "whole")
        if "arms" in groups and area in ("shirt", "trousers", "shoes"):
            area = "skin"
        left, top, right, bottom = load("avatar")["areas"][area]
        for half in (surface, surface.mirrored()) if form.get("mirror") else (surface,):
            start = len(joined.points)
            points = _displaced(half.points, OPENING) if form.get("lidded") else half.points
            pulling = [bone if bone in joints else "Head" for bone in bones]
            joined.triangles.extend((start + i, start + j, start + k) for i, j, k in half.triangles)
            joined.points.extend(points)
            joined.closed.extend(half.points)
            # Keep off the edges of the area, so that filtering does not mix in its neighbours.
            joined.uvs.extend(
                (left + (0.02 + 0.96 * u) * (right - left), top + (0.02 + 0.96 * v) * (bottom - top))
                for u, v in half.uvs
            )
            joined.weights.extend(pair for point in points for pair in weigh(point, pulling))
            bones = [other_side(bone) for bone in bones]
    return joined


def _surface(form: Mapping[str, Any], detail: int) -> Surface:
    origin = form.get("origin", "")
    if "ball" in form:  # an ellipsoid with the half-axis `axis`, and `radii` along and across its `up`
        center, axis, radii = (form["ball"][name] for name in ("center", "axis", "radii"))
        angles = [math.pi * row / (form["rows"] * detail) for row in range(form["rows"] * detail + 1)]
        stations = [
            Station(add(place(origin, center), scale(axis, -math.cos(angle))), *(r * math.sin(angle) for r in radii))
            for angle in angles
        ]
    else:
        stations = smooth([Station(place(origin, row[:3]), *row[3:]) for row in form["stations"]], detail)
        first, last = (end._replace(up=0.0, side=0.0) for end in (stations[0], stations[-1]))
        stations = [*[first] * (stations[0].up > 0), *stations, *[last] * (stations[-1].up > 0)]
    # A surface with slits starts with a point, so the index of a station is its row.
    slits = [(row * detail + doubled, *slit) for doubled, (row, *slit) in enumerate(form.get("slits", ()))]
    for row, *_ in slits:
        stations.insert(row, stations[row])
    columns, cuts = form["columns"] * detail, [row for row, *_ in slits]
    surface = tube(stations, up=UPS[form["up"]], columns=columns, squash=form.get("squash", 0.0), cuts=cuts)
    if form.get("hollow"):
        end = len(surface.points) - 1
        return Surface(surface.points[:-1], surface.uvs[:-1], [each for each in surface.triangles if end not in each])
    sculpture = [(Region(place(origin, row[:3]), row[3]), row[4:]) for row in form.get("sculpture", ())]
    points = _displaced(surface.points, sculpture)
    for slit in slits:
        _part(points, *slit, width=columns + 1)
    return surface._replace(points=points)


def _part(points: list[Vec], row: int, middles: Sequence[float], half: float, *, width: int) -> None:
    """Move the edges of a slit 0.8 mm apart, so that regions can distinguish the upper from the lower edge."""
    for edge, way in ((row, -1), (row + 1, 1)):
        for index in range(1 + (edge - 1) * width, 1 + edge * width):
            x, y, z = points[index]
            inside = max(0.0, *(1.0 - ((x - middle) / half) ** 2 for middle in middles))
            points[index] = (x, y + way * HAIRLINE * inside * (z > 0), z)


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
    """Yield for each expression the offsets of position and normal of the points that it moves, by index."""
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


def _displaced(points: Sequence[Vec], moves: Iterable[tuple[Region, Vec]]) -> list[Vec]:
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
