"""Secrets stay out of what prints values."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest
from hypothesis import given, strategies as st

from avaturn_async.redact import Secret, origin_of, without_query

SESAME = "sesame"


def test_a_secret_is_a_str() -> None:
    """It is sent, compared and hashed like any other."""
    assert (SESAME, hash(SESAME), 6) == (Secret(SESAME), hash(Secret(SESAME)), len(Secret(SESAME)))


def test_a_secret_is_not_shown_by_repr() -> None:
    """Nor inside a container, nor by the format that asks for the repr."""
    secret = Secret(SESAME)
    assert "'***' ['***'] {'a': '***'} '***'" == f"{secret!r} {[secret]} { ({'a': secret}) } {'%r' % secret}"  # noqa: UP031


def test_a_traceback_that_shows_locals_masks_it() -> None:
    """So does every tool that prints the locals of a frame."""

    def fails(token: Secret) -> None:
        raise RuntimeError(len(token))

    with pytest.raises(RuntimeError) as caught:
        fails(Secret(SESAME))
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "token = '***'" in "".join(shown.format())
    assert SESAME not in "".join(line for line in shown.format() if "fails(Secret" not in line)


def test_a_copied_secret_is_a_secret() -> None:
    """It goes to another process as what it is."""
    for again in (copy.copy(Secret(SESAME)), copy.deepcopy(Secret(SESAME)), pickle.loads(pickle.dumps(Secret(SESAME)))):
        assert (SESAME, "'***'") == (again, repr(again))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/b/c.glb?signature=sesame", "https://a.example/b/c.glb"),
        ("https://a.example/b#sesame", "https://a.example/b"),
        ("https://a.example/b#x?sesame", "https://a.example/b"),
        ("https://user:sesame@a.example:8443/b", "https://a.example:8443/b"),
        ("https://user:sesame@a.example", "https://a.example"),
        ("https://u@sesame@a.example/", "https://a.example/"),
        ("https://a.example?sesame", "https://a.example"),
        ("/a/b?sesame", "/a/b"),
        ("", ""),
    ],
)
def test_urls_without_what_gives_access(url: str, expected: str) -> None:
    """No query, fragment or userinfo is left."""
    assert expected == without_query(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://user:sesame@a.example:8443/sesame?sesame", "https://a.example:8443/..."),
        ("https://a.example", "https://a.example/..."),
        ("sesame", "..."),
        ("/sesame", "..."),
        ("", "..."),
    ],
)
def test_origins_alone(url: str, expected: str) -> None:
    """Where a path gives access too, the host is all that is shown."""
    assert expected == origin_of(url)


@given(st.text(alphabet="ab/:@?#.%", max_size=30))
def test_nothing_after_a_question_mark_is_shown(head: str) -> None:
    """Whatever comes before it."""
    assert SESAME not in without_query(f"{head}?{SESAME}")
    assert SESAME not in origin_of(f"https://a.example/{SESAME}{head}?{SESAME}")
