"""Starting, stopping, and what an emulator shows of itself."""

import asyncio
import contextlib
import socket
import threading

import aiohttp
import pytest

from avaturn_async.emulator import Emulator, EmulatorThread, Faults, Timing
from avaturn_async.emulator.jobs import Scheduler
from avaturn_async.emulator.validation import contract

from .kit import AT_ONCE, NEVER, NOBODY, Caller, Receiver


async def test_the_document_is_the_contract_of_this_server(emulator: Emulator, caller: Caller) -> None:
    """It differs in the server's url and the known bodies alone."""
    async with caller.anonymous.get(f"{emulator.url}/openapi.json") as response:
        document = await response.json()
    assert document["servers"] == [{"url": emulator.url}]
    assert document["components"]["schemas"]["AvatarBody"].pop("enum") == [*emulator.catalogue.bodies]
    assert document | {"servers": contract()["servers"]} == contract()


async def test_leaving_ends_everything() -> None:
    """With jobs, requests and idle connections open, no task remains and the port is closed."""
    before = asyncio.all_tasks()
    async with Emulator(timing=AT_ONCE, models="small") as emulator, Caller(emulator) as caller, Receiver() as receiver:
        emulator.webhook_url = receiver.url
        avatar_id = await caller.dressed()
        emulator.timing = NEVER
        await caller.export(avatar_id)
        emulator.faults = Faults(slow=3600)
        slow = asyncio.create_task(caller.new_user())
        while emulator.counts["create_user"] < 2:
            await asyncio.sleep(0)
        await emulator.__aexit__(None, None, None)
        with pytest.raises((aiohttp.ClientConnectionError, ConnectionError)):
            await slow
        with pytest.raises(aiohttp.ClientConnectorError):
            await caller.fetch(emulator.url)
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("turns", range(7))
async def test_a_connection_that_comes_with_the_end_is_closed(turns: int) -> None:
    """Whichever turn of the loop accepts it: nobody waits for an emulator that is gone."""
    async with Emulator() as emulator:
        sock = socket.create_connection(("127.0.0.1", int(emulator.url.rpartition(":")[2])))
        for _ in range(turns):
            await asyncio.sleep(0)
    with sock:
        sock.setblocking(False)
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionResetError):
                assert b"" == await asyncio.get_running_loop().sock_recv(sock, 1)


@pytest.mark.parametrize("turns", range(1, 9))
async def test_an_end_that_is_cancelled_closes_connections(turns: int) -> None:
    """In whichever turn of the loop."""
    emulator, leave = Emulator(), asyncio.Event()

    async def run() -> None:
        async with emulator:
            started.set()
            await leave.wait()

    started = asyncio.Event()
    running = asyncio.create_task(run())
    await started.wait()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(emulator.url.rpartition(":")[2]))
    leave.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionResetError):
            assert b"" == await reader.read(1)
    writer.close()


def test_no_connection_outlives_a_thread() -> None:
    """Clients that connect while it stops see their connections end, all of them."""
    for _ in range(5):
        opened: list[socket.socket] = []
        with EmulatorThread(Emulator()) as emulator:
            address = ("127.0.0.1", int(emulator.url.rpartition(":")[2]))

            def connect(address: tuple[str, int] = address, opened: list[socket.socket] = opened) -> None:
                with contextlib.suppress(OSError):
                    for _ in range(100):
                        opened.append(socket.create_connection(address, 20))

            threads = [threading.Thread(target=connect) for _ in range(3)]
            for thread in threads:
                thread.start()
            while not opened:
                threads[0].join(0.001)
        for thread in threads:
            thread.join()
        for sock in opened:
            with sock, contextlib.suppress(ConnectionResetError):
                assert b"" == sock.recv(1)


async def test_an_emulator_can_run_again() -> None:
    """It remembers its users, but not its unfinished jobs."""
    emulator = Emulator(timing=NEVER)
    with pytest.raises(RuntimeError, match="async with"):
        _ = emulator.url
    async with emulator, Caller(emulator) as caller:
        user = await caller.new_user()
        with pytest.raises(RuntimeError, match="running"):
            await emulator.__aenter__()
    with pytest.raises(RuntimeError, match="async with"):
        await emulator.settled()
    async with emulator, Caller(emulator) as caller:
        assert await caller.call("GET", f"users/{user}/avatars") == []


async def test_a_port_that_is_taken_is_an_os_error(emulator: Emulator) -> None:
    """The error is raised, and leaves nothing behind."""
    port = int(emulator.url.rpartition(":")[2])
    with pytest.raises(OSError, match="address already in use"):
        async with Emulator(port=port):
            pass


@pytest.mark.parametrize(
    ("host", "start"),
    [
        ("127.0.0.1", "http://127.0.0.1:"),
        ("0.0.0.0", "http://127.0.0.1:"),
        ("::1", "http://[::1]:"),
        ("::", "http://[::1]:"),
    ],
)
async def test_the_url_can_be_called(host: str, start: str) -> None:
    """Also if the emulator listens at all addresses."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(
                socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
            )
        except OSError:
            pytest.skip(f"{host} can't be listened at on this machine")
    async with Emulator(host=host) as emulator, Caller(emulator) as caller:
        assert emulator.url.startswith(start)
        assert emulator.url in repr(emulator)
        await caller.new_user()


async def test_urls_can_begin_with_another_address(caller: Caller) -> None:
    """Behind a proxy or in a container the emulator has another name."""
    async with Emulator(public_url="http://avaturn.test/") as emulator:
        assert emulator.url == "http://avaturn.test"


async def test_requests_are_counted_and_logged(emulator: Emulator, caller: Caller) -> None:
    """Other requests are logged without an operation."""
    await caller.new_user()
    await caller.answer("POST", "exports/new", params={"avatar_id": NOBODY})
    await caller.fetch(f"{emulator.url}/elsewhere")
    assert [(r.method, r.path, r.query, r.operation, r.status) for r in emulator.requests] == [
        ("POST", "/api/v1/users/new", "", "create_user", 200),
        ("POST", "/api/v1/exports/new", f"avatar_id={NOBODY}", "create_export", 404),
        ("GET", "/elsewhere", "", None, 404),
    ]
    assert emulator.counts == {"create_user": 1, "create_export": 1}


async def test_the_scheduler_calls_in_order_of_time() -> None:
    """Calls after one that raises still run."""
    scheduler, seen = Scheduler(), []
    asyncio.get_running_loop().set_exception_handler(lambda *_: seen.append("raised"))
    scheduler.after(0.02, lambda: seen.append("late"))
    scheduler.after(0, lambda: 1 / 0)
    scheduler.after(0.01, lambda: seen.append("early"))
    await scheduler.idle()
    assert seen == ["raised", "early", "late"]


async def test_what_the_scheduler_cancels_is_not_called() -> None:
    """Not even if its time has come, and no task or timer remains."""
    scheduler, seen = Scheduler(), []
    before = asyncio.all_tasks()
    scheduler.after(0, lambda: seen.append("at once"))
    scheduler.after(3600, lambda: seen.append("late"))
    assert before == asyncio.all_tasks()
    await scheduler.aclose()
    await asyncio.sleep(0.01)
    assert [] == seen
    await scheduler.idle()


async def test_jitter_makes_jobs_take_longer(caller: Caller, emulator: Emulator) -> None:
    """With an hour of it, an export of no duration is not ready."""
    avatar_id = await caller.dressed()
    emulator.timing = Timing(export=0, jitter=3600)
    await caller.export(avatar_id)
    assert (await caller.export(avatar_id))["status"] == "pending"


def test_an_emulator_in_a_thread_can_be_used_without_a_loop() -> None:
    """Everything can be read and set, and no thread remains."""
    threads = threading.active_count()

    async def open_session() -> str:
        async with Caller(emulator) as caller:
            user = await caller.new_user()
            session = await caller.call("POST", "sessions/new", json={"user_id": user})
            return session["id"]

    with EmulatorThread(Emulator(timing=NEVER)) as emulator:
        emulator.timing, emulator.faults = AT_ONCE, Faults(webhook_loss=1)
        emulator.webhook_url = "http://127.0.0.1:1/"
        assert (emulator.timing, emulator.faults) == (AT_ONCE, Faults(webhook_loss=1))
        assert emulator.webhook_url == "http://127.0.0.1:1/"
        session_id = asyncio.run(open_session())
        avatar_id = emulator.complete_session(session_id)
        emulator.settled(timeout=30)
        emulator.expire_urls()
        assert [delivery.event["avatar_id"] for delivery in emulator.deliveries] == [str(avatar_id)]
        assert emulator.counts == {"create_user": 1, "create_session": 1}
        assert [request.operation for request in emulator.requests] == ["create_user", "create_session"]
        assert emulator.catalogue.bodies[0] == "body_0"
        assert emulator.url in repr(emulator)
        with pytest.raises(RuntimeError, match="running"):
            emulator.start()
    emulator.stop()
    assert threading.active_count() == threads
    with pytest.raises(RuntimeError, match="not running"):
        emulator.settled()


def test_a_thread_that_can_not_start_raises() -> None:
    """`start` raises the error, and can be tried again."""
    with EmulatorThread() as first:
        second = EmulatorThread(Emulator(port=int(first.url.rpartition(":")[2])))
        with pytest.raises(OSError, match="address already in use"):
            second.start()
    second.start()
    second.stop()


def test_settled_has_a_deadline_in_a_thread() -> None:
    """A job of an hour is not awaited longer."""
    with EmulatorThread(Emulator(timing=NEVER)) as emulator:

        async def start_a_scan() -> None:
            async with Caller(emulator) as caller:
                await caller.upload((await caller.new_avatar())["upload_url"])

        asyncio.run(start_a_scan())
        with pytest.raises(TimeoutError):
            emulator.settled(timeout=0.01)
