"""What counts as a model, and how early something else is found out."""

import gzip

import pytest

from avaturn_async.downloads.glb import GlbCheck
from avaturn_async.errors import NotAModelError

from .kit import Answer, model


@pytest.mark.parametrize("step", [1, 3, 11, 12, 13, 1000])
def test_a_model_in_pieces(step):
    """The header is read from pieces of any size."""
    body = model(1000)
    check = GlbCheck("m.glb")
    ended = [check.feed(body[start : start + step]) for start in range(0, 1000, step)]
    assert 1 == sum(ended)
    assert 1000 == check.declared
    check.finish(1000)


def test_the_first_wrong_byte_is_enough():
    """Nothing is waited for once the magic can't be right."""
    check = GlbCheck("m.glb")
    assert not check.feed(b"gl")
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
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
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
