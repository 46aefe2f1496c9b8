"""Checking a model against limits."""

from __future__ import annotations

from typing import Any

import pytest

from avaturn_async.glb import Budget, ModelReport, Violation, inspect

from .kit import avatar, glb, image, with_images


@pytest.fixture(scope="module")
def report() -> ModelReport:
    """Inspect a T2."""
    return inspect(avatar("T2"))


def test_no_limits(report: ModelReport) -> None:
    """A budget without limits is never exceeded."""
    assert () == report.check(Budget())


def test_limits_that_are_just_kept(report: ModelReport) -> None:
    """A limit may be reached."""
    budget = Budget(
        max_triangles=report.triangles,
        max_texture=32,
        max_bytes=report.size,
        max_morph_targets=72,
        require=("T2", "arkit", "visemes"),
    )
    assert () == report.check(budget)


def test_limits_that_are_exceeded(report: ModelReport) -> None:
    """Each violation names what was found and what is allowed."""
    violations = report.check(Budget(max_triangles=3000, max_texture=16, max_bytes=1000, max_morph_targets=64))
    assert ["max_triangles", "max_texture", "max_bytes", "max_morph_targets"] == [each.rule for each in violations]
    assert f"{report.triangles:,} triangles; the limit is 3,000" == str(violations[0])
    assert "72 morph targets on a mesh; the limit is 64" == violations[3].message


def test_requirements_that_are_not_met() -> None:
    """What is missing is named."""
    primitive = {"attributes": {}, "targets": [{}]}
    mesh = {"name": "avaturn_body", "primitives": [primitive], "extras": {"targetNames": ["viseme_aa"]}}
    report = inspect(glb({"meshes": [mesh]}))
    violations = report.check(Budget(require=["T2", "visemes"]))
    assert Violation("T2", "its body type is T1, not T2") == violations[0]
    assert violations[1].message.startswith("14 of visemes are missing: viseme_sil, ")
    assert "its body type is unknown, not T1" == str(inspect(glb({})).check(Budget(require=("T1",)))[0])


def test_textures_of_unknown_size_are_within_the_limit() -> None:
    """Nothing is claimed about what can't be read."""
    assert () == inspect(with_images(b"?" * 50)).check(Budget(max_texture=1))
    assert 1 == len(inspect(with_images(image("PNG", 3, 9))).check(Budget(max_texture=8)))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_triangles": -1}, ValueError),
        ({"max_texture": 0}, ValueError),
        ({"max_bytes": 1.5}, TypeError),
        ({"max_morph_targets": "64"}, TypeError),
        ({"require": ("T3",)}, ValueError),
        ({"require": "T2"}, TypeError),
    ],
    ids=str,
)
def test_nonsense_is_refused(options: dict[str, Any], error: type[Exception]) -> None:
    """A limit is a number, and only known things can be required."""
    with pytest.raises(error, match=next(iter(options))):
        Budget(**options)


def test_an_unknown_requirement_is_named() -> None:
    """The message quotes the name and lists those that exist."""
    with pytest.raises(ValueError, match=r"^each of require must be one of T1, T2, arkit, visemes, not 'ARKit'$"):
        Budget(require=("T2", "ARKit"))
