"""What observers are told, and that they can't harm."""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest
from aiohttp import web

from avaturn_async import (
    AvaturnClient,
    ExternalAvatarCustomization,
    JobFailedError,
    MemoryMailbox,
    Observer,
    Photos,
    RateLimitError,
    RetryPolicy,
    ServerError,
    WaitTimeoutError,
    WebhookReceiver,
)
from avaturn_async.emulator import Emulator, Faults, Timing
from avaturn_async.observe.dispatch import Observers

from ..chaos.kit import scaled
from ..pending.kit import (
    AVATAR,
    FAILED,
    NEVER as NO_POLLS,
    PENDING,
    READY,
    VirtualLoop,
    World,
    after,
    export_event,
    run,
    saying,
)
from ..webhooks.kit import aiohttp_server, uvicorn_server
from ..webhooks.samples import SECRET, export_body
from .kit import METHODS, NEVER, QUICK, TRACEPARENT, Recorder, make_avatars

PHOTO = b"\xff\xd8\xff\xda a face \xff\xd9"


def test_numbers_of_jobs_are_unique_in_the_process() -> None:
    """Also among pending objects of which one is created where another one was."""
    seen = Recorder()

    async def story() -> None:
        world = World(saying(PENDING), observers=Observers([seen]))
        for _ in range(50):
            await (await world.exports.create(AVATAR)).refresh()

    run(story())
    jobs = list(zip(*([info.job for info in seen.infos(name)] for name in ("job_created", "job_polled")), strict=True))
    assert all(created == ended for created, ended in jobs)
    assert 50 == len(set(jobs))


async def test_the_story_of_an_export_by_webhook(tmp_path: Path) -> None:
    """From create to file, in order, with the ids, and with no secret in it."""
    seen = Recorder()
    secret = secrets.token_urlsafe(24)
    receiver = WebhookReceiver(secret, observers=[seen])
    async with Emulator(timing=Timing(export=0.05), models="small") as avaturn, receiver.serve() as server:
        avaturn.webhook_url = server.url
        (avatar_id,) = await make_avatars(avaturn, 1)
        options: dict[str, Any] = {"base_url": avaturn.url, "webhooks": receiver, "polling": NEVER}
        async with AvaturnClient(avaturn.token, observers=[seen], **options) as client:
            export = await client.exports.create_and_wait(avatar_id)
            await export.download(tmp_path / "a.glb")
    expected = ["job_created", "wait_started", "job_event_received", "job_ended", "job_polled", "wait_ended"]
    assert [*expected, "download_started", "download_ended"] == seen.names("job", "wait", "download")
    assert 2 * ["call_started", "request_sent", "request_answered", "call_ended"] == seen.names("call", "request")
    (ended,), (waited,) = seen.infos("job_ended"), seen.infos("wait_ended")
    assert ("export", avatar_id, "ready", "webhook", 1, 1) == (
        *(ended.kind, ended.avatar_id, ended.status, ended.resolved_by, ended.polls, ended.webhooks),
    )
    assert ended.job == waited.job
    assert (0, "resolved", "resolved") == (ended.wait, ended.outcome, waited.outcome)
    assert 0 < waited.seconds < 60
    (event,) = seen.infos("job_event_received")
    assert "export.ready" == event.event
    assert ended.seconds >= event.seconds > 0
    webhook = seen.infos("webhook_answered")[-1]  # the first one is the avatar's
    assert ("export.ready", avatar_id, 200) == (webhook.event, webhook.avatar_id, webhook.status)
    call = seen.infos("call_ended")[0]
    assert ("POST", "/api/v1/exports/new", 200, 1) == (call.method, call.path, call.status, call.attempt)
    assert call.url == f"{avaturn.url}/api/v1/exports/new"
    (download,) = seen.infos("download_ended")
    assert (avatar_id, (tmp_path / "a.glb").stat().st_size, None) == (
        *(download.avatar_id, download.size, download.error),
    )
    shown = repr(seen.told)
    query = export.url.partition("?")[2]
    assert query
    assert [] == [each for each in (secret, avaturn.token, query) if each in shown]


async def test_paths_are_templates(emulator: Emulator) -> None:
    """Ids are in the url alone, and of an upload url nothing but scheme and host is told."""
    seen = Recorder()
    async with AvaturnClient(emulator.token, base_url=emulator.url, polling=QUICK, observers=[seen]) as client:
        user = await client.users.create()
        await (await client.avatars.create_from_photos(user.id, Photos(*[PHOTO] * 3, body_type="male"))).wait()
        (avatar,) = await client.avatars.list(user.id)
        await client.avatars.set_customization(avatar.id, ExternalAvatarCustomization(skin_tone_correction=5))
        await client.avatars.get_customization(avatar.id)
        await client.avatars.delete(user.id, avatar.id)
        await client.users.delete(user.id)
    paths = [info.path.removeprefix("/api/v1") for info in seen.infos("call_ended")]
    assert {
        *("/users/new", "/avatars/new", "upload_url", "/users/{user_id}/avatars", "/avatars/{avatar_id}/customization"),
        *("/users/{user_id}/avatars/{avatar_id}", "/users/{user_id}"),
    } == set(paths)
    (upload,) = [info for info in seen.infos("call_ended") if info.path == "upload_url"]
    assert f"{emulator.url}/..." == upload.url
    assert seen.infos("call_ended")[-1].url.endswith(f"/users/{user.id}")


async def test_retries_and_hold_backs(emulator: Emulator) -> None:
    """Each attempt, the delay before the next one, the hold-back after a 429, and one end."""
    seen = Recorder()
    emulator.faults = Faults(rate_limited=1, retry_after=0)
    retry = RetryPolicy(attempts=2, base=0, cap=0)
    async with AvaturnClient(emulator.token, base_url=emulator.url, retry=retry, observers=[seen]) as client:
        with pytest.raises(RateLimitError):
            await client.users.create()
        emulator.faults = Faults(server_errors=1)
        with pytest.raises(ServerError):
            await client.avatars.list("u")
    limited, failing = seen.told[:9], seen.told[9:]
    attempt = ["request_sent", "request_answered"]
    held = [*attempt, "request_held_back"]
    assert ["call_started", *held, "request_retried", *held, "call_ended"] == [name for name, _ in limited]
    assert ["call_started", *attempt, "request_retried", *attempt, "call_ended"] == [name for name, _ in failing]
    assert 1 == len({info.call for _, info in limited})
    assert [1, 1, 1, 2, 2, 2, 2, 2] == [info.attempt for _, info in limited][1:]
    ended = failing[-1][1]
    assert ("ServerError", 2) == (ended.error, ended.attempt)
    assert ended.status >= 500


async def test_a_call_that_is_cancelled_or_not_answered_ends(emulator: Emulator) -> None:
    """Its end names the exception."""
    seen = Recorder()
    emulator.faults = Faults(slow=30)
    async with AvaturnClient(emulator.token, base_url=emulator.url, observers=[seen]) as client:
        task = asyncio.create_task(client.users.create())
        while not seen.names("request_sent"):
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])
    assert [(None, "CancelledError")] == [(info.status, info.error) for info in seen.infos("call_ended")]
    async with AvaturnClient(
        "t", base_url="http://127.0.0.1:9", retry=RetryPolicy(attempts=1), observers=[seen]
    ) as down:
        with pytest.raises(Exception, match="no connection"):
            await down.users.create()
    assert (None, "ConnectError") == (seen.told[-1][1].status, seen.told[-1][1].error)


@pytest.mark.parametrize("error", [ValueError("sesame"), asyncio.CancelledError("sesame")], ids=["error", "cancelled"])
async def test_an_observer_that_raises_harms_nothing(
    error: BaseException, emulator: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once; the calls and the other observers go on."""

    class Raising(Observer):
        def traceparent(self) -> str | None:
            raise error

    def fail(self: Observer, info: object) -> None:
        raise error

    for name in METHODS:
        setattr(Raising, name, fail)
    seen = Recorder()
    receiver = WebhookReceiver(SECRET, observers=[Raising(), seen])
    (avatar_id,) = await make_avatars(emulator, 1)
    options: dict[str, Any] = {"base_url": emulator.url, "webhooks": receiver, "polling": QUICK}
    raising = Raising()
    async with AvaturnClient(emulator.token, observers=[raising, seen], **options) as client:
        async with client.exports.batch([avatar_id], download_to=tmp_path) as batch:
            assert (await batch.run()).succeeded
        assert 200 == (await receiver.handle(export_body(), path=SECRET)).status
    assert {"batch_ended", "download_ended", "job_ended", "webhook_answered"} <= set(seen.names())
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert ["avaturn_async.observe.dispatch"] * 2 == [record.name for record in logged]  # client and receiver


def test_observers_are_checked() -> None:
    """They are instances of Observer, and their methods are not async."""

    class Async(Observer):
        async def call_ended(self, info: object) -> None:  # type: ignore[override]
            """Never awaited."""

    with pytest.raises(TypeError, match="instances of Observer, not str"):
        AvaturnClient("t", observers=["x"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"Async\.call_ended must be a plain function"):
        WebhookReceiver(SECRET, observers=[Async()])


def test_the_base_class_does_nothing() -> None:
    """All of its methods can be called."""
    observer = Observer()
    assert [None] * len(METHODS) == [getattr(observer, name)(None) for name in METHODS]
    assert observer.traceparent() is None


def test_nobody_observes() -> None:
    """Without observers, callers are told to skip what the log would not show either."""
    logger, levels = logging.getLogger("avaturn_async.observe.logs"), (logging.DEBUG, logging.INFO)
    before = logger.level
    try:
        for level, wanted in [("WARNING", [False, False]), ("INFO", [False, True]), ("DEBUG", [True, True])]:
            logger.setLevel(level)
            assert wanted == [Observers().wants(each) for each in levels]
            assert [True, True] == [Observers([Observer()]).wants(each) for each in levels]
    finally:
        logger.setLevel(before)


@pytest.mark.parametrize(
    "count", [1_000, pytest.param(scaled(10_000, 2_000), marks=pytest.mark.chaos)], ids=["1000", "more"]
)
def test_waits_each_end_once(count: int) -> None:
    """Whether resolved by create, poll or webhook, failed, timed out, cancelled, closed or refused."""
    seen, box = Recorder(), MemoryMailbox()
    ways = ["create", "poll", "webhook", "failed", "timed out", "cancelled", "closed", "refused", "shared"]
    avatars = {uuid4(): ways[number % len(ways)] for number in range(count)}
    polled: Counter[str] = Counter()

    def script(request: Any) -> Any:
        avatar_id = request.query.removeprefix("avatar_id=")
        way, polled[avatar_id] = avatars[UUID(avatar_id)], polled[avatar_id] + 1
        if way == "create" or (way in ("poll", "webhook", "shared") and polled[avatar_id] > 2):
            return READY
        if way == "refused" and polled[avatar_id] > 1:
            return ValueError("a defect")
        return FAILED if way == "failed" and polled[avatar_id] > 1 else PENDING

    async def one(world: World, avatar_id: UUID, way: str) -> None:
        export = await world.exports.create(avatar_id)
        timeout = 20.0 if way == "timed out" else None
        waits = [asyncio.create_task(export.wait(timeout=timeout)) for _ in range(2 if way == "shared" else 1)]
        if way == "webhook":
            await after(0.5, lambda: box.deliver(export_event(avatar_id=avatar_id)))
        if way == "cancelled":
            await after(0.5, waits[0].cancel)
        await asyncio.gather(*waits, return_exceptions=True)

    async def main() -> None:
        world = World(script, mailbox=box, observers=Observers([seen]), most_polls=20_000)
        work = [asyncio.create_task(one(world, avatar_id, way)) for avatar_id, way in avatars.items()]
        await asyncio.sleep(300)
        await world.context.aclose()
        await asyncio.gather(*work)

    run(main())
    created = Counter(info.avatar_id for info in seen.infos("job_created"))
    assert Counter(avatars.keys()) == created
    started, ended = seen.infos("wait_started"), seen.infos("wait_ended")
    assert Counter(info.wait for info in started) == Counter(info.wait for info in ended)
    assert 1 == max(Counter(info.wait for info in ended).values())
    assert len(avatars) + list(avatars.values()).count("shared") == len(ended)
    how = {way: {info.outcome for info in ended if avatars[info.avatar_id] == way} for way in ways}
    resolved = {way: {"resolved"} for way in ("create", "poll", "webhook", "shared")}
    assert {
        **resolved,
        **{way: {way} for way in ("failed", "timed out", "cancelled")},
        "closed": {"error"},
        "refused": {"error"},
    } == how
    settled = Counter(info.avatar_id for info in seen.infos("job_ended"))
    assert {avatar_id: 1 for avatar_id, way in avatars.items() if way in (*resolved, "failed")} == settled
    by = {way: {info.resolved_by for info in seen.infos("job_ended") if avatars[info.avatar_id] == way} for way in ways}
    assert {"create": {"create"}, "poll": {"poll"}, "webhook": {"webhook"}}.items() <= by.items()


@pytest.mark.parametrize("how", ["closed", "dropped", "cancelled"])
def test_waits_on_a_loop_that_ends(how: str) -> None:
    """Each ends once, also where its loop is closed, or garbage, before anything is cancelled."""
    seen, loop = Recorder(), VirtualLoop()
    loop.set_exception_handler(lambda *_: None)  # asyncio tells of tasks that were dropped

    async def begin() -> list[asyncio.Task[Any]]:
        world = World(saying(PENDING), mailbox=MemoryMailbox(), observers=Observers([seen]))
        exports = [await world.exports.create(uuid4()) for _ in range(100)]
        return [asyncio.create_task(export.wait()) for export in exports]

    waits = loop.run_until_complete(begin())
    loop.run_until_complete(asyncio.sleep(0))
    if how == "cancelled":
        for wait in waits:
            wait.cancel()
        loop.run_until_complete(asyncio.wait(waits))
    loop.close()
    if how == "dropped":
        del loop
    waits.clear()
    gc.collect()
    ended = Counter(info.wait for info in seen.infos("wait_ended"))
    assert Counter(info.wait for info in seen.infos("wait_started")) == ended
    assert (100, 1) == (len(ended), max(ended.values()))
    assert {"cancelled"} == {info.outcome for info in seen.infos("wait_ended")}


def test_a_failed_job_says_how() -> None:
    """The wait fails with the job, and a later wait ends at once in the same way."""
    seen = Recorder()

    async def main() -> None:
        export = await World(saying(PENDING, FAILED), observers=Observers([seen])).exports.create(uuid4())
        for _ in range(2):
            with pytest.raises(JobFailedError):
                await export.wait()

    run(main())
    assert ["JobFailedError"] == [info.error for info in seen.infos("job_ended")]
    assert ["failed", "failed"] == [info.outcome for info in seen.infos("wait_ended")]
    assert ["poll", "poll"] == [info.resolved_by for info in seen.infos("wait_ended")]


def test_a_timeout_has_the_numbers_and_the_last_request_id() -> None:
    """Also that of a response with an error, and events of earlier waits count."""
    seen, box = Recorder(), MemoryMailbox()

    async def main() -> None:
        failure = ServerError("no", status_code=500, method="POST", path="/", request_id="last-one")
        world = World(saying(PENDING, PENDING, failure), mailbox=box, policy=NO_POLLS, observers=Observers([seen]))
        export = await world.exports.create(uuid4())
        for number in (1, 2):
            await box.deliver(export_event("pending", avatar_id=export.avatar_id))
            with pytest.raises(WaitTimeoutError) as caught:
                await export.wait(timeout=5)
            assert (number, number) == (caught.value.webhooks, caught.value.polls - number)
        assert "2 webhooks and 4 polls" in str(caught.value)
        assert "last-one" == caught.value.request_id
        assert "last-one" in str(caught.value)

    run(main())
    assert "timed out" == seen.infos("wait_ended")[-1].outcome
    assert [None, "ServerError"] == [info.error for info in seen.infos("job_polled")][:2]


def test_a_render_that_times_out_names_the_request_that_created_it() -> None:
    """No endpoint reads a render, so that there is no later one."""

    async def main() -> None:
        world = World(saying({"id": str(uuid4()), "status": "pending", "render_url": None}), mailbox=MemoryMailbox())
        with pytest.raises(WaitTimeoutError, match="request id of the last response: request-1"):
            await world.renders.create_and_wait(uuid4(), timeout=5)

    run(main())


async def test_polls_by_refresh_are_told() -> None:
    """With how long each took."""
    seen = Recorder()
    world = World(saying(PENDING), observers=Observers([seen]))
    export = await world.exports.create(uuid4())
    await export.refresh()
    (poll,) = seen.infos("job_polled")
    assert ("pending", 1, "request-2") == (poll.status, poll.polls, poll.request_id)


async def test_webhooks_that_are_refused_or_unknown() -> None:
    """They are told with their status, and without an event while the sender is unverified."""
    seen = Recorder()
    receiver = WebhookReceiver(SECRET, observers=[seen])
    await receiver.handle(export_body(), path="wrong")
    await receiver.handle(b"{", path=SECRET)
    await receiver.handle(b'{"event": "other"}', path=SECRET)
    answers = [(info.event, info.status) for info in seen.infos("webhook_answered")]
    assert [(None, 404), (None, 400), ("unknown", 202)] == answers
    numbers = [info.webhook for info in seen.infos("webhook_received")]
    assert numbers == [info.webhook for info in seen.infos("webhook_answered")]


async def test_requests_that_are_refused_unread_are_told() -> None:
    """However the receiver is mounted: here by a method that is not allowed, and by a compressed body."""
    seen = Recorder()
    receiver = WebhookReceiver(SECRET, observers=[seen])
    app = web.Application()
    receiver.setup(app)
    servers = [aiohttp_server(app), uvicorn_server(receiver.asgi)]
    compressed = {"Content-Encoding": "gzip"}
    async with aiohttp.ClientSession() as session:
        for server in servers:
            async with server as port:
                url = f"http://127.0.0.1:{port}/avaturn/{SECRET}"
                assert 405 == (await session.get(url)).status
                assert 415 == (await session.post(url, data=b"", headers=compressed)).status
    for method in ("GET", "POST"):
        environ = {"REQUEST_METHOD": method, "HTTP_CONTENT_ENCODING": "gzip"}
        await asyncio.to_thread(receiver.wsgi, environ, lambda *_: None)
        await asyncio.to_thread(receiver.aws_lambda, {"httpMethod": method, "headers": compressed})
    statuses = [info.status for info in seen.infos("webhook_answered")]
    assert ([405, 415] * 2, [405, 405, 415, 415]) == (statuses[:4], statuses[4:])
    assert len(seen.infos("webhook_received")) == len(statuses)


class Plain(MemoryMailbox):
    """A mailbox of a user's own, which knows of no trace contexts."""

    async def deliver(self, event: Any, *, authenticated: bool = True) -> None:  # type: ignore[override]
        """Deliver."""
        await super().deliver(event, authenticated=authenticated)


@pytest.mark.parametrize(
    ("header", "mailbox", "expected"),
    [
        (TRACEPARENT, MemoryMailbox(), TRACEPARENT),
        (TRACEPARENT + "0", MemoryMailbox(), None),
        ("nonsense", MemoryMailbox(), None),
        (None, MemoryMailbox(), None),
        (TRACEPARENT, Plain(), None),
    ],
    ids=["valid", "too-long", "malformed", "missing", "not-kept"],
)
@pytest.mark.parametrize("name", ["traceparent", "Traceparent"])
async def test_the_trace_context_of_a_webhook_is_kept(
    name: str, header: str | None, mailbox: Any, expected: str | None
) -> None:
    """Of its header, if it is valid and the mailbox takes it; without any observer."""
    receiver = WebhookReceiver(SECRET, mailbox=mailbox)
    headers = {} if header is None else {name: header}
    assert 200 == (await receiver.handle(export_body(), path=SECRET, headers=headers)).status
    event = export_event()
    assert expected == (await mailbox.wait(f"export:{event.avatar_id}", "")).traceparent


class Unbearable:
    """Neither true nor false, nor text."""

    def __bool__(self) -> bool:
        raise ValueError

    __str__ = __repr__ = __bool__  # type: ignore[assignment]


@pytest.mark.parametrize(
    "named", [5, "nonsense", "", TRACEPARENT + "0", Unbearable()], ids=["number", "text", "empty", "long", "odd"]
)
async def test_an_observer_names_no_trace_context(named: Any) -> None:
    """What is none is ignored: that of the request is kept, and the webhook is accepted."""

    class Naming(Observer):
        def traceparent(self) -> Any:
            return named

    receiver, event = WebhookReceiver(SECRET, observers=[Naming()]), export_event()
    headers = {"traceparent": TRACEPARENT}
    assert 200 == (await receiver.handle(export_body(), path=SECRET, headers=headers)).status
    assert TRACEPARENT == (await receiver.mailbox.wait(f"export:{event.avatar_id}", "")).traceparent


class Unlucky(MemoryMailbox):
    """A mailbox whose store fails while `failing`."""

    failing = True

    async def deliver(self, event: Any, **options: Any) -> None:
        """Fail or deliver."""
        if self.failing:
            raise OSError("no store")
        await super().deliver(event, **options)

    async def position(self, key: str) -> str:
        """Fail or answer."""
        if self.failing:
            raise OSError("no store")
        return await super().position(key)


async def test_outages_begin_and_end_once() -> None:
    """For the receiver and for the client."""
    seen, heard = Recorder(), Recorder()
    box = Unlucky()
    receiver = WebhookReceiver(SECRET, mailbox=box, observers=[heard])
    world = World(saying(PENDING), mailbox=box, observers=Observers([seen]))
    for failing in (True, True, False, False, True):
        box.failing = failing
        await receiver.handle(export_body(), path=SECRET)
        await world.exports.create(uuid4())
    for observer in (seen, heard):
        assert ["mailbox_failed", "mailbox_recovered", "mailbox_failed"] == observer.names("mailbox")
        assert ("Unlucky", "OSError") == (
            *(observer.infos("mailbox_failed")[0].mailbox, observer.infos("mailbox_failed")[0].error),
        )


async def test_batches_and_their_items(emulator: Emulator) -> None:
    """A start, each item, and an end with the numbers."""
    seen = Recorder()
    good = await make_avatars(emulator, 2)
    async with AvaturnClient(emulator.token, base_url=emulator.url, polling=QUICK, observers=[seen]) as client:
        async with client.exports.batch([*good, "no-uuid"]) as batch:
            await batch.run()
    assert ["batch_started", *["batch_item_ended"] * 3, "batch_ended"] == seen.names("batch")
    assert {good[0]: None, good[1]: None, "no-uuid": "ValueError"} == {
        info.item: info.error for info in seen.infos("batch_item_ended")
    }
    (ended,) = seen.infos("batch_ended")
    assert (2, 1, None) == (ended.done, ended.failed, ended.error)
    assert 1 == len({info.batch for name, info in seen.told if name.startswith("batch")})


async def test_a_batch_whose_input_raises_says_what() -> None:
    """The error's own name, and not that of a group."""
    seen = Recorder()

    def broken() -> Any:
        raise LookupError("no more")
        yield

    async with AvaturnClient("t", base_url="http://127.0.0.1:9", observers=[seen]) as client:
        async with client.exports.batch(broken()) as batch:
            with pytest.raises(LookupError):
                await batch.run()
    assert "LookupError" == seen.infos("batch_ended")[0].error
