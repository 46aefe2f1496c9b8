"""The surfaces of the figure, as they are in the vertices of a mesh."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .expressions import OPENING, Region, displaced
from .geometry import Station, Surface, Vec, ball, smooth, tube
from .skeleton import place, weigh
from .tables import load, other_side

__all__ = ["Shape", "shape"]

UPS: dict[str, Vec] = {"y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0), "-z": (0.0, 0.0, -1.0)}
HAIRLINE = 0.0004


class Shape(NamedTuple):
    """Triangles, and for each vertex its point, the point with eyes and mouth closed, and more attributes."""

    triangles: list[tuple[int, int, int]]
    points: list[Vec]
    closed: list[Vec]
    uvs: list[tuple[float, float]]
    weights: list[tuple[int, int]]
    """Four pairs of joint and weight for each vertex."""


def shape(groups: Iterable[str], joints: Sequence[str], detail: int) -> Shape:
    """Join the surfaces of groups, with `detail` times the rows and columns of small models."""
    joined = Shape([], [], [], [], [])
    for form in (form for group in groups for form in load("figure")[group]):
        surface, bones = _surface(form, detail), form["bones"]
        left, top, right, bottom = load("avatar")["areas"][_area(form, groups)]
        for half in (surface, surface.mirrored()) if form.get("mirror") else (surface,):
            start = len(joined.points)
            points = displaced(half.points, OPENING) if form.get("lidded") else half.points
            pulling = [bone if bone in joints else "Head" for bone in bones]
            joined.triangles.extend((start + i, start + j, start + k) for i, j, k in half.triangles)
            joined.points.extend(points)
            joined.closed.extend(half.points)
            # Off the edges of the area, so that filtering mixes in no neighbour.
            joined.uvs.extend(
                (left + (0.02 + 0.96 * u) * (right - left), top + (0.02 + 0.96 * v) * (bottom - top))
                for u, v in half.uvs
            )
            joined.weights.extend(pair for point in points for pair in weigh(point, pulling))
            bones = [other_side(bone) for bone in bones]
    return joined


def _area(form: Mapping[str, Any], groups: Iterable[str]) -> str:
    area: str = form.get("area", "whole")
    return "skin" if "arms" in groups and area in ("shirt", "trousers", "shoes") else area


def _surface(form: Mapping[str, Any], detail: int) -> Surface:
    origin = form.get("origin", "")
    if "ball" in form:
        center, axis, radii = (form["ball"][name] for name in ("center", "axis", "radii"))
        stations = ball(place(origin, center), axis, radii, form["rows"] * detail)
    else:
        stations = smooth([Station(place(origin, row[:3]), *row[3:]) for row in form["stations"]], detail)
        first, last = (end._replace(up=0.0, side=0.0) for end in (stations[0], stations[-1]))
        stations = [*[first] * (stations[0].up > 0), *stations, *[last] * (stations[-1].up > 0)]
    # A surface with slits starts with a point, so that its stations are as many rows from the first.
    slits = [(row * detail + doubled, *slit) for doubled, (row, *slit) in enumerate(form.get("slits", ()))]
    for row, *_ in slits:
        stations.insert(row, stations[row])
    columns, cuts = form["columns"] * detail, [row for row, *_ in slits]
    surface = tube(stations, up=UPS[form["up"]], columns=columns, squash=form.get("squash", 0.0), cuts=cuts)
    if form.get("hollow"):
        end = len(surface.points) - 1
        return Surface(surface.points[:-1], surface.uvs[:-1], [each for each in surface.triangles if end not in each])
    sculpture = [(Region(place(origin, row[:3]), row[3]), row[4:]) for row in form.get("sculpture", ())]
    points = displaced(surface.points, sculpture)
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
