"""The surfaces of the figure, each with its texture area and the bones that move it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .expressions import OPENING, Region, displaced
from .geometry import Station, Surface, Vec, ball, smooth, tube
from .skeleton import place
from .tables import load, other_side

__all__ = ["Part", "parts"]

UPS: dict[str, Vec] = {"y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0), "-z": (0.0, 0.0, -1.0)}
HAIRLINE = 0.0004


class Part(NamedTuple):
    """A surface, its texture area, its bones, and its points with eyes and mouth closed."""

    surface: Surface
    area: str
    bones: Sequence[str]
    closed: Sequence[Vec]


def parts(group: str, detail: int) -> Iterator[Part]:
    """Make the surfaces of a group, with `detail` times the rows and columns of small models."""
    for form in load("figure")[group]:
        surface, bones = _surface(form, detail), form["bones"]
        for half in (surface, surface.mirrored()) if form.get("mirror") else (surface,):
            points = displaced(half.points, OPENING) if form.get("lidded") else half.points
            yield Part(half._replace(points=points), form.get("area", ""), bones, half.points)
            bones = [other_side(bone) for bone in bones]


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
    surface = tube(
        stations,
        up=UPS[form["up"]],
        columns=form["columns"] * detail,
        squash=form.get("squash", 0.0),
        cuts=[row for row, *_ in slits],
        hollow=form.get("hollow", False),
    )
    sculpture = [(Region(place(origin, row[:3]), row[3]), row[4:]) for row in form.get("sculpture", ())]
    points = displaced(surface.points, sculpture)
    for slit in slits:
        _part(points, *slit, width=form["columns"] * detail + 1)
    return surface._replace(points=points)


def _part(points: list[Vec], row: int, middles: Sequence[float], half: float, *, width: int) -> None:
    """Move the edges of a slit 0.8 mm apart, so that regions can distinguish the upper from the lower edge."""
    for edge, way in ((row, -1), (row + 1, 1)):
        for index in range(1 + (edge - 1) * width, 1 + edge * width):
            x, y, z = points[index]
            inside = max(0.0, *(1.0 - ((x - middle) / half) ** 2 for middle in middles))
            points[index] = (x, y + way * HAIRLINE * inside * (z > 0), z)
