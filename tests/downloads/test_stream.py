"""Broken connections, refused links and answers that don't fit: what is resumed, and what is not."""

import asyncio
from contextlib import aclosing

import aiohttp
import pytest

from avaturn_async.config import RetryPolicy
from avaturn_async.errors import DownloadError, IncompleteDownloadError, UnsafeAddressError
from avaturn_async.http.session import ClientSessions

from .kit import ETAG, Answer, FileServer, downloader, model, sha256

BLOCK = 64 * 1024


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Note the delays between attempts instead of waiting."""
    taken: list[float] = []

    async def sleep(_: ClientSessions, seconds: float) -> None:
        taken.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(ClientSessions, "sleep", sleep)
    return taken


def _overlap(sent: list[range], arrived: int) -> int:
    """Return how many bytes were sent more than once."""
    return sum(map(len, sent)) - arrived


async def test_a_connection_that_is_cut_every_block_costs_nothing(downloads, tmp_path):
    """A 2 MB file cut at every 64 KiB is whole, and no range is fetched twice beyond one block."""
    async with FileServer(model(2_000_000)) as server:
        server.cut_every = BLOCK
        fetched = await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert server.body == fetched.path.read_bytes()
    assert _overlap(server.sent, 2_000_000) <= BLOCK
    assert all(request.headers["if-range"] == server.etag for request in server.requests[1:])
    assert [fetched.path] == list(tmp_path.iterdir())


async def test_a_stream_is_resumed_too(downloads):
    """The bytes of a stream go on where they were."""
    async with FileServer(model(500_000)) as server:
        server.cut_every = BLOCK
        assert server.body == b"".join([chunk async for chunk in downloads.stream(server.url, kind="glb")])
        assert _overlap(server.sent, 500_000) <= BLOCK


@pytest.mark.parametrize("etag", [None, 'W/"weak"', "unquoted"], ids=["none", "weak", "unquoted"])
async def test_without_a_strong_etag_the_file_begins_again(etag, server, downloads, tmp_path):
    """A version without a strong ETag is never put together from two responses; a Last-Modified changes nothing."""
    server.etag = etag
    dates = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "Date": "Tue, 02 Jan 2024 00:00:00 GMT"}
    server.answers.append(lambda _, honest: Answer(headers=honest.headers | dates, body=honest.body, cut=BLOCK))
    fetched = await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert ["range" in request.headers for request in server.requests] == [False, False]


async def test_without_an_etag_it_does_not_begin_again_for_ever(server, downloads, tmp_path):
    """Beginning again is no progress, however much came each time."""
    server.etag, server.cut_every = None, BLOCK
    with pytest.raises(IncompleteDownloadError, match=r"5 attempts in a row: .* after 65536 of 300000 bytes"):
        await downloads.fetch(server.url, tmp_path / "m.glb")
    assert 5 == len(server.requests)
    assert [] == list(tmp_path.iterdir())


async def test_a_stream_that_can_not_be_resumed_ends(server, downloads):
    """Bytes that were yielded can't be taken back, so a stream without a validator ends at the first break."""
    server.etag, server.cut_every = None, BLOCK
    received = []

    async def read() -> None:
        async for chunk in downloads.stream(server.url):
            received.append(chunk)

    with pytest.raises(IncompleteDownloadError, match="can't be resumed"):
        await read()
    assert server.body[:BLOCK].startswith(b"".join(received))


async def test_a_file_that_changed_in_between_begins_again(server, downloads, tmp_path):
    """A new ETag makes If-Range fail, and the new file is the one that is written."""
    new = model(200_000, seed=2)

    def change(_, honest):
        server.body, server.etag = new, '"new"'
        return Answer(headers=honest.headers, body=honest.body, cut=BLOCK)

    server.answers.append(change)
    seen = []
    fetched = await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb", progress=lambda *a: seen.append(a))
    assert sha256(new) == fetched.sha256
    assert (200_000, 200_000) == seen[-1]


async def test_a_server_that_ignores_ranges_is_read_from_the_beginning(server, downloads, tmp_path):
    """A 200 in answer to a range is the whole file again."""
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, cut=BLOCK))
    server.answers.append(lambda _, honest: Answer(headers={"ETag": server.etag}, body=server.body))
    fetched = await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert ["range" in request.headers for request in server.requests] == [False, True, False]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": None},
        {"Content-Range": "bytes 0-9/300000"},
        {"Content-Range": "bytes 65537-299999/300000"},
        {"Content-Range": "bytes 65536-299999/299999"},
        {"Content-Range": "bytes 65536-299999/400000"},
        {"Content-Range": "bytes 65536-10/300000"},
        {"Content-Range": "bytes */300000"},
        {"Content-Range": "items 65536-299999/300000"},
        {"Content-Range": "bytes 65536-299998/300000"},
        {"Content-Range": "bytes 65536-299999/*"},
        {"ETag": '"other"'},
        {"ETag": 'W/"3f2a"'},
        {"ETag": None},
    ],
    ids=lambda headers: "-".join(str(value) for value in headers.values()),
)
async def test_a_part_that_does_not_fit_is_not_used(headers, server, downloads, tmp_path):
    """A 206 of another range, length or version is thrown away, and the file begins again."""
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, cut=BLOCK))
    server.answers.append(lambda _, honest: Answer(206, {**honest.headers, **headers}, honest.body))
    fetched = await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert "range" not in server.requests[2].headers


async def test_a_part_from_the_beginning_is_used_as_the_beginning(server, downloads, tmp_path):
    """A 206 that starts at 0 is the file, asked for or not, and its rest is asked for."""
    server.answers.append(
        lambda _, honest: Answer(206, {**honest.headers, "Content-Range": "bytes 0-9999/300000"}, honest.body[:10_000])
    )
    fetched = await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert 10_000 == server.requests[1].start


async def test_a_part_that_was_not_asked_for_is_an_error(server, downloads, tmp_path):
    """A server that only ever answers with another part is given up."""
    server.answers.extend(
        [lambda _, honest: Answer(206, {**honest.headers, "Content-Range": "bytes 5-9/10"}, b"12345")] * 5
    )
    with pytest.raises(IncompleteDownloadError, match="another range than was asked for"):
        await downloads.fetch(server.url, tmp_path / "m.glb")


async def test_the_length_may_become_known_later(server, downloads, tmp_path):
    """A length that the first answer did not say is taken from the next one."""
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, cut=BLOCK, chunked=True))
    fetched = await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert 2 == len(server.requests)


async def test_416_begins_again(server, downloads, tmp_path):
    """A file that has become shorter than what is here is read from its beginning."""
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, cut=BLOCK))
    server.answers.append(Answer(416, {"Content-Range": "bytes */10"}))
    fetched = await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert ["range" in request.headers for request in server.requests] == [False, True, False]


async def test_a_length_that_is_too_long_ends_in_an_error(server, downloads, tmp_path):
    """A Content-Length that the file never reaches is not believed for ever, though a lot comes each time."""
    server.body = model(50_000)
    lie = Answer(headers={"Content-Length": "60000", "ETag": ETAG}, body=server.body, cut=50_000)
    server.answers.extend([lie, Answer(416)] * 4)
    with pytest.raises(IncompleteDownloadError, match="5 attempts in a row: it refused to continue where it was"):
        await downloads.fetch(server.url, tmp_path / "f")
    assert 6 == len(server.requests)
    assert not (tmp_path / "f").exists()


async def test_bytes_after_the_end_are_not_part_of_the_file(server, downloads, tmp_path):
    """A connection on which more comes than was said is not trusted, or read no further than was said."""
    server.answers.append(Answer(headers={"Content-Length": "100"}, body=server.body))
    fetched = await downloads.fetch(server.url, tmp_path / "f")
    assert fetched.path.read_bytes() in (server.body, server.body[:100])


async def test_the_end_of_a_connection_is_no_end_of_a_model(server, downloads, tmp_path):
    """Where only the connection tells the end, the model's own length says whether it came whole."""
    headers = {"Content-Length": None, "ETag": server.etag}
    server.answers.append(Answer(headers=headers, body=server.body, cut=BLOCK))
    fetched = await downloads.fetch(server.url, tmp_path / "m.glb", kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert BLOCK == server.requests[1].start


async def test_a_stall_is_a_broken_connection(server, tmp_path):
    """A peer that falls silent is left, and the file resumed."""
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, stall=BLOCK))
    async with aclosing(downloader(total=1)) as impatient:
        fetched = await impatient.fetch(server.url, tmp_path / "m.glb", kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert BLOCK == server.requests[1].start


async def test_few_bytes_are_no_progress(server, downloads, tmp_path):
    """A peer that brings next to nothing each time does not keep us for ever."""
    server.cut_every = 10
    with pytest.raises(IncompleteDownloadError, match=r"5 attempts in a row: .* after 50 of 300000 bytes"):
        await downloads.fetch(server.url, tmp_path / "m.glb")
    assert 5 == len(server.requests)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_a_failing_server_is_tried_again(status, server, downloads, tmp_path):
    """Statuses that may pass are tried again."""
    server.answers.append(Answer(status))
    assert await downloads.fetch(server.url, tmp_path / "m.glb")
    assert 2 == len(server.requests)


async def test_a_server_that_keeps_failing_is_given_up(server, naps, tmp_path):
    """After five attempts in a row the error says what came back; the delays grow up to the cap."""
    server.answers.extend([Answer(503)] * 5)
    async with aclosing(downloader(retry=RetryPolicy(attempts=5, base=1, cap=3))) as patient:
        with pytest.raises(DownloadError, match="failed in 5 attempts in a row: it answered 503") as caught:
            await patient.fetch(server.url, tmp_path / "m.glb")
    assert type(caught.value) is DownloadError
    assert all(nap <= most for nap, most in zip(naps, (1, 2, 3, 3), strict=True))


async def test_retry_after_is_obeyed(server, downloads, naps, tmp_path):
    """The time that the server asks for is waited, up to a minute."""
    server.answers.append(Answer(429, {"Retry-After": "60"}))
    assert await downloads.fetch(server.url, tmp_path / "m.glb")
    assert [60.0] == naps


async def test_a_retry_after_beyond_the_cap_is_an_error(server, downloads, naps, tmp_path):
    """Nobody is made to wait for longer than a minute."""
    server.answers.append(Answer(503, {"Retry-After": "61"}))
    with pytest.raises(DownloadError, match="it answered 503, and asked to wait for 61 s"):
        await downloads.fetch(server.url, tmp_path / "m.glb")
    assert [] == naps


async def test_a_host_that_is_not_there_is_an_error(downloads, unused_tcp_port, tmp_path):
    """Refused connections are tried again, then told."""
    with pytest.raises(DownloadError, match=r"5 attempts in a row: it could not be reached \(nothing listens there\)"):
        await downloads.fetch(f"http://127.0.0.1:{unused_tcp_port}/m.glb", tmp_path / "m.glb")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (aiohttp.ConnectionTimeoutError(), "no connection was made in time"),
        (aiohttp.SocketTimeoutError(), "nothing arrived for too long"),
        (aiohttp.ServerDisconnectedError(), r"the connection broke \(ServerDisconnectedError\)"),
    ],
)
async def test_failures_are_told_apart(error, text, downloads, monkeypatch, tmp_path):
    """The error says what went wrong on the way."""

    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(aiohttp.ClientSession, "get", fail)
    with pytest.raises(DownloadError, match=text):
        await downloads.fetch("http://127.0.0.1/m.glb", tmp_path / "m.glb")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
async def test_a_refused_link_is_replaced(status, server, downloads, tmp_path):
    """A link that has expired is asked for anew, once."""
    server.answers.append(Answer(status))
    asked = []

    async def fresh_url() -> str:
        asked.append(1)
        return f"{server.base}/m.glb?signature=NEW"

    fetched = await downloads.fetch(server.url, tmp_path / "m.glb", fresh_url=fresh_url, kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert [1] == asked
    assert ["/m.glb?signature=SECRET", "/m.glb?signature=NEW"] == [request.target for request in server.requests]


async def test_a_link_that_expires_on_the_way_is_replaced_and_the_file_resumed(server, downloads, tmp_path):
    """What came by the old link is kept: the fresh one is asked for the rest, if it is the same file."""
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, cut=BLOCK))
    server.answers.append(Answer(403))

    async def fresh_url() -> str:
        return f"{server.base}/elsewhere.glb"

    fetched = await downloads.fetch(server.url, tmp_path / "m.glb", fresh_url=fresh_url, kind="glb")
    assert sha256(server.body) == fetched.sha256
    assert [0, BLOCK, BLOCK] == [request.start for request in server.requests]


async def test_progress_earns_more_links(server, downloads, tmp_path):
    """Links that expire again and again are replaced as long as each brings something."""
    cut = lambda _, honest: Answer(honest.status, honest.headers, honest.body, cut=40_000)  # noqa: E731
    server.answers.extend([cut, Answer(403)] * 7)

    async def fresh_url() -> str:
        return server.url

    fetched = await downloads.fetch(server.url, tmp_path / "m.glb", fresh_url=fresh_url, kind="glb")
    assert sha256(server.body) == fetched.sha256


async def test_fresh_links_that_are_refused_are_an_error(server, downloads, tmp_path):
    """After three fresh links the error says that the API and the host of the file disagree."""
    server.answers.extend([Answer(403)] * 4)

    async def fresh_url() -> str:
        return server.url

    with pytest.raises(DownloadError, match=r"3 fresh links to it, though the API says .* answered 403") as caught:
        await downloads.fetch(server.url, tmp_path / "m.glb", fresh_url=fresh_url)
    assert 4 == len(server.requests)
    assert "SECRET" not in str(caught.value)


async def test_a_refused_link_that_can_not_be_replaced_is_an_error(server, downloads, tmp_path):
    """Without a way to a fresh link a refusal is final."""
    server.answers.append(Answer(410))
    with pytest.raises(DownloadError, match="link may have expired: it answered 410"):
        await downloads.fetch(server.url, tmp_path / "m.glb")
    assert 1 == len(server.requests)


async def test_what_fresh_url_raises_is_raised(server, downloads, tmp_path):
    """The failure to get a fresh link is the caller's own error."""
    server.answers.append(Answer(403))

    async def fresh_url() -> str:
        raise LookupError("gone")

    with pytest.raises(LookupError) as caught:
        await downloads.fetch(server.url, tmp_path / "m.glb", fresh_url=fresh_url)
    assert caught.value.__context__ is None


async def test_a_fresh_link_is_looked_at_as_well(server, downloads, tmp_path):
    """A fresh link is guarded as the first one was."""
    server.answers.append(Answer(403))

    async def fresh_url() -> str:
        return "file:///etc/passwd"

    with pytest.raises(UnsafeAddressError):
        await downloads.fetch(server.url, tmp_path / "m.glb", fresh_url=fresh_url)
