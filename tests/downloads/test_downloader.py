"""Downloads that go well, and what the callers of `Downloader` can rely on in any case."""

import asyncio
import hashlib
import tracemalloc
from contextlib import aclosing

import pytest

from avaturn_async.downloads.downloader import Download
from avaturn_async.errors import ClientClosedError, DownloadError, IncompleteDownloadError, WrongLoopError

from .kit import Answer, FileServer, Shelf, downloader, model, sha256


async def test_a_file_is_written_whole(server, downloads, tmp_path):
    """The file, its size and its hash are those of what was served, and nothing else is left in the folder."""
    fetched = await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")
    assert Download(tmp_path / "m.glb", len(server.body), sha256(server.body)) == fetched
    assert server.body == fetched.path.read_bytes()
    assert [fetched.path] == list(tmp_path.iterdir())


async def test_the_request_is_plain(server, downloads, tmp_path):
    """Neither a token nor a cookie is sent, the signature is sent as it was, and no coding of the body is asked for."""
    server.answers.append(lambda _, honest: Answer(headers={**honest.headers, "Set-Cookie": "a=b"}, body=honest.body))
    for name in ("first", "second"):
        await downloads.fetch(f"{server.base}/m%2Fn.glb?X-Sig=a%2Fb+c%41", str(tmp_path / name))
    for request in server.requests:
        assert "/m%2Fn.glb?X-Sig=a%2Fb+c%41" == request.target
        assert {"host", "accept", "accept-encoding", "user-agent"} == set(request.headers)
        assert "identity" == request.headers["accept-encoding"]


async def test_an_empty_file_is_a_file(server, downloads, tmp_path):
    """No bytes at all are a whole file, where no model is wanted."""
    server.body = b""
    fetched = await downloads.fetch(server.url, tmp_path / "empty")
    assert (0, sha256(b"")) == (fetched.size, fetched.sha256)
    assert b"" == fetched.path.read_bytes()


@pytest.mark.parametrize("framing", ["chunked", "connection"])
async def test_a_length_need_not_be_said(framing, server, downloads, tmp_path):
    """A body in the chunked coding, or one that the connection ends, is taken as it comes."""
    headers = {"Content-Length": None} if framing == "connection" else {}
    server.answers.append(Answer(headers=headers, body=server.body, chunked=framing == "chunked"))
    seen = []
    fetched = await downloads.fetch(server.url, tmp_path / "f", progress=lambda *args: seen.append(args))
    assert sha256(server.body) == fetched.sha256
    assert (len(server.body), None) == seen[-1]


async def test_progress_is_told(server, downloads, tmp_path):
    """Progress is told with each arrival, never backwards, up to the whole."""
    seen = []
    await downloads.fetch(server.url, tmp_path / "m.glb", progress=lambda *args: seen.append(args))
    assert sorted(seen) == seen
    assert (len(server.body), len(server.body)) == seen[-1]
    assert {len(server.body)} == {total for _, total in seen}


@pytest.mark.parametrize("error", [ZeroDivisionError, TimeoutError])
async def test_what_progress_raises_ends_the_download(error, server, downloads, tmp_path):
    """The caller gets back its own exception, and no file; it is not taken for a broken connection."""

    def fail(done, total):
        raise error

    with pytest.raises(error):
        await downloads.fetch(server.url, tmp_path / "m.glb", progress=fail)
    assert 1 == len(server.requests)
    assert not (tmp_path / "m.glb").exists()
    fetched = await downloads.fetch(server.url, tmp_path / "m.glb")
    assert sha256(server.body) == fetched.sha256


async def test_stream_yields_the_same_bytes(server, downloads):
    """A stream is the file, in order."""
    assert server.body == b"".join([chunk async for chunk in downloads.stream(server.url, kind="glb")])


async def test_stream_can_be_left(server, downloads):
    """A stream that is left early lets go of its connection."""
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, stall=1000))
    async with aclosing(downloads.stream(server.url)) as chunks:
        async for chunk in chunks:
            assert server.body.startswith(chunk)
            break
    assert {asyncio.current_task()} == asyncio.all_tasks() - server.tasks


async def test_many_at_once_share_the_connections(server, tmp_path):
    """More downloads than connections wait for one another, and all succeed."""
    async with aclosing(downloader(max_connections=2)) as narrow:
        fetched = await asyncio.gather(*(narrow.fetch(server.url, tmp_path / f"{n}.glb") for n in range(10)))
    assert {sha256(server.body)} == {one.sha256 for one in fetched}


async def test_after_aclose_nothing_is_fetched(server, downloads, tmp_path):
    """A closed downloader says so, for files and streams alike, and can be closed again."""
    await downloads.fetch(server.url, tmp_path / "m.glb")
    await downloads.aclose()
    await downloads.aclose()
    with pytest.raises(ClientClosedError):
        await downloads.fetch(server.url, tmp_path / "n.glb")
    with pytest.raises(ClientClosedError):
        await anext(downloads.stream(server.url))
    assert 1 == len(server.requests)


async def test_aclose_ends_what_is_under_way(server, downloads, tmp_path):
    """A download that is under way ends when the client is closed."""
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, stall=100_000))
    task = asyncio.create_task(downloads.fetch(server.url, tmp_path / "m.glb"))
    await server.stalled.wait()
    await downloads.aclose()
    with pytest.raises(ClientClosedError):
        await task
    assert not (tmp_path / "m.glb").exists()


async def test_aclose_ends_a_delay_between_attempts(server, downloads, tmp_path):
    """A download that waits for its next attempt ends when the client is closed, not when its delay does."""
    server.answers.append(Answer(503, {"Retry-After": "50"}))
    task = asyncio.create_task(downloads.fetch(server.url, tmp_path / "m.glb"))
    while not server.requests:
        await asyncio.sleep(0.002)
    for _ in range(300):  # until the response has been read
        await asyncio.sleep(0)
    await downloads.aclose()
    async with asyncio.timeout(20):
        with pytest.raises(ClientClosedError):
            await task


def test_a_downloader_belongs_to_one_loop(tmp_path):
    """Use from a second event loop is refused with a sentence."""
    made = downloader()

    async def fetch() -> None:
        async with FileServer(model(1000)) as server:
            await made.fetch(server.url, tmp_path / "m.glb", overwrite=True)

    async def close() -> None:
        await made.aclose()

    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(fetch())
        with pytest.raises(WrongLoopError, match="belongs to the event loop"):
            second.run(fetch())
        first.run(close())


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "1"], ids=repr)
async def test_a_limit_must_be_a_positive_number(limit, server, downloads, tmp_path):
    """The error names the option and its value."""
    with pytest.raises(ValueError, match=f"max_bytes must be .* not {limit!r}"):
        await downloads.fetch(server.url, tmp_path / "m.glb", max_bytes=limit)
    assert [] == server.requests


@pytest.mark.parametrize("kind", ["glb", "file"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_a_file_that_is_longer_than_allowed_is_refused(kind, chunked, server, downloads, tmp_path):
    """It is refused by its announced length, its header or what has arrived; one of that length is not."""
    answer = Answer(headers={"ETag": server.etag}, body=server.body, chunked=chunked)
    server.answers.extend([answer] * 4)
    with pytest.raises(DownloadError, match="is longer than max_bytes, which is 299999"):
        await downloads.fetch(server.url, tmp_path / "m.glb", kind=kind, max_bytes=299_999)
    assert [] == list(tmp_path.iterdir())
    with pytest.raises(DownloadError, match="is longer than max_bytes, which is 299999"):
        await downloads.read(server.url, kind=kind, max_bytes=299_999)
    assert 300_000 == (await downloads.fetch(server.url, tmp_path / "m.glb", kind=kind, max_bytes=300_000)).size
    assert server.body == await downloads.read(server.url, kind=kind, max_bytes=300_000)


async def test_a_body_without_end_is_left_at_the_limit(downloads, tmp_path):
    """An endless body is read no further than allowed."""
    async with FileServer() as server:
        server.answers.append(Answer(body=bytes(1_000_000), chunked=True, stall=500_000))
        with pytest.raises(DownloadError, match="is longer than max_bytes"):
            await downloads.fetch(server.url, tmp_path / "f", max_bytes=400_000)
    assert [] == list(tmp_path.iterdir())


async def test_a_checksum_is_computed_on_request_alone(server, downloads, tmp_path):
    """Without `checksum` there is none."""
    assert (await downloads.fetch(server.url, tmp_path / "m.glb", checksum=False)).sha256 is None


async def test_read_returns_the_bytes(server, downloads):
    """A file that has to begin again is read from its beginning, unlike that of a stream."""
    server.etag = None
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, cut=100_000))
    assert server.body == await downloads.read(server.url, kind="glb")
    assert 2 == len(server.requests)


@pytest.mark.parametrize("status", [204, 304, 402, 405, 416, 451])
async def test_other_statuses_are_final(status, server, downloads, tmp_path):
    """An answer that another attempt won't change is an error at once, which shows no query."""
    server.answers.append(Answer(status, {"Content-Length": None} if status in (204, 304) else {}))
    with pytest.raises(DownloadError, match=f"answered {status}") as caught:
        await downloads.fetch(server.url, tmp_path / "m.glb")
    assert str(tmp_path / "m.glb") == caught.value.path
    assert "SECRET" not in str(caught.value)
    assert 1 == len(server.requests)
    assert [] == list(tmp_path.iterdir())


async def test_redirects_are_followed_but_not_for_ever(server, downloads, tmp_path):
    """Five redirects are followed, and a sixth is an error."""
    again = Answer(302, {"Location": "/m.glb?signature=SECRET"})
    server.answers.extend([again] * 5)
    assert await downloads.fetch(server.url, tmp_path / "m.glb")
    server.answers.extend([again] * 6)
    with pytest.raises(DownloadError, match="redirects more than 5 times") as caught:
        await downloads.fetch(server.url, tmp_path / "n.glb")
    assert "SECRET" not in str(caught.value)


async def test_a_redirect_without_a_location_is_an_error(server, downloads, tmp_path):
    """A redirect to nowhere is a status like any other."""
    server.answers.append(Answer(302))
    with pytest.raises(DownloadError, match="answered 302"):
        await downloads.fetch(server.url, tmp_path / "m.glb")


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "nonsense"])
async def test_an_encoded_body_is_refused(coding, server, downloads, tmp_path):
    """A body in a coding that was not asked for is no file, even if the header lies."""
    server.answers.append(
        lambda _, honest: Answer(headers={**honest.headers, "Content-Encoding": coding}, body=honest.body)
    )
    with pytest.raises(DownloadError, match=f"answered with the encoding '{coding}'"):
        await downloads.fetch(server.url, tmp_path / "m.glb")
    assert [] == list(tmp_path.iterdir())


async def test_no_error_shows_the_query(server, downloads, tmp_path):
    """What is raised after broken connections has no query in its text, cause, context or notes."""
    server.cut_every = 0
    with pytest.raises(IncompleteDownloadError) as caught:
        await downloads.fetch(server.url, tmp_path / "m.glb")
    error = caught.value
    while error is not None:
        assert "SECRET" not in f"{error!r} {error} {vars(error)}"
        error = error.__cause__ or error.__context__


async def test_memory_does_not_grow_with_the_file(downloads, tmp_path):
    """A file of 64 MB takes no more memory than its buffers do."""
    body = bytes(64 * 1024 * 1024)
    async with FileServer(body) as server:
        await downloads.fetch(server.url, tmp_path / "warm")
        tracemalloc.start()
        fetched = await downloads.fetch(server.url, tmp_path / "big")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert hashlib.sha256(body).hexdigest() == fetched.sha256
    assert peak < 16 * 1024 * 1024


async def _async_progress(*_: object) -> None:
    """Take the progress, as no download can tell it."""


@pytest.mark.parametrize("progress", [_async_progress, "bar"], ids=["async", "text"])
async def test_progress_that_is_no_plain_function_is_refused(progress, server, downloads, tmp_path):
    """Otherwise nobody would await it. Nothing is requested."""
    with pytest.raises(TypeError, match=r"progress must be a function that is not async, not (function|str)"):
        await downloads.fetch(server.url, tmp_path / "m.glb", progress=progress)
    with pytest.raises(TypeError, match="progress must be a function that is not async"):
        await downloads.save(server.url, Shelf(), "m.glb", progress=progress)
    assert [] == server.requests
    assert [] == list(tmp_path.iterdir())
