"""A file server that lies: whatever it sends, a file under its final name is one version, whole.

Two lies can't be told by anybody and are left out: one strong ETag for two versions, and other bytes than those that a
Content-Range says.
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, event, given, seed, settings, strategies as st

from avaturn_async.downloads.stream import Kind, Progress
from avaturn_async.errors import DownloadError

from .kit import Answer, FileServer, Request, Shelf, downloader, model

SEED = int(os.environ.get("AVATURN_SEED") or random.SystemRandom().randrange(2**32))
EXAMPLES = int(os.environ.get("AVATURN_EXAMPLES") or 200)
# Two versions of one length, which a joint would not show, and one of another.
VERSIONS = [model(20_000, seed=1), model(20_000, seed=2), model(30_000, seed=3)]


@attrs.frozen
class Lie:
    """How one request is answered; each default is the truth, and so are any version, framing and cut."""

    version: int = 0
    framing: str = "length"
    cut: int | None = None
    etag: str = "own"
    status: int | None = None
    shift: int = 0
    total: int | str = 0
    short: int = 0
    length: int = 0
    encoding: str | None = None
    redirect: bool = False
    goes_on: int = 0
    stall: int | None = None

    def __call__(self, request: Request, _: Answer) -> Answer:
        """Return the answer to a request."""
        body = VERSIONS[self.version]
        size = len(body)
        start = min(max(0, request.start + self.shift), size - self.short - 1)
        status = self.status or (206 if "range" in request.headers else 200)
        if self.redirect:
            return Answer(302, {"Location": "/moved?signature=SECRET"})
        if status not in (200, 206):
            return Answer(status, {"Content-Length": None} if status in (204, 304) else {})
        etags = {"own": f'"{self.version}"', "weak": f'W/"{self.version}"', "garbage": '"a" "b"'}
        headers: dict[str, str | None] = {"ETag": etags.get(self.etag), "Content-Encoding": self.encoding}
        body = body[: size - self.short]
        if status == 206:
            total = size + self.total if isinstance(self.total, int) else self.total
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{total}"
            body = body[start:]
        body += bytes(0 if self.short else self.goes_on)  # both would be other bytes than announced
        cut = self.cut
        if self.framing == "connection":
            headers["Content-Length"] = None
        elif self.framing == "length" and self.length:
            headers["Content-Length"] = str(max(0, len(body) + self.length))
            cut = len(body) if cut is None else cut
        return Answer(status, headers, body, cut=cut, stall=self.stall, chunked=self.framing == "chunked")

    def about_any_file(self) -> "Lie":
        """Return the lie without what only the header of a model can tell."""
        framing = "length" if self.framing == "connection" else self.framing
        return attrs.evolve(self, framing=framing, short=0, goes_on=0, length=max(0, self.length))


EACH = {
    "status": [200, 206, 204, 304, 403, 404, 416, 500, 503],
    "shift": [-5000, -1, 1, 5000],
    "total": [-1, 1, 10_000, "*", "x"],
    "short": [1, 5000],
    "length": [-5000, -1, 1, 5000],
    "encoding": ["gzip"],
    "redirect": [True],
    "goes_on": [1, 5000],
    "stall": [0, 10_000],
}
ONE = st.sampled_from(sorted(EACH)).flatmap(lambda name: st.tuples(st.just(name), st.sampled_from(EACH[name])))
# Few at once: of an answer with many lies the first hides the others.
LIES = st.builds(
    lambda version, framing, cut, etag, lies: Lie(version, framing, cut, etag, **dict(lies)),
    st.sampled_from([0, 1, 0, 1, 2]),
    st.sampled_from(["length", "length", "chunked", "connection"]),
    st.sampled_from([None, None, 1, 5000, 10_000, 19_999]),
    st.sampled_from(["own", "own", "own", "none", "weak", "garbage"]),
    st.lists(ONE, max_size=2),
)
# Most lies are about what follows a break, so most runs begin with one.
BREAK = st.builds(Lie, st.integers(0, 2), st.sampled_from(["length", "chunked"]), st.sampled_from([5000, 10_000]))
ANSWERS = st.one_of(st.tuples(BREAK, LIES), st.tuples(BREAK, LIES, LIES, LIES), st.lists(LIES, max_size=5).map(tuple))
RUNS = st.lists(st.tuples(ANSWERS, st.sampled_from([None, None, 1, 10_000])), min_size=1, max_size=3)


@seed(SEED)
@settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(RUNS, st.sampled_from(["glb", "glb", "file"]))
def _play(runs: list[tuple[tuple[Lie, ...], int | None]], kind: Kind) -> None:
    if kind == "file":
        runs = [(tuple(lie.about_any_file() for lie in lies), cancel_after) for lies, cancel_after in runs]
    asyncio.run(_download_all(runs, kind))


async def _download_all(runs: list[tuple[tuple[Lie, ...], int | None]], kind: Kind) -> None:
    """Download to one path and save in each run, cancelled after so many bytes; then from an honest server."""
    with TemporaryDirectory() as folder:
        async with FileServer(VERSIONS[0]) as server, aclosing(downloader(total=0.05)) as downloads:
            server.etag = '"0"'
            target, shelf = Path(folder, "m.glb"), Shelf()

            async def fresh_url() -> str:
                return server.url

            for lies, cancel_after in runs:
                server.answers.extend(lies)
                options = {"kind": kind, "fresh_url": fresh_url}
                fetch = lambda stop: downloads.fetch(server.url, target, overwrite=True, progress=stop, **options)  # noqa: B023, E731
                if await _succeeds(fetch, cancel_after):
                    assert target.read_bytes() in VERSIONS
                assert not target.exists() or target.read_bytes() in VERSIONS
                server.answers.clear()
                server.answers.extend(lies)
                save = lambda stop: downloads.save(server.url, shelf, "m.glb", progress=stop, **options)  # noqa: B023, E731
                if await _succeeds(save, cancel_after):
                    assert shelf.files["m.glb"] in VERSIONS
                assert set(shelf.files.values()) <= set(VERSIONS)
                server.answers.clear()
            await downloads.fetch(server.url, target, kind=kind, overwrite=True)
            assert VERSIONS[0] == target.read_bytes()
            assert [target] == list(Path(folder).iterdir())


async def _succeeds(start: Callable[[Progress], Awaitable[Any]], cancel_after: int | None) -> bool:
    """Run a download, and say whether it succeeded; it may fail only as the API says."""

    def stop(done: int, _: int | None) -> None:
        if cancel_after is not None and done >= cancel_after:
            task.cancel()

    task = asyncio.ensure_future(start(stop))
    await asyncio.wait([task])
    if task.cancelled():
        return False
    error = task.exception()
    event(type(error).__name__)
    assert error is None or isinstance(error, DownloadError)
    return error is None


@pytest.mark.slow
@pytest.mark.timeout(600 + EXAMPLES)
def test_a_file_is_one_version_whole() -> None:
    """After any mixture of lies and cancellations, in a folder and in a sink; an honest server is right at once."""
    print(f"AVATURN_SEED={SEED}")
    _play()
