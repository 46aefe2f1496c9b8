"""Saving in a sink: what reaches it and when, and whose error is raised."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from avaturn_async.downloads.sinks import Saved
from avaturn_async.errors import ClientClosedError, DownloadError, IncompleteDownloadError, NotAModelError, ServerError

from .kit import Answer, Shelf, model, sha256

BLOCK = 64 * 1024


def cut(after: int):
    """Answer honestly, but close the connection after so many bytes."""
    return lambda _, honest: Answer(honest.status, honest.headers, honest.body, cut=after)


async def test_a_file_is_saved_whole(server, downloads):
    """The sink gets the bytes in order, and the caller their name, length and hash."""
    shelf, seen = Shelf(), []
    saved = await downloads.save(server.url, shelf, "a/m.glb", kind="glb", progress=lambda *args: seen.append(args))
    assert Saved("a/m.glb", 300_000, sha256(server.body)) == saved
    assert {"a/m.glb": server.body} == shelf.files
    assert (300_000, 300_000) == seen[-1]


async def test_a_checksum_is_computed_on_request_alone(server, downloads):
    """Without `checksum` there is none."""
    assert (await downloads.save(server.url, Shelf(), "m.glb", checksum=False)).sha256 is None


async def test_an_empty_file_is_saved(server, downloads):
    """A sink may get no chunks at all."""
    server.body, shelf = b"", Shelf()
    assert Saved("f", 0, sha256(b"")) == await downloads.save(server.url, shelf, "f")
    assert {"f": b""} == shelf.files


async def test_a_broken_connection_is_resumed_below_the_sink(server, downloads):
    """An upload goes on where the download is resumed, also by another link."""
    shelf = Shelf()
    server.answers.extend([cut(BLOCK), Answer(403), cut(BLOCK)])

    async def fresh_url() -> str:
        return f"{server.base}/m.glb?signature=NEW"

    saved = await downloads.save(server.url, shelf, "m.glb", kind="glb", fresh_url=fresh_url)
    assert (sha256(server.body), server.body) == (saved.sha256, shelf.files["m.glb"])
    assert ["m.glb"] == shelf.puts
    assert [0, BLOCK, BLOCK, 2 * BLOCK] == [request.start for request in server.requests]


@pytest.mark.parametrize("swallow", [False, True], ids=["raise", "swallow"])
async def test_a_file_that_has_to_begin_again_is_put_again(swallow, server, downloads):
    """A source that can't be resumed, or has changed, makes the upload begin again."""
    shelf = Shelf(swallow=swallow)
    server.etag = None
    server.answers.extend([cut(BLOCK), cut(2 * BLOCK)])
    saved = await downloads.save(server.url, shelf, "m.glb", kind="glb")
    assert (sha256(server.body), server.body) == (saved.sha256, shelf.files["m.glb"])
    assert 3 == len(shelf.puts)


async def test_a_source_that_changes_is_put_again(server, downloads):
    """The sink gets one version."""
    shelf, new = Shelf(), model(200_000, seed=2)

    def change(_, honest):
        server.body, server.etag = new, '"new"'
        return Answer(headers=honest.headers, body=honest.body, cut=BLOCK)

    server.answers.append(change)
    saved = await downloads.save(server.url, shelf, "m.glb", kind="glb")
    assert (sha256(new), new) == (saved.sha256, shelf.files["m.glb"])
    assert 2 == len(shelf.puts)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("swallow", [False, True], ids=["raise", "swallow"])
async def test_the_last_chunk_comes_after_the_checks(swallow, chunked, server, downloads):
    """What is no model, or too short for its header, never reaches the sink whole."""
    for body in (model(300_000, declared=300_001), model(300_000, scene=b"not JSON"), b"<html>"):
        shelf = Shelf(swallow=swallow)
        server.answers.append(Answer(headers={"ETag": server.etag}, body=body, chunked=chunked))
        with pytest.raises(NotAModelError) as caught:
            await downloads.save(server.url, shelf, "m.glb", kind="glb")
        assert "m.glb" == caught.value.path
        assert not caught.value.retryable
        assert shelf.received < len(body)


@pytest.mark.parametrize("behaviour", ["raise", "swallow", "wrap"])
async def test_the_error_of_the_source_is_raised(behaviour, server, downloads):
    """Whatever the sink makes of it."""
    shelf = Shelf(swallow=behaviour == "swallow", wrap=behaviour == "wrap")
    server.answers.extend([cut(BLOCK), *[Answer(500)] * 5])
    with pytest.raises(IncompleteDownloadError, match="5 attempts in a row: it answered 500") as caught:
        await downloads.save(server.url, shelf, "m.glb", kind="glb")
    assert caught.value.retryable


@pytest.mark.parametrize("behaviour", ["raise", "swallow", "wrap"])
async def test_the_error_of_a_fresh_link_is_raised(behaviour, server, downloads):
    """An API that can't be asked for another link is its own error."""
    server.answers.extend([cut(BLOCK), Answer(403)])

    async def fresh_url() -> str:
        raise ServerError("503", status_code=503)

    shelf = Shelf(swallow=behaviour == "swallow", wrap=behaviour == "wrap")
    with pytest.raises(ServerError):
        await downloads.save(server.url, shelf, "m.glb", kind="glb", fresh_url=fresh_url)


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (ConnectionResetError("reset"), True),
        (TimeoutError(), True),
        (KeyError("x"), False),
        (OSError(28, "full"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_a_failing_sink_is_a_download_error(error, retryable, server, downloads):
    """It is retryable where its cause is, which it shows without queries of urls."""
    error.args = (*error.args, "https://store/x?sig=STORE-SECRET y")
    with pytest.raises(DownloadError, match=rf"m\.glb could not be saved by Shelf: {type(error).__name__}") as caught:
        await downloads.save(server.url, Shelf(error=error), "m.glb", kind="glb")
    assert error is caught.value.__cause__
    assert retryable is caught.value.retryable
    assert ("m.glb", False) == (caught.value.path, "STORE-SECRET" in str(caught.value))


async def test_a_cause_may_say_that_it_is_retryable(server, downloads):
    """Its own attribute decides."""
    error = KeyError("x")
    error.retryable = True
    with pytest.raises(DownloadError) as caught:
        await downloads.save(server.url, Shelf(error=error), "m.glb")
    assert caught.value.retryable


async def test_a_sink_that_cancels_itself_is_a_download_error(server, downloads):
    """Its CancelledError is not taken for a cancellation of the caller."""
    with pytest.raises(DownloadError, match="it was cancelled by itself"):
        await downloads.save(server.url, Shelf(error=asyncio.CancelledError()), "m.glb")


async def test_a_sink_must_read_to_the_end(server, downloads):
    """One that returns earlier can't have the whole file, and leaves no task or connection behind."""

    class Lazy:
        async def put(self, name: str, chunks: AsyncIterator[bytes]) -> None:
            await anext(chunks)

    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, stall=BLOCK))
    with pytest.raises(DownloadError, match="the sink returned before it had read the whole file"):
        await downloads.save(server.url, Lazy(), "m.glb", kind="glb")


async def test_a_cancellation_reaches_the_sink(server, downloads):
    """It raises where the sink waits for the next chunk, and the connection is closed."""
    shelf = Shelf()
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, stall=BLOCK))
    task = asyncio.create_task(downloads.save(server.url, shelf, "m.glb"))
    await server.stalled.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ({}, ["m.glb"]) == (shelf.files, shelf.puts)
    assert {asyncio.current_task()} == asyncio.all_tasks() - server.tasks


async def test_closing_the_client_ends_a_save(server, downloads):
    """The sink gets the error of the closed client."""
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, stall=BLOCK))
    task = asyncio.create_task(downloads.save(server.url, Shelf(), "m.glb"))
    await server.stalled.wait()
    await downloads.aclose()
    with pytest.raises(ClientClosedError):
        await task


async def test_what_progress_raises_is_raised(server, downloads):
    """The caller's own error is not taken for one of the sink."""

    def fail(done, total):
        raise OSError("mine")

    with pytest.raises(OSError, match="mine"):
        await downloads.save(server.url, Shelf(), "m.glb", progress=fail)


@pytest.mark.parametrize("name", ["", "../m.glb", "/m.glb", "a\\b", "a\n"], ids=repr)
async def test_a_name_may_not_leave_the_sink(name, server, downloads):
    """It is refused before anything is sent."""
    with pytest.raises(ValueError, match="name"):
        await downloads.save(server.url, Shelf(), name)
    assert [] == server.requests


async def test_what_is_no_sink_is_a_type_error(server, downloads, tmp_path):
    """A path is not a sink."""
    with pytest.raises(TypeError, match=r"a sink must have a method put\(name, chunks\)"):
        await downloads.save(server.url, tmp_path, "m.glb")
    assert [] == server.requests
