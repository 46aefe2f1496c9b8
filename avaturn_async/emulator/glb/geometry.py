"""Vectors, rotations as quaternions, and surfaces lofted through elliptical cross-sections."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

__all__ = ["Quat", "Station", "Surface", "Vec", "add", "ball", "cross", "normals", "rotate", "scale", "smooth", "tube"]
__all__ += ["turn", "unit"]

Vec = tuple[float, float, float]
Quat = tuple[float, float, float, float]
Triangle = tuple[int, int, int]


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
    """Loft a surface through `stations`, of which the first and the last are taken as points.

    Cross-sections are perpendicular to the line from the first to the last station. `squash` (0 to 1) moves columns
    from the side that `up` points to over to the opposite side. A row in `cuts` is not connected to the next one.
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


def ball(center: Vec, axis: Vec, radii: Sequence[float], rows: int) -> list[Station]:
    """Return the stations of an ellipsoid with the half-axis `axis`, and `radii` along and across its `up`."""
    angles = [math.pi * row / rows for row in range(rows + 1)]
    return [
        Station(add(center, scale(axis, -math.cos(angle))), *(radius * math.sin(angle) for radius in radii))
        for angle in angles
    ]


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
