"""One thread for the jobs of one coroutine: their order, their failures, and its end."""

import asyncio
import gc
import threading

import pytest

from avaturn_async.downloads.partfile import PartFile
from avaturn_async.downloads.worker import Worker
from avaturn_async.downloads.writer import Sink
from avaturn_async.http.tasks import run_in_thread

from .kit import downloader, model

MIB = 1024 * 1024


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "avaturn-download"]


@pytest.fixture(autouse=True)
def _no_others() -> None:
    """Wait for the threads of tests before, which may just be ending."""
    for thread in _threads():
        thread.join(10)


async def test_jobs_are_done_in_turn_in_one_thread():
    """Jobs follow one another, beside the loop's own thread."""
    worker, seen = Worker(), []
    for number in range(100):
        worker.give(lambda number=number: seen.append((number, threading.get_ident())))
    await worker.catch_up()
    assert list(range(100)) == [number for number, _ in seen]
    assert 1 == len({thread for _, thread in seen} - {threading.get_ident()})
    worker.end()


async def test_a_wait_ends_when_few_enough_are_left():
    """Who waits for room goes on while a job is still under way."""
    worker, go_on = Worker(), threading.Event()
    worker.give(lambda: None)
    worker.give(lambda: go_on.wait(10))
    await worker.catch_up(1)
    waiting = asyncio.create_task(worker.catch_up())
    await asyncio.sleep(0)
    assert not waiting.done()
    go_on.set()
    await waiting
    worker.end()


async def test_after_a_failure_nothing_more_is_done():
    """What a job raises is raised at each wait, and the jobs behind it are left out."""
    worker, seen = Worker(), []
    worker.give(lambda: 1 // 0)
    worker.give(lambda: seen.append(1))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await worker.catch_up()
    assert not await worker.left(0)
    assert [] == seen
    worker.end()


async def test_a_cancelled_wait_ends_with_its_jobs():
    """However often it is cancelled, a wait ends when the job has, and then as cancelled."""
    worker, go_on = Worker(), threading.Event()
    worker.give(lambda: go_on.wait(10))
    waiting = asyncio.create_task(worker.catch_up())
    for _ in range(3):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    worker.end()


async def test_the_thread_ends():
    """A thread begins with the first job, and is gone after the last."""
    worker, seen = Worker(), []
    assert [] == _threads()
    worker.give(lambda: seen.append(1))
    (thread,) = _threads()
    worker.end()
    thread.join(10)
    assert ([1], []) == (seen, _threads())


def test_a_loop_that_was_left_in_the_middle_is_no_error():
    """A thread whose loop is closed meanwhile ends its job and itself."""
    worker, go_on = Worker(), threading.Event()
    loop = asyncio.new_event_loop()
    worker.give(lambda: go_on.wait(10))
    waiting = loop.create_task(worker.catch_up())
    loop.call_soon(loop.stop)
    loop.run_forever()
    waiting._log_destroy_pending = False
    loop.close()
    (thread,) = _threads()
    go_on.set()
    worker.end()
    thread.join(10)
    assert not thread.is_alive()


async def test_a_sink_that_was_dropped_leaves_no_thread(tmp_path):
    """Also where nobody closes a sink, its thread does not wait for ever."""
    part = PartFile(tmp_path / "f", overwrite=False)
    await run_in_thread(part.open, "source")
    sink = Sink(part, lambda: None)
    await sink.put(bytes(MIB))
    await sink._worker.catch_up()
    (thread,) = _threads()
    del sink
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()
    await run_in_thread(part.close)


@pytest.mark.parametrize("ending", ["done", "cancelled"])
async def test_no_download_leaves_a_thread(ending, server, tmp_path):
    """The thread of a download ends with it, whole or cancelled."""
    server.body = model(4 * MIB)
    made, seen = downloader(), []

    def look(done: int, total: int | None) -> None:
        seen.extend(_threads())
        if ending == "cancelled" and seen:
            task.cancel()

    task = asyncio.create_task(made.fetch(server.url, tmp_path / "m.glb", progress=look))
    await asyncio.wait([task])
    assert task.cancelled() == (ending == "cancelled")
    assert seen
    for thread in seen:
        thread.join(10)
    assert [] == _threads()
    await made.aclose()
