"""What counts as a model, and how early something else is found out."""

import gzip
import struct
from contextlib import aclosing

import pytest

from avaturn_async.downloads.glb import GlbCheck
from avaturn_async.errors import NotAModelError

from .kit import Answer, downloader, model, sha256

FINDINGS = [
    *("html", "bom-html", "json", "json-array", "gzip", "zip", "png", "jpeg", "riff", "binary", "version-1", "empty"),
    *("short", "too-long", "too-short", "header-alone", "zeros", "no-json-chunk", "empty-json", "json-does-not-fit"),
    *("cut-json", "array-json", "not-utf-8", "deep-json"),
]


def _header(declared: int, json_length: int, chunk_type: bytes) -> bytes:
    return struct.pack("<4sIII4s", b"glTF", 2, declared, json_length, chunk_type)


@pytest.mark.parametrize("step", [1, 3, 11, 12, 13, 1000])
def test_a_model_in_pieces(step):
    """The headers are read from pieces of any size."""
    body = model(1000)
    check = GlbCheck("m.glb")
    for start in range(0, 1000, step):
        check.feed(body[start : start + step])
        assert (1000 if start + step >= 20 else None) == check.declared
    check.finish(1000)


def test_the_first_wrong_byte_is_enough():
    """Nothing is waited for once the magic can't be right."""
    check = GlbCheck("m.glb")
    check.feed(b"gl")
    with pytest.raises(NotAModelError):
        check.feed(b"t")


@pytest.mark.parametrize(
    ("body", "finding"),
    [
        (b"<!DOCTYPE html><html>", "came as a page of HTML or XML"),
        (b"\xef\xbb\xbf  <html>", "came as a page of HTML or XML"),
        (b'{"asset": {}}', "came as JSON"),
        (b"[]", "came as JSON"),
        (gzip.compress(model(100)), "came as gzip data"),
        (b"PK\x03\x04....", "came as a ZIP archive"),
        (b"\x89PNG\r\n\x1a\n", "came as a PNG image"),
        (b"\xff\xd8\xff\xe0", "came as a JPEG image"),
        (b"RIFF....WEBP", "came as a RIFF file"),
        (b"\x00\x01\x02\x03\x04", r"came as something that begins with b'\\x00\\x01\\x02\\x03'"),
        (b"glTF\x01\x00\x00\x00\x0c\x00\x00\x00", "is of version 1, not 2"),
        (b"", "came empty"),
        (b"glTF\x02\x00\x00", "ended after 7 bytes"),
        (model(500, declared=400), "declares 400 bytes and has 500"),
        (model(500, declared=600), "declares 600 bytes and has 500"),
        (_header(12, 0, b"")[:12], "ended after 12 bytes"),
        (_header(500, 0, b"\0\0\0\0") + bytes(480), r"has a first chunk of type b'\\x00\\x00\\x00\\x00', not JSON"),
        (_header(500, 480, b"BIN\0") + bytes(480), r"has a first chunk of type b'BIN\\x00', not JSON"),
        (_header(500, 0, b"JSON") + bytes(480), "declares 500 bytes and 0 bytes of JSON in them"),
        (_header(500, 481, b"JSON") + bytes(480), "declares 500 bytes and 481 bytes of JSON in them"),
        (model(500, scene=b'{"asset":'), "has a first chunk that is not a JSON object"),
        (model(500, scene=b"[1, 2]  "), "has a first chunk that is not a JSON object"),
        (model(500, scene=b'{"a": "\xff"}'), "has a first chunk that is not a JSON object"),
        (model(300_000, scene=b'{"a": ' + b"[" * 200_000), "has a first chunk that is not a JSON object"),
    ],
    ids=FINDINGS,
)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_something_else_is_told_and_not_kept(body, finding, chunked, server, downloads, tmp_path):
    """The error says what came; neither the file nor a part of it stays, and a stream ends with the same error."""
    answer = Answer(headers={"ETag": server.etag}, body=body, chunked=chunked)
    server.answers.extend([answer, answer])
    with pytest.raises(NotAModelError, match=finding) as caught:
        await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")
    assert str(tmp_path / "m.glb") == caught.value.path
    assert "SECRET" not in str(caught.value)
    assert [] == list(tmp_path.iterdir())
    with pytest.raises(NotAModelError, match=finding):
        b"".join([chunk async for chunk in downloads.stream(server.url, kind="glb")])
    assert 2 == len(server.requests)


async def test_something_else_is_found_out_before_it_has_come(server, downloads, tmp_path):
    """Twelve bytes are enough to leave a connection that would go on for long."""
    for wrong in (b"<html>" + bytes(1_000_000), model(1_000_000, declared=5)):
        server.answers.append(Answer(body=wrong, stall=1000))
        with pytest.raises(NotAModelError):
            await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")


async def test_other_files_are_not_looked_into(server, downloads, tmp_path):
    """A render is any file."""
    server.body = b"\x89PNG\r\n\x1a\n"
    assert await downloads.fetch(server.url, tmp_path / "r.png", kind="file")


@pytest.mark.parametrize(
    "scene",
    [
        b'{"asset": {"version": "2.0"}}\0\0\0',
        b'{"asset": {"version": "1.0"}, "bufferViews": [{"byteOffset": -1}], "x": NaN}',
        b'{"asset": "' + b" " * 600_000,
    ],
    ids=["nul-padding", "invalid-values", "too-long-to-parse"],
)
async def test_deviations_of_real_exports_pass(scene, server, downloads, tmp_path):
    """What is wrong inside of the JSON is left to loaders, and JSON of over 512 KiB is not parsed."""
    server.body = model(700_000, scene=scene)
    assert 700_000 == (await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")).size


@pytest.mark.parametrize("framing", ["chunked", "connection"])
async def test_a_body_that_goes_on_after_a_model_is_left(framing, server, downloads, tmp_path):
    """Nothing after the declared length is kept or waited for, and the file is no model."""
    endless = model(100_000) + bytes(50_000_000)
    headers = {"Content-Length": None} if framing == "connection" else {}
    server.answers.append(Answer(headers=headers, body=endless, chunked=framing == "chunked", stall=200_000))
    with pytest.raises(NotAModelError, match="declares 100000 bytes and has"):
        await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")
    assert [] == list(tmp_path.iterdir())


async def test_a_whole_model_needs_no_end_of_the_body(server, tmp_path):
    """A model that has arrived whole is taken, though the connection stalls or breaks before the body ends."""
    async with aclosing(downloader(total=0.3)) as downloads:
        for number, answer in enumerate([Answer(chunked=True, stall=300_000), Answer(chunked=True, cut=300_000)]):
            answer.body = server.body + b"more"
            server.answers.append(answer)
            fetched = await downloads.fetch(server.url, tmp_path / f"{number}.glb", kind="glb")
            assert sha256(server.body) == fetched.sha256
