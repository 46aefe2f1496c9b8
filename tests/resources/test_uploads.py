"""Uploads through the client: what they return, what their errors lead to, and what they leave behind."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import pickle
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web
from yarl import URL

from avaturn_async import (
    AvaturnClient,
    AvaturnError,
    ClientClosedError,
    ExternalAvatarCustomization,
    JobFailedError,
    OutcomeUnknownError,
    Photos,
    RequestTimeoutError,
    ResponseFormatError,
    RetryPolicy,
    Timeouts,
    TransportError,
)
from avaturn_async.emulator import Emulator
from avaturn_async.models import ScanStatus

from ..leaks import leaks
from ..servers import running

FACE = b"a very private face "
JPEG = b"\xff\xd8\xff\xda " + FACE * 300_000 + b"\xff\xd9"
ONCE = RetryPolicy(attempts=1)
AVATAR = UUID(int=7)

END = web.AppKey("end", asyncio.Event)

Answer = Callable[[web.Request], Any]


class Immutable(Exception):
    """Takes notes, but no attributes."""

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("__"):
            raise AttributeError(name)
        super().__setattr__(name, value)


def photos() -> Photos:
    """Return photos, one in each kind of form."""
    return Photos(JPEG, BytesIO(JPEG), memoryview(JPEG), body_type="female")


async def accept(request: web.Request) -> web.Response:
    """Read the form and say that the photos are processed."""
    await request.read()
    return web.json_response({"status": "processing"})


@asynccontextmanager
async def served(store: Answer) -> AsyncIterator[str]:
    """Run an API with one avatar, whose photos go to `store`; yield its url."""

    async def create(request: web.Request) -> web.Response:
        return web.json_response({"avatar_id": str(AVATAR), "upload_url": f"{url}/store?signature=sesame"})

    async def listing(request: web.Request) -> web.Response:
        return web.json_response([])

    app = web.Application(client_max_size=2**30)
    app[END] = asyncio.Event()
    app.add_routes([web.post("/api/v1/avatars/new", create), web.post("/store", store)])
    app.add_routes([web.get("/api/v1/users/{id}/avatars", listing)])
    async with running(web.AppRunner(app, handler_cancellation=True)) as url:
        try:
            yield url
        finally:
            app[END].set()


def client_of(url: str, **options: Any) -> AvaturnClient:
    """Return a client of an API at a url."""
    return AvaturnClient("token-token-token", base_url=url, **{"retry": ONCE, **options})


def answering(body: bytes, status: int = 200) -> Answer:
    """Return a store that answers any form."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, status=status)

    return answer


async def stand(request: web.Request) -> web.Response:
    """Read nothing until the end of the server."""
    await request.app[END].wait()
    return web.Response()


async def break_early(request: web.Request) -> web.Response:
    """End the connection in the middle of the form."""
    await request.content.readexactly(100_000)
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def break_late(request: web.Request) -> web.Response:
    """End the connection after the form."""
    await request.read()
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def echo(request: web.Request) -> web.Response:
    """Refuse the form and quote it."""
    return web.Response(body=await request.read(), status=400)


# Results.


@pytest.mark.parametrize("status", ["pending", "processing", "ready", "queued"])
async def test_the_status_of_the_response_is_returned(status: str) -> None:
    """A JSON object with a status is the contract's response."""
    async with served(answering(b'{"status":"%b","more":1}' % status.encode())) as url, client_of(url) as client:
        assert ScanStatus(status) == await client.avatars.upload(f"{url}/store", photos())


@pytest.mark.parametrize(
    "body", [b"", b"<html>Welcome</html>", b"[]", b"{}", b'{"status":null}', b'{"status":5}', b'"ready"', b"\xff"]
)
async def test_another_response_is_an_error(body: bytes) -> None:
    """A portal's page with status 200 is no sign that photos were accepted."""
    async with served(answering(body)) as url, client_of(url) as client:
        with pytest.raises(ResponseFormatError, match="not a JSON object with a status") as caught:
            await client.avatars.create_from_photos("u", photos())
    assert (AVATAR, f"{url}/store?signature=sesame") == (caught.value.avatar_id, caught.value.upload_url)


async def test_photos_that_were_rejected_are_a_failed_job() -> None:
    """The response says so."""
    async with served(answering(b'{"status":"failed"}')) as url, client_of(url) as client:
        with pytest.raises(JobFailedError, match="the photos were rejected"):
            await client.avatars.create_from_photos("u", photos())


@pytest.mark.parametrize("given", [Path("me.jpg"), b"photo", None, (JPEG, JPEG, JPEG)], ids=["path", "b", "n", "t"])
async def test_photos_of_another_type_are_refused(given: Any) -> None:
    """Before the avatar is made."""
    async with served(accept) as url, client_of(url) as client:
        for upload in client.avatars.upload(url, given), client.avatars.create_from_photos("u", given):
            with pytest.raises(TypeError, match="photos must be a Photos, not"):
                await upload


@pytest.mark.parametrize("progress", [1, lambda _: None], ids=["number", "async"])
async def test_progress_is_checked_before_anything_is_sent(progress: Any) -> None:
    """A coroutine function would never be awaited."""

    async def report(sent: int, size: int) -> None: ...

    given = progress if progress == 1 else report
    async with served(accept) as url, client_of(url) as client:
        with pytest.raises(TypeError, match="progress must be a function that is not async"):
            await client.avatars.upload(url, photos(), progress=given)


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("content", [b"\x89PNG", JPEG[:-2], JPEG + bytes(64 * 2**20)], ids=["png", "early", "large"])
async def test_photos_are_checked_before_the_avatar_is_made(emulator: Emulator, position: int, content: bytes) -> None:
    """A photo that can't be used costs no avatar."""
    given: list[Any] = [JPEG, JPEG, JPEG]
    given[position] = content
    async with AvaturnClient(emulator.token, base_url=emulator.url) as client:
        with pytest.raises(ValueError, match=rf"Photos\.{('frontal', 'side_1', 'side_2')[position]}"):
            await client.avatars.create_from_photos("u", Photos(*given, body_type="male"))
    assert [] == list(emulator.requests)


# Errors and cancellations.


async def cancel(client: AvaturnClient, task: asyncio.Task[Any]) -> None:
    """Cancel an upload."""
    task.cancel()


async def close(client: AvaturnClient, task: asyncio.Task[Any]) -> None:
    """Close the client."""
    async with asyncio.timeout(20):
        await client.aclose()


def raise_late(sent: int, size: int) -> None:
    """Fail in the middle of an upload."""
    if sent:
        raise LookupError("no more")


ENDINGS: dict[str, tuple[Answer, type[BaseException], dict[str, Any], Any]] = {
    "413": (answering(b"too large", 413), AvaturnError, {}, None),
    "echo": (echo, AvaturnError, {}, None),
    "broke early": (break_early, TransportError, {}, None),
    "broke late": (break_late, OutcomeUnknownError, {}, None),
    "html": (answering(b"<html>"), ResponseFormatError, {}, None),
    "failed": (answering(b'{"status":"failed"}'), JobFailedError, {}, None),
    "standstill": (stand, RequestTimeoutError, {}, None),
    "progress": (accept, LookupError, {"progress": raise_late}, None),
    "cancelled": (stand, asyncio.CancelledError, {}, cancel),
    "closed": (stand, ClientClosedError, {}, close),
}


async def ended(name: str, given: Photos, call: str) -> BaseException:
    """Return the error of an upload that ends in that way."""
    store, kind, options, end = ENDINGS[name]
    limits = Timeouts(upload=0.3) if name == "standstill" else Timeouts()
    moving = asyncio.Event()
    options = {"progress": lambda sent, size: sent and moving.set(), **options}
    async with served(store) as url, client_of(url, timeouts=limits) as client:
        if call == "upload":
            work: Any = client.avatars.upload(f"{url}/store", given, **options)
        else:
            work = client.avatars.create_from_photos("u", given, **options)
        del given
        task = asyncio.create_task(work)
        if end is not None:
            await moving.wait()
            await end(client, task)
        await asyncio.wait([task])
        with pytest.raises(kind) as caught:
            task.result()
        return caught.value.with_traceback(caught.tb.tb_next)


@pytest.mark.parametrize("call", ["upload", "create_from_photos"])
@pytest.mark.parametrize("name", ENDINGS)
async def test_an_error_shows_and_keeps_no_photo(name: str, call: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither do its causes, its traceback and the log; the error of an API call leads on."""
    caplog.set_level(logging.DEBUG)
    error = await ended(name, photos(), call)
    async with asyncio.timeout(20):
        while sys.getrefcount(JPEG) > REFERENCES:  # a thread lets go of what it read last when it runs again
            gc.collect()
            await asyncio.sleep(0.01)
    assert [] == leaks(error, FACE.decode(), "sesame")
    logged = [record.getMessage() for record in caplog.records if record.name != "aiohttp.access"]
    assert not [line for line in logged if FACE.decode() in line or "sesame" in line]
    if isinstance(error, AvaturnError):
        assert str(pickle.loads(pickle.dumps(error)).upload_url).partition("?")[0].endswith("/store")
        assert (AVATAR if call == "create_from_photos" else None) == error.avatar_id


REFERENCES = sys.getrefcount(JPEG)


@pytest.mark.parametrize("way", ["failed", "cancelled"])
async def test_an_upload_that_ended_can_be_made_again(emulator: Emulator, way: str) -> None:
    """With the url, to the same avatar, which then gets its customization."""
    emulator.faults = type(emulator.faults)()
    wanted = ExternalAvatarCustomization(skin_tone_correction=3)
    async with AvaturnClient(emulator.token, base_url=emulator.url) as client:
        user = await client.users.create()
        made = await client.avatars.create(user.id)
        task = asyncio.create_task(
            client.avatars.upload(made.upload_url, photos(), progress=raise_late if way == "failed" else None)
        )
        if way == "cancelled":
            while not emulator.counts["upload_photos"]:
                await asyncio.sleep(0.002)
            task.cancel()
        with suppress(asyncio.CancelledError, LookupError):
            await task
        assert way == ("cancelled" if task.cancelled() else "failed")
        await client.avatars.upload(made.upload_url, photos())
        avatar = await client.avatars.pending(user.id, made.avatar_id, customization=wanted)
        assert made.avatar_id == avatar.id
        assert 3 == (await client.avatars.get_customization(avatar.id)).skin_tone_correction


def truncate(path: Path) -> None:
    """Have the disk lose what was not read yet."""
    os.truncate(path, 0)


def stop_by(error: BaseException) -> Callable[[Path], None]:
    """Return a function that raises it."""

    def stop(path: Path) -> None:
        raise error

    return stop


def cancel_caller(path: Path) -> None:
    """Cancel the task that uploads; the function runs in another one."""
    for task in asyncio.all_tasks():
        if task.get_name() == "caller":
            task.cancel()


def ends_and_leads_on(tmp_path: Path, kind: type[BaseException], end: Any) -> None:
    """Upload until `end` ends it with an exception of this kind, and check what that says."""
    path = tmp_path / "me.jpg"
    path.write_bytes(JPEG)
    attempts = []

    def progress(sent: int, size: int) -> None:
        attempts.append(sent)
        if sent:
            end(limit if kind is TimeoutError else path)

    limit = asyncio.timeout_at(None)

    async def main() -> None:
        given = Photos(path, path, path, body_type="male")
        async with served(stand) as url, client_of(url, retry=RetryPolicy(base=0)) as client:
            task = asyncio.create_task(client.avatars.create_from_photos("u", given, progress=progress), name="caller")
            async with limit:
                await task

    with pytest.raises(kind) as caught:
        asyncio.run(main())
    interrupted = isinstance(caught.value.__context__, asyncio.CancelledError)  # by a signal or a timeout
    error: Any = caught.value.__context__ if interrupted else caught.value
    assert 1 == attempts.count(0)
    [note] = error.__notes__
    assert f"avatar {AVATAR} was created: continue with upload_url and resume_token of this exception" == note
    assert [] == leaks(caught.value, "sesame")
    if kind is not Immutable:
        assert (AVATAR, "/store?signature=sesame") == (error.avatar_id, URL(str(error.upload_url)).path_qs)
        assert AVATAR == UUID(json.loads(error.resume_token)["avatar_id"])


@pytest.mark.parametrize(
    ("kind", "end"),
    [
        (OSError, truncate),
        (LookupError, stop_by(LookupError())),
        (Immutable, stop_by(Immutable())),
        (asyncio.CancelledError, stop_by(asyncio.CancelledError())),
        (asyncio.CancelledError, cancel_caller),
        (TimeoutError, lambda limit: limit.reschedule(0)),
        (KeyboardInterrupt, stop_by(KeyboardInterrupt())),
    ],
    ids=["disk", "progress", "immutable", "own cancel", "cancelled", "timeout", "interrupt"],
)
def test_whatever_ends_an_upload_leads_on(tmp_path: Path, kind: type[BaseException], end: Any) -> None:
    """The avatar that was created before is not lost, and its upload url is not shown."""
    ends_and_leads_on(tmp_path, kind, end)


def press_ctrl_c(tmp_path: Path) -> None:
    """Interrupt an upload by the signal that Ctrl-C sends, also where this process was started without it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ends_and_leads_on(tmp_path, KeyboardInterrupt, lambda _: signal.raise_signal(signal.SIGINT))


def test_ctrl_c_leads_on(tmp_path: Path) -> None:
    """The same in a process of its own, whose main thread gets the signal."""
    process = get_context("spawn").Process(target=press_ctrl_c, args=(tmp_path,))
    process.start()
    process.join()
    assert 0 == process.exitcode


# Slots.


async def test_stuck_uploads_hold_up_no_call() -> None:
    """They have slots and connections of their own."""
    async with served(stand) as url, client_of(url, max_connections=1) as client:
        moving = asyncio.Event()
        stuck = [
            asyncio.create_task(
                client.avatars.upload(f"{url}/store", photos(), progress=lambda sent, _: sent and moving.set())
            )
            for _ in range(3)
        ]
        await moving.wait()
        assert [] == await client.avatars.list("u")
        await client.aclose()
        for task in stuck:
            with pytest.raises(ClientClosedError):
                await task


async def test_uploads_that_wait_for_a_slot_hold_no_files(tmp_path: Path) -> None:
    """So a thousand at once need no more files than their connections do."""
    path = tmp_path / "me.jpg"
    path.write_bytes(b"\xff\xd8\xff\xda\xff\xd9")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with served(accept) as url, client_of(url, max_connections=4) as client:
        await client.avatars.list("u")
        resource.setrlimit(resource.RLIMIT_NOFILE, (len([*Path("/proc/self/fd").iterdir()]) + 60, hard))
        try:
            given = Photos(path, path, path, body_type="male")
            await asyncio.gather(*(client.avatars.create_from_photos("u", given) for _ in range(60)))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
