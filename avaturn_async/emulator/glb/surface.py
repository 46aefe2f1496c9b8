"""Closed surfaces made of elliptical cross-sections: the only shape that the figure needs."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["Station", "Surface", "Vec", "add", "ellipsoid", "normals", "scale", "smooth", "tube"]

Vec = tuple[float, float, float]
Triangle = tuple[int, int, int]


class Station(NamedTuple):
    """One cross-section of a tube: where it is, and its radii in metres along and across the tube's `up`."""

    center: Vec
    up: float
    side: float


class Surface(NamedTuple):
    """Points, one texture coordinate for each (0 to 1 in both directions), and outward counter-clockwise triangles."""

    points: list[Vec]
    uvs: list[tuple[float, float]]
    triangles: list[Triangle]


def tube(stations: Sequence[Station], *, up: Vec, columns: int, squash: float = 0.0) -> Surface:
    """Loft a closed surface through `stations`, of which the first and the last are taken as points.

    Cross-sections are perpendicular to the line from the first to the last station. `squash` (0 to 1) moves columns
    from the side that `up` shows to over to the opposite one.
    """
    directions = _directions(stations, up=up, columns=columns, squash=squash)
    last = len(stations) - 1
    points, uvs = [stations[0].center], [(0.5, 0.0)]
    for row, station in enumerate(stations[1:-1], 1):
        ring = [add(station.center, scale(a, station.up), scale(b, station.side)) for a, b in directions]
        points += [*ring, ring[0]]
        uvs += [(column / columns, row / last) for column in range(columns + 1)]
    points.append(stations[-1].center)
    uvs.append((0.5, 1.0))
    return Surface(points, uvs, list(_triangles(rows=last - 1, columns=columns)))


def ellipsoid(center: Vec, *, axis: Vec, up: Vec, radii: tuple[float, float], rows: int, columns: int) -> Surface:
    """Make an ellipsoid whose half-axes are the vector `axis` and the `radii` along and across `up`."""
    stations = []
    for row in range(rows + 1):
        angle = math.pi * row / rows
        around = math.sin(angle)
        stations.append(
            Station(add(center, scale(axis, -math.cos(angle))), radii[0] * around, radii[1] * around),
        )
    return tube(stations, up=up, columns=columns)


def smooth(stations: Sequence[Station], rows: int) -> list[Station]:
    """Put `rows` + 1 stations on the Catmull-Rom curve through the given ones."""
    flat = [(*station.center, station.up, station.side) for station in stations]
    padded = [flat[0], *flat, flat[-1]]
    result = []
    for row in range(rows + 1):
        piece, t = divmod(row * (len(flat) - 1) / rows, 1.0)
        start = min(int(piece), len(flat) - 2)
        t += piece - start
        x, y, z, up, side = (_catmull_rom(values, t) for values in zip(*padded[start : start + 4], strict=True))
        result.append(Station((x, y, z), max(up, 0.0), max(side, 0.0)))
    return result


def normals(points: Sequence[Vec], triangles: Iterable[Triangle]) -> list[Vec]:
    """Average the normals of the triangles around each point, points in the same place counting as one."""
    sums: dict[Vec, Vec] = dict.fromkeys(points, (0.0, 0.0, 0.0))
    for i, j, k in triangles:
        p, q, r = points[i], points[j], points[k]
        face = _cross(_minus(q, p), _minus(r, p))
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


def unit(vector: Vec) -> Vec:
    """Scale a vector to the length 1."""
    return scale(vector, 1.0 / math.hypot(*vector))


def _minus(p: Vec, q: Vec) -> Vec:
    return p[0] - q[0], p[1] - q[1], p[2] - q[2]


def _cross(p: Vec, q: Vec) -> Vec:
    return p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]


def _directions(stations: Sequence[Station], *, up: Vec, columns: int, squash: float) -> list[tuple[Vec, Vec]]:
    axis = unit(_minus(stations[-1].center, stations[0].center))
    side = unit(_cross(axis, up))
    upright = _cross(side, axis)
    angles = (2 * math.pi * column / columns for column in range(columns))
    warped = [angle + squash * math.sin(angle) for angle in angles]
    return [(scale(upright, math.cos(angle)), scale(side, math.sin(angle))) for angle in warped]


def _triangles(*, rows: int, columns: int) -> Iterable[Triangle]:
    width = columns + 1
    end = 1 + rows * width
    for column in range(columns):
        yield 0, 2 + column, 1 + column
        for row in range(rows - 1):
            corner = 1 + row * width + column
            yield corner, corner + 1, corner + width + 1
            yield corner, corner + width + 1, corner + width
        yield end - width + column, end - width + column + 1, end


def _catmull_rom(values: Sequence[float], t: float) -> float:
    p, q, r, s = values
    return q + 0.5 * t * (r - p + t * (2 * p - 5 * q + 4 * r - s + t * (3 * (q - r) + s - p)))
