"""The Host check, and the faults of requests."""

import asyncio
import email.utils
import time

import aiohttp
import pytest

from avaturn_async.emulator import Emulator, Faults

from .kit import Caller, free_port, raw_request

OURS = ["127.0.0.1:{port}", "127.9.9.9", "localhost:{port}", "LOCALHOST.", "app.localhost:1", "[::1]:{port}"]
FOREIGN = [
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example",
    "192.0.2.1",
    "localhost@evil.example",
    "[",
    "",
]


@pytest.mark.parametrize("host", OURS)
async def test_loopback_hosts_are_answered(emulator: Emulator, host: str) -> None:
    """By any name or address of the loopback interface, with any port."""
    assert (await raw_request(emulator, host))[0] == 200


@pytest.mark.parametrize("host", FOREIGN)
async def test_other_hosts_are_refused(emulator: Emulator, host: str) -> None:
    """A web page whose domain resolves to this machine (DNS rebinding) reaches nothing."""
    status, body = await raw_request(emulator, host)
    assert (status, body) == (
        421,
        {"detail": "The Host header is neither a loopback name nor the emulator's host or public_url"},
    )


async def test_a_request_without_a_host_is_refused(emulator: Emulator) -> None:
    """HTTP/1.0 has requests without one."""
    assert (await raw_request(emulator, None))[0] == 421


async def test_the_public_host_is_answered() -> None:
    """Clients behind a proxy or in other containers use it."""
    port = free_port()
    async with Emulator(port=port, public_url="http://avaturn.test:8000") as emulator:
        for host, status in (("Avaturn.Test", 200), ("127.0.0.1", 200), ("other.test", 421)):
            assert (await raw_request(emulator, host, port))[0] == status


async def test_an_emulator_at_all_addresses_answers_addresses() -> None:
    """It does not know under which addresses it is reached, but a rebound name is never an address."""
    async with Emulator(host="0.0.0.0") as emulator:
        for host, status in (("192.0.2.1:80", 200), ("evil.example", 421)):
            assert (await raw_request(emulator, host))[0] == status


async def test_foreign_hosts_meet_no_faults(emulator: Emulator) -> None:
    """They are refused first, and draw nothing."""
    emulator.faults = Faults(server_errors=1)
    assert (await raw_request(emulator, "evil.example"))[0] == 421


async def test_rate_limits(emulator: Emulator, caller: Caller) -> None:
    """A 429 has Retry-After in seconds."""
    emulator.faults = Faults(rate_limited=1, retry_after=7)
    async with caller.session.post(f"{emulator.url}/api/v1/users/new") as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "7")
        assert await response.json() == {"detail": "Too Many Requests"}


async def test_rate_limits_with_a_date(emulator: Emulator, caller: Caller) -> None:
    """Retry-After may be an HTTP date, which is not before the seconds have passed."""
    emulator.faults = Faults(rate_limited=1, retry_after=100, retry_after_date=True)
    before = time.time()
    async with caller.session.post(f"{emulator.url}/api/v1/users/new") as response:
        when = email.utils.parsedate_to_datetime(response.headers["Retry-After"]).timestamp()
    assert before + 100 <= when <= time.time() + 102


async def test_uploads_and_downloads_are_not_rate_limited(emulator: Emulator, caller: Caller) -> None:
    """They are not part of the API."""
    url = await caller.exported(await caller.dressed())
    upload_url = (await caller.new_avatar())["upload_url"]
    emulator.faults = Faults(rate_limited=1)
    assert (await caller.fetch(url))[0] == 200
    assert (await caller.upload(upload_url))[0] == 200


async def test_server_errors(emulator: Emulator, caller: Caller) -> None:
    """All four occur, and all but 503 also after the request took effect; gateways answer in HTML."""
    user = await caller.new_user()
    seen: dict[int, set[tuple[str, bool]]] = {}
    for _ in range(60):
        before = len(await caller.call("GET", f"users/{user}/avatars", params={"include_not_ready": "true"}))
        emulator.faults = Faults(server_errors=1)
        async with caller.session.post(f"{emulator.url}/api/v1/avatars/new", json={"user_id": user}) as response:
            status, kind = response.status, response.content_type
        emulator.faults = Faults()
        after = len(await caller.call("GET", f"users/{user}/avatars", params={"include_not_ready": "true"}))
        seen.setdefault(status, set()).add((kind, after > before))
    html, json = "text/html", "application/json"
    assert seen == {
        500: {(json, False), (json, True)},
        502: {(html, False), (html, True)},
        503: {(json, False)},
        504: {(html, False), (html, True)},
    }


async def test_resets(emulator: Emulator, caller: Caller) -> None:
    """The connection breaks without a response, before or after the request took effect."""
    user = await caller.new_user()
    done = []
    for _ in range(20):
        emulator.faults = Faults(resets=1)
        with pytest.raises((aiohttp.ClientConnectionError, ConnectionError)):
            await caller.new_avatar(user)
        emulator.faults = Faults()
        avatars = await caller.call("GET", f"users/{user}/avatars", params={"include_not_ready": "true"})
        done.append(len(avatars))
        assert next(r for r in reversed(emulator.requests) if r.operation == "create_avatar").status is None
    assert 0 < done[-1] < 20


async def test_faults_hide_errors(emulator: Emulator, caller: Caller) -> None:
    """A request that would be refused meets the fault too."""
    emulator.faults = Faults(server_errors=1)
    for _ in range(10):
        async with caller.anonymous.post(f"{emulator.url}/api/v1/users/new") as response:
            assert response.status >= 500
    emulator.faults = Faults(resets=1)
    for _ in range(10):
        with pytest.raises((aiohttp.ClientConnectionError, ConnectionError)):
            await caller.fetch(f"{emulator.url}/elsewhere")


async def test_downloads_meet_server_errors_and_resets(emulator: Emulator, caller: Caller) -> None:
    """Early or late, no byte of the file is sent."""
    url = await caller.exported(await caller.dressed())
    emulator.faults = Faults(server_errors=1)
    assert all([(await caller.fetch(url))[0] >= 500 for _ in range(5)])
    emulator.faults = Faults(resets=1)
    for _ in range(5):
        with pytest.raises((aiohttp.ClientConnectionError, ConnectionError)):
            await caller.fetch(url)


async def test_slow(emulator: Emulator, caller: Caller) -> None:
    """A slow request has arrived and is overtaken by another."""
    emulator.faults = Faults(slow=3600)
    slow = asyncio.create_task(caller.new_user())
    while not emulator.counts["create_user"]:
        await asyncio.sleep(0)
    emulator.faults = Faults()
    await caller.new_user()
    assert not slow.done()
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow


async def test_the_document_meets_no_faults(emulator: Emulator, caller: Caller) -> None:
    """It can always be read."""
    emulator.faults = Faults(rate_limited=1, server_errors=1, resets=1, slow=3600)
    assert (await caller.fetch(f"{emulator.url}/openapi.json"))[0] == 200
