"""The morph targets of a T2 move what their names say."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from .kit import Row, length, model, morph_targets

TARGETS = [(mesh, name) for mesh, names in morph_targets().items() for name in names]


@pytest.mark.parametrize("weight", ["full", "small"])
def test_every_target_moves_something(weight: str) -> None:
    """By a tenth of a millimetre at least, and by three centimetres at most; each tilts some normal."""
    read = model("T2", weight)
    for mesh, name in TARGETS:
        assert 1e-4 < max(map(length, read.target(mesh, name))) < 0.032, (mesh, name)
        assert any(map(any, read.target(mesh, name, "NORMAL"))), (mesh, name)


def test_targets_of_a_mesh_differ() -> None:
    """No two targets of the head are the same."""
    names = morph_targets()["Head_Mesh"]
    assert len(names) == len({tuple(model("T2").target("Head_Mesh", name)) for name in names})


def test_normals_stay_unit_vectors() -> None:
    """A target at its full weight gives normals of the length 1."""
    read = model("T2", "full")
    normals = read.attribute("Head_Mesh", "NORMAL")
    for name in ("jawOpen", "mouthSmile", "eyesClosed", "viseme_O"):
        moved = (_sum(*pair) for pair in zip(normals, read.target("Head_Mesh", name, "NORMAL"), strict=True))
        assert all(1.0 == pytest.approx(length(normal), abs=1e-5) for normal in moved)


def test_mouth_opens() -> None:
    """`mouthOpen` parts lips that touch, by a centimetre, and takes the lower teeth along."""
    read = model("T2", "full")
    closed, opened = (_opening("mouthOpen", weight, middle=0.0, low=1.67, high=1.68) for weight in (0.0, 1.0))
    assert closed < 0.001
    assert opened > 0.01
    moves = read.target("Teeth_Mesh", "mouthOpen")
    upper, lower = max(point[1] for point in moves), min(point[1] for point in moves)
    assert (0.0, True) == (upper, lower < -0.008)


def test_eyes_close() -> None:
    """`eyesClosed` shuts both eyes, which are open by half a centimetre; lashes and shadows follow the lids."""
    read = model("T2", "full")
    for middle in (0.031, -0.031):
        opened, closed = (_opening("eyesClosed", weight, middle=middle, low=1.73, high=1.76) for weight in (0.0, 1.0))
        assert opened > 0.005
        assert closed < 0.001
    for mesh in ("Eyelash_Mesh", "EyeAO_Mesh"):
        assert min(move[1] for move in read.target(mesh, "eyesClosed")) < -0.004


@pytest.mark.parametrize(("side", "sign"), [("Left", 1), ("Right", -1)])
def test_blink_is_of_one_side(side: str, sign: int) -> None:
    """A blink moves points of its own side alone, downwards by half a centimetre and more."""
    read = model("T2")
    points = read.attribute("Head_Mesh", "POSITION")
    moves = read.target("Head_Mesh", f"eyeBlink{side}")
    assert all(point[0] * sign > 0 for point, move in zip(points, moves, strict=True) if any(move))
    assert min(y for _, y, _ in moves) < -0.005


def test_jaw_leaves_the_upper_face() -> None:
    """An open jaw takes the chin down and leaves the eyes and the upper lip where they are."""
    read = model("T2", "full")
    points = read.attribute("Head_Mesh", "POSITION")
    moved = [
        (point, move) for point, move in zip(points, read.target("Head_Mesh", "jawOpen"), strict=True) if any(move)
    ]
    assert all(move[1] <= 0 for _, move in moved)
    assert max(point[1] for point, _ in moved) < 1.70


@pytest.mark.parametrize(
    ("name", "axis", "sign"), [("eyesLookUp", 1, 1), ("eyesLookDown", 1, -1), ("eyeLookInLeft", 0, -1)]
)
def test_eyeballs_look(name: str, axis: int, sign: int) -> None:
    """The front of an eyeball moves to where the eye looks."""
    moves = model("T2").target("Eye_Mesh", name)
    assert max(sign * move[axis] for move in moves) > 0.003


def _opening(target: str, weight: float, *, middle: float, low: float, high: float) -> float:
    """Measure how far apart the edges of a slit in the face are, at its middle."""
    read = model("T2", "full")
    points = read.attribute("Head_Mesh", "POSITION")
    moves = read.target("Head_Mesh", target)
    edges = [
        points[index][1] + weight * moves[index][1]
        for index in _boundary()
        if abs(points[index][0] - middle) < 0.005 and low < points[index][1] < high and points[index][2] > 0.045
    ]
    return max(edges) - min(edges)


@cache
def _boundary() -> set[int]:
    """Find the points of the head along edges that belong to one triangle alone; points in one place are one."""
    read = model("T2", "full")
    places = read.attribute("Head_Mesh", "POSITION")
    corners = [int(index) for (index,) in read.rows(read.mesh("Head_Mesh")["primitives"][0]["indices"])]
    triangles = list(zip(*[iter(corners)] * 3, strict=True))
    edges = [pair for i, j, k in triangles for pair in ((i, j), (j, k), (k, i))]
    used = Counter(frozenset((places[i], places[j])) for i, j in edges)
    return {index for pair in edges for index in pair if used[frozenset(places[i] for i in pair)] == 1}


def _sum(first: Row, second: Row) -> Row:
    return tuple(a + b for a, b in zip(first, second, strict=True))
