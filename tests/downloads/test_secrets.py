"""What a traceback printer shows of failed downloads: nothing of a query, and nothing of a body."""

from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from avaturn_async.downloads.stream import Link
from avaturn_async.errors import DownloadError, ServerError
from tests.leaks import leaks

from .kit import Answer, Downloads, Shelf, downloader, model

PAGE = b'{"url": "https://files.example.com/m.glb?signature=SECRET"}'


def _cut(_, honest):
    return Answer(honest.status, honest.headers, honest.body, cut=100_000)


def _redirect(location: str) -> Answer:
    return Answer(302, {"Location": location})


FAILURES = {
    "status": [Answer(418)],
    "refused": [Answer(403)] * 4,
    "refused-in-the-middle": [_cut, *[Answer(403)] * 4],
    "server-errors": [Answer(500)] * 5,
    "breaks-off": [_cut, *[Answer(500)] * 5],
    "page": [Answer(body=PAGE)],
    "page-in-a-model": [Answer(body=model(300_000, scene=PAGE[:-1]))],
    "page-after-a-model": [Answer(body=model(100_000) + PAGE, chunked=True)],
    "too-long": [Answer(body=model(600_000))],
    "too-long-chunked": [Answer(body=model(600_000, declared=700_000), chunked=True)],
    "wrong-length": [Answer(body=model(300_000, declared=299_999), chunked=True)],
    "encoded": [Answer(headers={"Content-Encoding": "gzip"}, body=PAGE)],
    "redirects": [_redirect("/m.glb?signature=SECRET")] * 6,
    "redirect-nowhere": [_redirect("gopher://files.example.com/m.glb?signature=SECRET")],
    "redirect-not-a-url": [_redirect("http://[nowhere/m.glb?signature=SECRET")],
    "redirect-with-a-user": [_redirect("http://SECRET:SECRET@127.0.0.1/?signature=SECRET")],
    "redirect-to-nobody": [_redirect("http://127.0.0.1:1/m.glb?signature=SECRET")] * 5,
    "not-http": [Answer(headers={"Bad Header": "SECRET\r\n\0"}, body=PAGE)] * 5,
}


@pytest.mark.parametrize("method", ["fetch", "save", "read", "stream"])
@pytest.mark.parametrize("failure", FAILURES)
async def test_no_frame_shows_a_query(failure, method, server, tmp_path):
    """Neither text, arguments, causes nor the local variables of our frames show it."""
    server.answers.extend(FAILURES[failure])

    async def fresh_url() -> str:
        return server.url

    async with aclosing(downloader()) as downloads:
        with pytest.raises(DownloadError) as caught:
            await _start(downloads, method, server.url, tmp_path, kind="glb", fresh_url=fresh_url, max_bytes=500_000)
    assert [] == leaks(caught.value, "SECRET")


async def _start(downloads: Downloads, method: str, url: str, folder: Path, **options: Any) -> None:
    if method == "stream":
        async for _ in downloads.stream(url, **options):
            pass
    else:
        places = {"fetch": [folder / "m.glb"], "save": [Shelf(), "m.glb"], "read": []}
        await getattr(downloads, method)(url, *places[method], **options)


@pytest.mark.parametrize("method", ["fetch", "save", "read", "stream"])
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/m.glb?signature=SECRET",
        "ftp://files.example.com/m.glb?signature=SECRET",
        "https://SECRET@files.example.com/m.glb?signature=SECRET",
        "https://[nowhere/m.glb?signature=SECRET",
        "https://files.example.com:port/m.glb?signature=SECRET",
        "https:///m.glb?signature=SECRET",
        "https://10.0.0.1/m.glb?signature=SECRET",
        "https://files.example.com/\n?signature=SECRET",
    ],
)
async def test_no_frame_shows_the_query_of_a_bad_url(url, method, tmp_path):
    """Nor the rest of it that may give access."""
    async with aclosing(downloader(allow_private_hosts=url.startswith("http:"))) as downloads:
        with pytest.raises(DownloadError) as caught:
            await _start(downloads, method, url, tmp_path)
    assert [] == leaks(caught.value, "SECRET")


async def test_other_errors_show_no_query_either(server, downloads, tmp_path):
    """Those of progress, of a fresh link and of a sink pass through the same frames."""

    def progress(done, total):
        raise ZeroDivisionError

    async def fresh_url() -> str:
        raise ServerError("503", status_code=503)

    errors = []
    for start in (
        lambda: downloads.fetch(server.url, tmp_path / "a", progress=progress),
        lambda: downloads.save(server.url, Shelf(error=KeyError("x")), "b"),
        lambda: downloads.fetch(f"{server.base}/c?SECRET", tmp_path / "c", fresh_url=fresh_url),
    ):
        with pytest.raises((ZeroDivisionError, DownloadError, ServerError)) as caught:
            await start()
        errors.append(caught.value)
        server.answers.append(Answer(403) if len(errors) == 2 else lambda _, honest: honest)
    assert [ZeroDivisionError, DownloadError, ServerError] == [type(error) for error in errors]
    assert [] == [place for error in errors for place in leaks(error, "SECRET")]


def test_a_link_shows_no_query():
    """Its repr is what printers show that take objects apart."""
    assert "SECRET" not in repr(Link("https://files.example.com/m.glb?signature=SECRET"))
