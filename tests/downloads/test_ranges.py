"""Headers about positions, versions and times, as servers write them."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import example, given, strategies as st

from avaturn_async.downloads.session import Extent, extent, strong_etag
from avaturn_async.http.delays import retry_after


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {}, Extent(0, None, None)),
        (200, {"Content-Length": "10"}, Extent(0, 10, 10)),
        (200, {"Content-Length": "-1"}, Extent(0, None, None)),
        (200, {"Content-Length": "1_0"}, Extent(0, None, None)),
        (206, {"Content-Range": "bytes 2-9/10"}, Extent(2, 10, 10)),
        (206, {"Content-Range": "bytes 2-9/*"}, None),
        (206, {"Content-Range": "bytes 2-9/10", "Content-Length": "8"}, Extent(2, 10, 10)),
        (206, {"Content-Range": "bytes 2-9/10", "Content-Length": "9"}, None),
        (206, {"Content-Range": "bytes 2-10/10"}, None),
        (206, {"Content-Range": "bytes 9-2/10"}, None),
        (206, {"Content-Range": "bytes */10"}, None),
        (206, {"Content-Range": "bytes ٢-9/10"}, None),
        (206, {"Content-Type": "multipart/byteranges; boundary=x"}, None),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_extent(status, headers, expected):
    """An extent is what makes sense, and None else."""
    assert expected == extent(status, headers)


@given(st.text(max_size=40))
@example("0\x1f")
def test_extent_takes_any_header(text):
    """No header is an exception."""
    extent(206, {"Content-Range": text, "Content-Length": text})
    extent(206, {"Content-Range": f"bytes {text}"})
    retry_after({"Retry-After": text})
    strong_etag({"ETag": text})


OLD = "Mon, 01 Jan 2024 00:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"ETag": '"a"'}, '"a"'),
        ({"ETag": '""'}, '""'),
        ({"ETag": 'W/"a"'}, None),
        ({"ETag": "a"}, None),
        ({"ETag": '"a\r\nb"'}, None),
        ({"Last-Modified": OLD, "Date": "Tue, 02 Jan 2024 00:00:00 GMT"}, None),
    ],
    ids=["none", "strong", "empty", "weak", "unquoted", "control-characters", "last-modified"],
)
def test_strong_etag(headers, expected):
    """Only a strong ETag may name the version in If-Range (RFC 9110, 13.1.5)."""
    assert expected == strong_etag(headers)


@pytest.mark.parametrize(("text", "expected"), [("", None), ("5", 5.0), ("0", 0.0), ("-5", 0), ("soon", None)])
def test_retry_after(text, expected):
    """Seconds are taken as they are."""
    assert expected == retry_after({"Retry-After": text})


def test_retry_after_as_a_date():
    """A date is the seconds until then, and none where it is over."""
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert 3500 < (retry_after({"Retry-After": later}) or 0) <= 3600
    assert 0.0 == retry_after({"Retry-After": OLD})
