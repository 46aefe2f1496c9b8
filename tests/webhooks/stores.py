"""What tests of mailboxes in Redis and Postgres share: programs, logs, and the outages that both must survive."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import shutil
import socket
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

import avaturn_async
from avaturn_async import (
    AvaturnClient,
    Delivery,
    Event,
    ExternalAvatarCustomization,
    Mailbox,
    Photos,
    PollPolicy,
    RenderReadyWebhook,
    TransportError,
    WebhookReceiver,
)
from avaturn_async.emulator import Emulator, Faults, Timing
from avaturn_async.webhooks import key_of

from ..chaos.kit import make_avatars
from ..observe.kit import TRACEPARENT, Recorder
from ..servers import listening
from .samples import SECRET, avatar, export_body, export_event, render_event

PACKAGE = Path(avaturn_async.__file__).parent
EXPORT = export_event()
KEY = key_of(EXPORT)
QUICK = PollPolicy(first=0.02, factor=1.5, cap=0.1, first_with_webhooks=0.02)
NEVER = PollPolicy(first=600, cap=600, first_with_webhooks=600)


def need(program: str, variable: str, *, folder: str = "") -> str:
    """Return the path of a program; without it the test is skipped, or fails if `variable` is 1."""
    found = sorted(map(str, Path("/").glob(f"{folder}/{program}")), reverse=True) if folder else []
    path = found[0] if found else shutil.which(program)
    if path is None:
        if os.environ.get(variable) == "1":
            pytest.fail(f"{program} is not on PATH")
        pytest.skip(f"{program} is not on PATH")
    return path


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def stored(mailbox: Mailbox, event: Event) -> Delivery:
    """Return the delivery that is stored under the key of `event`."""
    return await mailbox.wait(key_of(event), "")


class Heard(logging.Handler):
    """The lines that the mailboxes log, as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: asyncio.Queue[str] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self._loop.call_soon_threadsafe(self.lines.put_nowait, f"{record.levelname} {record.getMessage()}")

    async def outage(self, kind: str = "") -> None:
        """Wait for the warning that an outage began, of a kind of error."""
        line = await self.lines.get()
        assert line.startswith("WARNING the mailbox's ")
        assert f"can't be used ({kind}" in line

    async def healed(self) -> None:
        """Wait for the line that it is over; nothing else was logged."""
        line = await self.lines.get()
        assert line.startswith("INFO the mailbox's ")
        assert line.endswith(" can be used again")


@pytest.fixture
async def heard() -> AsyncIterator[Heard]:
    """Listen to what the mailboxes log."""
    handler, logger = Heard(), logging.getLogger("avaturn_async.webhooks")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


class Server(Protocol):
    """A server that can be killed, paused and restarted."""

    port: int

    def kill(self) -> None:
        """Kill it, as the kernel would."""

    async def restart(self) -> None:
        """Start it again."""

    def pause(self) -> None:
        """Stop it in the middle: its sockets stay open and nothing answers."""

    def go_on(self) -> None:
        """Let it go on."""

    def disconnect_listeners(self) -> int:
        """End the connections that are subscribed, and return how many there were."""

    def connections(self) -> int:
        """Return how many clients are connected, besides the one that asks."""


MakeMailbox = Callable[..., Awaitable[Any]]


@asynccontextmanager
async def hanging_up(port: int) -> AsyncIterator[asyncio.Queue[None]]:
    """Accept connections and close them at once; each of them is an item of the queue."""
    attempts: asyncio.Queue[None] = asyncio.Queue()

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.put_nowait(None)
        writer.close()

    async with listening(await asyncio.start_server(hang_up, "127.0.0.1", port)):
        yield attempts


async def count_down(attempts: asyncio.Queue[None], count: int) -> None:
    """Wait for so many attempts."""
    for _ in range(count):
        await attempts.get()


def shown(error: BaseException) -> str:
    """Return an error and the locals of the package's frames, as a traceback printer would show them."""
    caught = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [frame for frame in caught.stack if frame.filename.startswith(str(PACKAGE))]
    return f"{error!r} {error} {error.__cause__!r} {error.__context__!r} {[frame.locals for frame in frames]}"


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what any part of the package warned of."""
    ours = [record for record in caplog.records if record.name.startswith("avaturn_async")]
    return [record.getMessage() for record in ours if record.levelno >= logging.WARNING]


def mailbox_tasks() -> set[asyncio.Task[Any]]:
    """Return the tasks that serve waits."""
    return {task for task in asyncio.all_tasks() if task.get_name() == "avaturn-async mailbox"}


class ClaimContract:
    """What must hold of claims; the subclass has `kind`, `url(server)` and `make_mailbox(**options)`."""

    kind: str

    def url(self, server: Any) -> str:
        """Return the url of the store."""
        raise NotImplementedError

    async def test_a_name_has_one_owner(self, make_mailbox: MakeMailbox) -> None:
        """The first one that claimed it keeps it, in every process; other names are others'."""
        first, second = await make_mailbox(), await make_mailbox()
        claims = [mailbox.claim("a", owner, 900) for mailbox, owner in ((first, "x"), (second, "y"), (first, "z"))]
        assert 1 == sum(await asyncio.gather(*claims))
        assert await first.claim("b", "x", 900)
        assert [False, True] == [await second.claim("b", "y", 900), await second.claim("b", "x", 900)]

    async def test_a_claim_ends(self, make_mailbox: MakeMailbox) -> None:
        """A process that died holds up others for so long, no longer."""
        mailbox = await make_mailbox()
        assert await mailbox.claim("a", "x", 0.05)
        async with asyncio.timeout(20):
            while not await mailbox.claim("a", "y", 900):
                await asyncio.sleep(0.01)
        assert not await mailbox.claim("a", "x", 900)

    async def test_processes_that_resume_one_token_customize_once(self, server: Server) -> None:
        """Although each sees that the avatar has no customization before another one has set it."""
        command = [sys.executable, "-m", "tests.webhooks.customizer", self.kind, self.url(server)]
        async with Emulator(timing=Timing(scan=0), faults=Faults(slow=0.3)) as avaturn:
            async with AvaturnClient(avaturn.token, base_url=avaturn.url) as client:
                user = await client.users.create()
                wanted = ExternalAvatarCustomization(skin_tone_correction=3)
                jpeg = b"\xff\xd8\xff\xda a face \xff\xd9"
                scan = await client.avatars.create_from_photos(
                    user.id, Photos(jpeg, jpeg, jpeg, body_type="male"), customization=wanted
                )
            arguments = [*command, avaturn.url, avaturn.token, scan.resume_token]
            pipe = asyncio.subprocess.PIPE
            workers = [await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe) for _ in range(3)]
            for worker in workers:
                assert worker.stdout is not None
                assert b"there\n" == await worker.stdout.readline()
            ends = await asyncio.gather(*(worker.communicate(b"go\n") for worker in workers))
            assert [b"done\n"] * 3 == [output for output, _ in ends]
            assert 1 == avaturn.counts["set_customization"]


class OutageContract:
    """What must hold while the server is away; the subclass has `server` and `make_mailbox(**options)`."""

    async def test_down_at_first(self, server: Server, make_mailbox: MakeMailbox, heard: Heard) -> None:
        """A wait stays pending, one warning says why, and it recovers."""
        server.kill()
        mailbox = await make_mailbox()
        waiting = mailbox.wait(KEY, "")
        await heard.outage()
        assert not waiting.done()
        await server.restart()
        await heard.healed()
        await mailbox.deliver(EXPORT)
        assert EXPORT == (await waiting).event

    async def test_down_for_good(self, server: Server, make_mailbox: MakeMailbox, heard: Heard) -> None:
        """It is tried again and again without another line, and closing the mailbox ends that."""
        server.kill()
        async with hanging_up(server.port) as attempts:
            mailbox = await make_mailbox()
            waiting = mailbox.wait(KEY, "")
            await count_down(attempts, 6)
            await heard.outage()
            assert heard.lines.empty()
            assert not waiting.done()
            await mailbox.aclose()
        assert waiting.done()
        assert set() == mailbox_tasks()

    async def test_calls_while_it_is_down(self, server: Server, make_mailbox: MakeMailbox) -> None:
        """A read and a delivery raise an error of ours that carries nothing of the driver's."""
        server.kill()
        mailbox = await make_mailbox()
        for call in (mailbox.position(KEY), mailbox.deliver(EXPORT)):
            with pytest.raises(TransportError, match=r"the mailbox's \w+ can't be used \(\w+\)") as caught:
                await call
            assert (None, None) == (caught.value.__cause__, caught.value.__context__)

    async def test_tracebacks_show_no_secret(self, server: Server, make_mailbox: MakeMailbox) -> None:
        """Neither the password of the url nor the query of a signed link, also with all locals."""
        server.kill()
        mailbox = await make_mailbox(user="ann", password="hunter2")
        signed = export_event(export_url="https://example.com/a.glb?signature=s1gned")
        for call in (mailbox.position(KEY), mailbox.deliver(signed)):
            with pytest.raises(TransportError) as caught:
                await call
            assert "Mailbox" in shown(caught.value)
            assert not [each for each in ("hunter2", "s1gned") if each in shown(caught.value)]

    async def test_hanging_server_is_given_up(self, server: Server, make_mailbox: MakeMailbox, heard: Heard) -> None:
        """Calls time out, and work again as soon as the server does."""
        mailbox = await make_mailbox(timeout=1)
        await mailbox.position(KEY)
        server.pause()
        for call in (mailbox.position(KEY), mailbox.deliver(EXPORT)):
            with pytest.raises(TransportError, match="TimeoutError"):
                await call
        server.go_on()
        await heard.outage("TimeoutError")
        mailbox = await make_mailbox()
        await mailbox.deliver(EXPORT)
        assert EXPORT == (await stored(mailbox, EXPORT)).event

    async def test_killed_and_restarted(self, server: Server, make_mailbox: MakeMailbox, heard: Heard) -> None:
        """Waits outlive the server, each outage is logged once, and later deliveries arrive."""
        mailbox, seen = await make_mailbox(), Recorder()
        receiver = WebhookReceiver(SECRET, mailbox=mailbox, observers=[seen])
        client = AvaturnClient("token", webhooks=receiver, observers=[seen])
        events = [export_event(avatar(number)) for number in range(3)]
        waits = [mailbox.wait(key_of(event), "") for event in events]
        for number, (event, waiting) in enumerate(zip(events, waits, strict=True)):
            if number:
                server.kill()
                await heard.outage()
                await server.restart()
                await heard.healed()
            await mailbox.deliver(event)
            assert event == (await waiting).event
        assert heard.lines.empty()
        assert ["mailbox_failed", "mailbox_recovered"] * 2 == seen.names()  # once, though two tell this observer
        assert type(mailbox).__name__ == seen.infos("mailbox_failed")[0].mailbox
        await client.aclose()

    async def test_half_open_connection(self, server: Server, make_mailbox: MakeMailbox, heard: Heard) -> None:
        """A server that neither answers nor hangs up is noticed by its silence."""
        mailbox = await make_mailbox(ping_every=0.1, timeout=1)
        waiting = mailbox.wait(KEY, "")
        await mailbox.deliver(render_event())
        await stored(mailbox, render_event())
        server.pause()
        await heard.outage("TimeoutError")
        server.go_on()
        await heard.healed()
        await mailbox.deliver(EXPORT)
        assert EXPORT == (await waiting).event

    @pytest.mark.slow
    async def test_listeners_are_cut_off_while_events_arrive(self, server: Server, make_mailbox: MakeMailbox) -> None:
        """300 of 300 events arrive though each tenth one finds the subscription gone."""
        sender, mailbox = await make_mailbox(), await make_mailbox()
        events = [export_event(avatar(number)) for number in range(300)]
        waits = [mailbox.wait(key_of(event), "") for event in events]
        cut = 0
        for number, event in enumerate(events):
            if number % 10 == 0:
                cut += server.disconnect_listeners()
            await sender.deliver(event)
        assert events == [delivery.event for delivery in await asyncio.gather(*waits)]
        assert cut

    @pytest.mark.slow
    async def test_burst(self, make_mailbox: MakeMailbox) -> None:
        """2,000 events at once each resolve their wait in another mailbox."""
        sender, mailbox = await make_mailbox(), await make_mailbox()
        events = [export_event(avatar(number)) for number in range(2_000)]
        waits = [mailbox.wait(key_of(event), "") for event in events]
        await asyncio.gather(*map(sender.deliver, events))
        assert events == [delivery.event for delivery in await asyncio.gather(*waits)]

    async def test_receiver_refuses_what_it_can_not_store(
        self, server: Server, make_mailbox: MakeMailbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        """503 with Retry-After while the server is down, one warning in all, and 200 afterwards."""
        receiver = WebhookReceiver(SECRET, mailbox=await make_mailbox())
        server.kill()
        replies = [await receiver.handle(export_body(), path=f"/{SECRET}") for _ in range(5)]
        replies += await asyncio.gather(*(receiver.handle(export_body(), path=f"/{SECRET}") for _ in range(15)))
        assert {(503, "5")} == {(reply.status, reply.headers["Retry-After"]) for reply in replies}
        assert 1 == len(warnings(caplog))
        await server.restart()
        assert 200 == (await receiver.handle(export_body(), path=f"/{SECRET}")).status

    async def test_waits_end_by_polls(
        self, server: Server, make_mailbox: MakeMailbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        """20 exports that are awaited when the server dies, and 20 created later, end by polls and one warning."""
        async with Emulator(timing=Timing(export=0.3), faults=Faults(webhook_loss=1)) as avaturn:
            mailbox = await make_mailbox()
            async with AvaturnClient(avaturn.token, base_url=avaturn.url, webhooks=mailbox, polling=QUICK) as client:
                avatars = await make_avatars(client, avaturn, 40)
                first = [await client.exports.create(each) for each in avatars[:20]]
                waits = [asyncio.ensure_future(each.wait()) for each in first]
                await asyncio.sleep(0)
                server.kill()
                later = await asyncio.gather(*map(client.exports.create_and_wait, avatars[20:]))
                assert {"poll"} == {model.resolved_by for model in [*later, *await asyncio.gather(*waits)]}
        (line,) = warnings(caplog)
        assert line.endswith("waits go on by polling")
        await server.restart()

    async def test_each_outage_is_logged_once(
        self, server: Server, make_mailbox: MakeMailbox, heard: Heard, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Two outages are two warnings, whatever is read, awaited and delivered before, within and after them."""
        mailbox = await make_mailbox()
        waits = [mailbox.wait(key_of(export_event(avatar(number))), "") for number in range(20)]
        await mailbox.deliver(render_event())
        await stored(mailbox, render_event())
        for number in (1, 2):
            server.kill()
            await heard.outage()
            calls = [mailbox.position(KEY) for _ in range(10)] + [mailbox.deliver(EXPORT) for _ in range(10)]
            assert {TransportError} == {type(each) for each in await asyncio.gather(*calls, return_exceptions=True)}
            await server.restart()
            await mailbox.position(KEY)
            await heard.healed()
            assert number == len(warnings(caplog))
        for each in waits:
            each.cancel()

    async def test_mailbox_that_only_reads_logs_outages(
        self, server: Server, make_mailbox: MakeMailbox, heard: Heard
    ) -> None:
        """Without waits, failing reads are one warning, and one that succeeds is the end."""
        mailbox = await make_mailbox()
        server.kill()
        for _ in range(3):
            with pytest.raises(TransportError):
                await mailbox.position(KEY)
        await heard.outage()
        await server.restart()
        await mailbox.position(KEY)
        await heard.healed()
        assert heard.lines.empty()

    async def test_waits_that_end_in_an_outage(self, server: Server, make_mailbox: MakeMailbox, heard: Heard) -> None:
        """The same outage is not logged again, and the next one is."""
        mailbox = await make_mailbox()
        for _ in range(2):
            waiting = mailbox.wait(KEY, "")
            server.kill()
            await heard.outage()
            waiting.cancel()
            while mailbox_tasks():
                await asyncio.sleep(0.002)
            with pytest.raises(TransportError):
                await mailbox.position(KEY)
            assert heard.lines.empty()
            await server.restart()
            await mailbox.position(KEY)
            await heard.healed()

    async def test_short_lived_loops(self, server: Server, make_mailbox: MakeMailbox) -> None:
        """Deliveries by `asyncio.run`, as in WSGI apps, leave no connection behind, one after another or at once."""
        mailbox, events = await make_mailbox(), [export_event(avatar(number)) for number in range(6)]

        def deliver(event: Event) -> None:
            asyncio.run(mailbox.deliver(event))

        for event in events[:3]:
            await asyncio.to_thread(deliver, event)
        await asyncio.gather(*(asyncio.to_thread(deliver, event) for event in events[3:]))
        gc.collect()
        while server.connections():  # servers notice the end of a connection a little later
            await asyncio.sleep(0.002)
        assert events == [(await stored(mailbox, event)).event for event in events]

    async def test_closed_mailbox_leaves_nothing(self, server: Server, make_mailbox: MakeMailbox) -> None:
        """Closed in the middle of an outage, or before anything, it leaves neither task nor connection."""
        await (await make_mailbox()).aclose()
        mailbox = await make_mailbox()
        waiting = mailbox.wait(KEY, "")
        server.kill()
        await asyncio.sleep(0)
        await mailbox.aclose()
        assert "ClientClosedError" == type(waiting.exception()).__name__
        assert set() == mailbox_tasks()
        await server.restart()

    @pytest.mark.slow
    async def test_waits_outlive_a_server_that_keeps_dying(self, server: Server, make_mailbox: MakeMailbox) -> None:
        """50 exports without webhooks all end by polls."""
        async with Emulator(timing=Timing(export=0.2), faults=Faults(webhook_loss=1)) as avaturn:
            mailbox = await make_mailbox()
            async with AvaturnClient(avaturn.token, base_url=avaturn.url, webhooks=mailbox, polling=QUICK) as client:
                avatars = await make_avatars(client, avaturn, 50)
                waits = asyncio.gather(*map(client.exports.create_and_wait, avatars))
                while not waits.done():
                    server.kill()
                    await server.restart()
                assert {"poll"} == {model.resolved_by for model in await waits}

    async def test_render_is_resumed_in_another_process(self, make_mailbox: MakeMailbox) -> None:
        """The event came while nobody waited: the resume token finds it through another mailbox."""
        receiver = WebhookReceiver(SECRET, mailbox=await make_mailbox())
        async with Emulator(timing=Timing(render=0.05)) as avaturn, receiver.serve() as hook:
            avaturn.webhook_url = hook.url
            at: dict[str, Any] = {"base_url": avaturn.url, "polling": NEVER}
            async with AvaturnClient(avaturn.token, webhooks=await make_mailbox(), **at) as client:
                (avatar_id,) = await make_avatars(client, avaturn, 1)
                token = (await client.renders.create(avatar_id)).resume_token
            await avaturn.settled()
            async with AvaturnClient(avaturn.token, webhooks=await make_mailbox(), **at) as client:
                render = await client.renders.resume(token)
                assert ("webhook", avatar_id) == (render.resolved_by, render.avatar_id)

    async def test_unusable_rows_are_logged_once(
        self, make_mailbox: MakeMailbox, put: Callable[[str, str], Any], heard: Heard
    ) -> None:
        """A row that this release does not know concerns its own key alone, until a delivery replaces it."""
        mailbox = await make_mailbox(reread_every=0.05)
        event = export_event(avatar(1))
        put(KEY, '{"v": 2, "id": "x"}')
        waiting, other = mailbox.wait(KEY, ""), mailbox.wait(key_of(event), "")
        assert "" == await mailbox.position(KEY)
        await mailbox.deliver(event)
        assert event == (await other).event
        assert f"can't use the row of {KEY} (unknown format)" in await heard.lines.get()
        for _ in range(3):
            assert "" == await mailbox.position(KEY)
        await mailbox.deliver(EXPORT)
        assert EXPORT == (await waiting).event
        assert heard.lines.empty()

    async def test_few_of_many_unusable_rows_are_logged(
        self, make_mailbox: MakeMailbox, put: Callable[[str, str], Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        """20 lines are enough to find out."""
        mailbox = await make_mailbox()
        for number in range(30):
            put(key_of(export_event(avatar(number))), "?")
            assert "" == await mailbox.position(key_of(export_event(avatar(number))))
        assert 20 == len(warnings(caplog))

    @pytest.mark.parametrize(
        "row",
        [
            "",
            "nonsense",
            "[]",
            "{}",
            "7",
            '{"v":1,"id":"1","authenticated":true,"event":"{}"}',
            '{"v":1,"id":"1","authenticated":true,"event":"{\\"event\\":\\"other\\"}"}',
            '{"v":1,"id":7,"authenticated":true,"event":"%s"}',
            '{"v":1,"id":"1","authenticated":1,"event":"%s"}',
            '{"v":2,"id":"1","authenticated":true,"event":"%s"}',
            '{"v":1,"id":"1","authenticated":true,"event":"OTHER"}',
            "[" * 100_000,
        ],
        ids=[
            "empty",
            "text",
            "list",
            "object",
            "number",
            "no-event",
            "unknown-event",
            "id",
            "flag",
            "version",
            "key",
            "deep",
        ],
    )
    async def test_unusable_row_is_like_none(
        self, make_mailbox: MakeMailbox, put: Callable[[str, str], Any], row: str
    ) -> None:
        """It has no position, and a delivery replaces it."""
        mailbox = await make_mailbox()
        quoted = export_body().decode().replace('"', '\\"')
        other = export_body(avatar(9)).decode().replace('"', '\\"')
        put(KEY, row.replace("%s", quoted).replace("OTHER", other))
        assert "" == await mailbox.position(KEY)
        waiting = mailbox.wait(KEY, "")
        await mailbox.deliver(EXPORT)
        assert EXPORT == (await waiting).event

    async def test_a_trace_context_is_kept(self, make_mailbox: MakeMailbox) -> None:
        """A delivery has the trace context with which it was stored, and none where there was none."""
        mailbox = await make_mailbox()
        await mailbox.deliver(EXPORT, traceparent=TRACEPARENT)
        assert TRACEPARENT == (await stored(mailbox, EXPORT)).traceparent
        await mailbox.deliver(export_event(avatar(2)))
        assert (await stored(mailbox, export_event(avatar(2)))).traceparent is None

    async def test_rows_may_grow(self, make_mailbox: MakeMailbox, put: Callable[[str, str], Any]) -> None:
        """Fields that a later release adds are ignored, and so is a malformed trace context."""
        quoted = export_body().decode().replace('"', '\\"')
        put(KEY, f'{{"v":1,"id":"1","authenticated":true,"event":"{quoted}","traceparent":"00-1-2-01","later":[]}}')
        assert Delivery("1", EXPORT) == await stored(await make_mailbox(), EXPORT)

    async def test_lost_notifications_cost_only_time(
        self, make_mailbox: MakeMailbox, put: Callable[[str, str], Any]
    ) -> None:
        """A row that nobody is notified of is read every `reread_every` seconds."""
        mailbox = await make_mailbox(reread_every=0.05)
        waiting = mailbox.wait(KEY, "")
        await mailbox.deliver(render_event())
        await stored(mailbox, render_event())
        quoted = export_body().decode().replace('"', '\\"')
        put(KEY, f'{{"v":1,"id":"1","authenticated":true,"event":"{quoted}"}}')
        assert Delivery("1", EXPORT) == await waiting

    @pytest.mark.parametrize("make", [export_event, render_event], ids=["export", "render"])
    async def test_unauthenticated_events_are_stripped(
        self, make_mailbox: MakeMailbox, make: Callable[..., Any]
    ) -> None:
        """Unknown fields and long texts of an unverified sender are not stored, those of a verified one are."""
        mailbox, url = await make_mailbox(), "render_url" if make is render_event else "export_url"
        heavy = make(user_id="\x00" * 128, extra={"new": [[]] * 10_000}, **{url: "u" * 60_000})
        await mailbox.deliver(heavy, authenticated=False)
        event = (await stored(mailbox, heavy)).event
        assert not isinstance(event, RenderReadyWebhook) or event.avatar_id == heavy.avatar_id
        assert ({}, "") == (event.extra, getattr(event, url))
        await mailbox.deliver(heavy)
        assert heavy == (await stored(mailbox, heavy)).event

    async def test_no_connection_without_waits(self, make_mailbox: MakeMailbox) -> None:
        """The subscription ends with the last wait, and the next wait begins another."""
        mailbox = await make_mailbox()
        for _ in range(10):
            position = await mailbox.position(KEY)
            mailbox.wait(KEY, position).cancel()
            waiting = mailbox.wait(KEY, position)
            await mailbox.deliver(EXPORT)
            assert position != (await waiting).id
        while mailbox_tasks():
            await asyncio.sleep(0.002)

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
    async def test_eager_tasks(self, server: Server, make_mailbox: MakeMailbox, heard: Heard) -> None:
        """Tasks that begin at once make no difference, also in an outage."""
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        mailbox = await make_mailbox()
        for number in range(3):
            waiting = mailbox.wait(key_of(export_event(avatar(number))), "")
            await mailbox.deliver(export_event(avatar(number)))
            await waiting
        waiting = mailbox.wait(KEY, "" if await mailbox.position(KEY) == "" else await mailbox.position(KEY))
        server.kill()
        await heard.outage()
        await server.restart()
        await heard.healed()
        await mailbox.deliver(EXPORT)
        assert EXPORT == (await waiting).event
