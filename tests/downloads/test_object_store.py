"""Saving in object stores: with S3 over HTTP, nothing but whole files ever appears under a name."""

import asyncio
import signal
import sys

import obstore
import pytest
from obstore.store import LocalStore, MemoryStore

from avaturn_async import ObjectStoreSink
from avaturn_async.errors import ConfigurationError, DownloadError, IncompleteDownloadError, NotAModelError

from .kit import S3, Answer, model, sha256

MIB = 2**20
BIG = 20 * MIB  # three parts of 8 MiB


def names(store) -> list[str]:
    """Return the names of all objects that are visible."""
    return [entry["path"] for entry in obstore.list(store).collect()]


def content(store, name: str) -> bytes:
    """Return an object."""
    return bytes(obstore.get(store, name).bytes())


@pytest.mark.parametrize("size", [100_000, BIG], ids=["one-part", "three-parts"])
async def test_any_store_takes_a_file(size, server, downloads, tmp_path):
    """In memory and in a folder, under a prefix."""
    server.body = model(size)
    for store in (MemoryStore(), LocalStore(tmp_path)):
        saved = await downloads.save(server.url, ObjectStoreSink(store, prefix="models/2024/"), "a/m.glb", kind="glb")
        assert ("a/m.glb", size, sha256(server.body)) == (saved.name, saved.size, saved.sha256)
        assert ["models/2024/a/m.glb"] == names(store)
        assert server.body == content(store, "models/2024/a/m.glb")


async def test_a_failed_save_leaves_no_file_in_a_folder(server, downloads, tmp_path):
    """Not even the parts that were written."""
    server.body = model(BIG)
    server.answers.append(lambda _, honest: Answer(headers={"ETag": None}, body=honest.body, cut=17 * MIB))
    server.answers.extend([Answer(500)] * 4)
    with pytest.raises(DownloadError):
        await downloads.save(server.url, ObjectStoreSink(LocalStore(tmp_path)), "m.glb", kind="glb")
    assert [] == list(tmp_path.iterdir())


async def test_a_name_that_a_folder_refuses_is_not_worth_a_retry(server, downloads, tmp_path):
    """Unlike an error of a server, one of the file system does not pass by itself."""
    (tmp_path / "m.glb").mkdir()
    with pytest.raises(DownloadError, match="Generic LocalFileSystem error") as caught:
        await downloads.save(server.url, ObjectStoreSink(LocalStore(tmp_path)), "m.glb", kind="glb")
    assert not caught.value.retryable
    assert ["m.glb"] == [file.name for file in tmp_path.iterdir()]


@pytest.mark.parametrize("part_size", [0, 5 * MIB - 1, -1, 1e7, True, "8"], ids=repr)
def test_parts_have_a_least_size(part_size):
    """S3 takes no smaller ones than 5 MiB."""
    with pytest.raises(ValueError, match="part_size must be a whole number of at least 5242880 bytes"):
        ObjectStoreSink(MemoryStore(), part_size=part_size)
    assert ObjectStoreSink(MemoryStore(), part_size=5 * MIB)


@pytest.mark.parametrize("prefix", ["/", "../x", "a//b", "a\\b"])
def test_a_prefix_is_a_plain_path(prefix):
    """It may end with a slash, and not leave the bucket's name space."""
    with pytest.raises(ValueError, match="name"):
        ObjectStoreSink(MemoryStore(), prefix=prefix)


@pytest.mark.parametrize("store", ["s3://bucket", None, object()], ids=["url", "none", "object"])
def test_what_is_no_store_is_a_type_error(store):
    """The message says how to get one."""
    with pytest.raises(TypeError, match=r"store must be a store of obstore, .* not (str|NoneType|object)"):
        ObjectStoreSink(store)


def test_without_obstore_the_extra_is_named(monkeypatch):
    """The class can be imported, but not used."""
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigurationError, match=r"avaturn-async\[obstore\]"):
        ObjectStoreSink(MemoryStore())


@pytest.mark.slow
@pytest.mark.parametrize("size", [100_000, BIG], ids=["one-part", "three-parts"])
async def test_a_file_is_saved_whole(size, s3: S3, server, downloads):
    """A small one by one request, a big one in parts; what was there is replaced."""
    server.body = model(size)
    store = s3.store()
    for _ in range(2):
        saved = await downloads.save(server.url, ObjectStoreSink(store, prefix="a"), "m.glb", kind="glb")
        assert (size, sha256(server.body)) == (saved.size, saved.sha256)
    assert ["a/m.glb"] == names(store)
    assert server.body == content(store, "a/m.glb")
    assert (6 if size == BIG else 0) == sum("partNumber" in query for _, _, query in s3.requests)


@pytest.mark.slow
async def test_server_errors_that_pass_are_overcome(s3: S3, server, downloads):
    """Obstore sends again what a 503 has refused."""
    server.body, refused = model(BIG), []
    store = s3.store()

    def fail(method: str, key: str, query: str) -> int | None:
        if method in ("PUT", "POST") and (method, query) not in refused:
            refused.append((method, query))
            return 503
        return None

    s3.fail = fail
    await downloads.save(server.url, ObjectStoreSink(store), "m.glb", kind="glb")
    assert 5 == len(refused)
    assert server.body == content(store, "m.glb")


def is_begin(method: str, query: str) -> bool:
    return method == "POST" and query.startswith("uploads")


def is_end(method: str, query: str) -> bool:
    return method == "POST" and query.startswith("uploadId")


def is_second_part(method: str, query: str) -> bool:
    return query.startswith("partNumber=2")


def is_put(method: str, query: str) -> bool:
    return method == "PUT"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "fails"),
    [(BIG, is_begin), (BIG, is_second_part), (BIG, is_end), (100_000, is_put)],
    ids=["begin", "part", "end", "put"],
)
@pytest.mark.parametrize(("status", "retryable"), [(500, True), (503, True), (403, False)])
async def test_a_store_that_fails_is_a_download_error(size, fails, status, retryable, s3: S3, server, downloads):
    """What was under the name stays."""
    store = s3.store()
    sink = ObjectStoreSink(store)
    await downloads.save(server.url, sink, "m.glb", kind="glb")
    old, server.body = server.body, model(size, seed=2)
    s3.fail = lambda method, key, query: status if fails(method, query) else None
    with pytest.raises(DownloadError, match=r"m\.glb could not be saved by ObjectStoreSink") as caught:
        await downloads.save(server.url, sink, "m.glb", kind="glb")
    assert retryable is caught.value.retryable
    assert "STORE-SECRET" not in f"{caught.value} {caught.value.__cause__}"
    s3.fail = lambda method, key, query: None
    assert ["m.glb"] == names(store)
    assert old == content(store, "m.glb")


@pytest.mark.slow
async def test_a_bucket_that_is_missing(s3: S3, server, downloads):
    """It is the store's own error, and not retryable."""
    store = s3.store()
    s3.fail = lambda method, key, query: 404
    with pytest.raises(DownloadError, match="could not be saved") as caught:
        await downloads.save(server.url, ObjectStoreSink(store), "m.glb", kind="glb")
    assert not caught.value.retryable


@pytest.mark.slow
async def test_a_cancelled_save_is_aborted(s3: S3, server, downloads):
    """No object appears, and the store forgets the parts."""
    store, server.body = s3.store(), model(BIG)
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, stall=17 * MIB))
    task = asyncio.create_task(downloads.save(server.url, ObjectStoreSink(store), "m.glb", kind="glb"))
    while not any(is_second_part(method, query) for method, _, query in s3.requests):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ([], 0) == (names(store), s3.uploads())


KILLED = """
import asyncio, sys
from avaturn_async import ObjectStoreSink
from tests.downloads.kit import downloader, s3_store

asyncio.run(downloader().save(sys.argv[1], ObjectStoreSink(s3_store(sys.argv[2])), "m.glb", kind="glb"))
"""


@pytest.mark.slow
async def test_a_killed_save_leaves_nothing_visible(s3: S3, server, downloads):
    """After kill -9 in the middle of an upload the next one is as if there had been none."""
    store, server.body = s3.store(), model(BIG)
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, stall=17 * MIB))
    run = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, server.url, s3.url)
    while not any(is_second_part(method, query) for method, _, query in s3.requests):
        await asyncio.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    assert -signal.SIGKILL == await run.wait()
    assert [] == names(store)
    await downloads.save(server.url, ObjectStoreSink(store), "m.glb", kind="glb")
    assert (["m.glb"], server.body) == (names(store), content(store, "m.glb"))


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["source-breaks-off", "link-expires", "no-model", "not-a-model-after-all"])
async def test_a_source_that_fails_leaves_nothing_visible(broken, s3: S3, server, downloads):
    """Whatever had been uploaded of it is dropped."""
    store, server.body = s3.store(), model(BIG)
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, cut=17 * MIB))
    if broken == "source-breaks-off":
        server.answers.extend([Answer(500)] * 5)
    elif broken == "link-expires":
        server.answers.append(Answer(403))
    else:
        body = b"<html>" * MIB if broken == "no-model" else model(BIG, declared=BIG + 1)
        server.answers.clear()
        server.answers.append(Answer(headers={"ETag": '"x"'}, body=body, chunked=True))
    with pytest.raises(DownloadError) as caught:
        await downloads.save(server.url, ObjectStoreSink(store), "m.glb", kind="glb")
    assert isinstance(caught.value, NotAModelError if "model" in broken else IncompleteDownloadError)
    assert ([], 0) == (names(store), s3.uploads())


@pytest.mark.slow
@pytest.mark.parametrize("etag", ['"3f2a"', None], ids=["resumed", "begun-again"])
async def test_a_link_that_expires_in_the_middle_is_replaced(etag, s3: S3, server, downloads):
    """The upload goes on, or begins again if the source can't be resumed."""
    store, server.body, server.etag = s3.store(), model(BIG), etag
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=honest.body, cut=17 * MIB))
    server.answers.append(Answer(403))

    async def fresh_url() -> str:
        return server.url

    saved = await downloads.save(server.url, ObjectStoreSink(store), "m.glb", kind="glb", fresh_url=fresh_url)
    assert sha256(server.body) == saved.sha256
    assert (server.body, 0) == (content(store, "m.glb"), s3.uploads())


MEASURED = """
import asyncio, sys
from pathlib import Path
from avaturn_async import ObjectStoreSink
from tests.downloads.kit import downloader, s3_store

def peak():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)

async def main(small, big, store):
    sink, downloads = ObjectStoreSink(s3_store(store)), downloader()
    await downloads.save(small, sink, "small.glb", kind="glb")
    before = peak()
    saved = await downloads.save(big, sink, "big.glb", kind="glb", checksum=False)
    print(saved.size, (peak() - before) * 1024)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
async def test_memory_does_not_grow_with_the_file(s3: S3, server):
    """Saving 100 MB takes less than 40 MB more than saving 300 kB."""
    s3.store()
    body = model(100_000_000)
    server.answers.append(lambda _, honest: honest)
    server.answers.append(lambda _, honest: Answer(headers=honest.headers, body=body))
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MEASURED, server.url, server.url, s3.url), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await run.communicate()
    size, grown = map(int, out.split())
    print(f"grown by {grown / 1e6:.1f} MB")
    assert len(body) == size
    assert grown <= 40_000_000
