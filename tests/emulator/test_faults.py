"""Faults of requests, and the settings that order them."""

import asyncio
import email.utils
import time
from typing import Any

import aiohttp
import pytest

from avaturn_async.emulator import Emulator, Faults, Timing
from avaturn_async.emulator.faults import Dice

from .kit import Caller


@pytest.mark.parametrize(
    ("kind", "options", "error"),
    [
        (Timing, {"scan": -1}, ValueError),
        (Timing, {"export": float("nan")}, ValueError),
        (Timing, {"render": float("inf")}, ValueError),
        (Timing, {"url_ttl": "1"}, TypeError),
        (Timing, {"upload": True}, TypeError),
        (Faults, {"webhook_loss": 1.1}, ValueError),
        (Faults, {"resets": -0.1}, ValueError),
        (Faults, {"server_errors": "1"}, TypeError),
        (Faults, {"job_failures": True}, TypeError),
        (Faults, {"webhook_delay": -1}, ValueError),
        (Faults, {"slow": None}, TypeError),
        (Faults, {"retry_after": -1}, ValueError),
        (Faults, {"retry_after": 0.5}, TypeError),
        (Faults, {"retry_after_date": 1}, TypeError),
        (Faults, {"restart_failed": "no"}, TypeError),
        (Emulator, {"timing": 0}, TypeError),
        (Emulator, {"seed": "0"}, TypeError),
        (Emulator, {"body": "T3"}, ValueError),
        (Emulator, {"model_size": 0}, ValueError),
        (Emulator, {"model_size": 2**30}, ValueError),
        (Emulator, {"model_variety": 0}, ValueError),
        (Emulator, {"webhook_url": "/hooks"}, ValueError),
        (Emulator, {"webhook_url": 1}, TypeError),
    ],
)
def test_settings_refuse_what_makes_no_sense(kind: Any, options: dict[str, Any], error: type[Exception]) -> None:
    """The message names the field."""
    with pytest.raises(error, match=next(iter(options))):
        kind(**options)


def test_a_running_emulator_refuses_it_as_well() -> None:
    """Assigning is checked like making."""
    emulator = Emulator(webhook_url="http://localhost/x")
    for name, value in (("timing", None), ("faults", None), ("webhook_url", "ftp://x")):
        before = getattr(emulator, name)
        with pytest.raises((TypeError, ValueError), match=name):
            setattr(emulator, name, value)
        assert getattr(emulator, name) == before


def test_the_streams_of_the_dice_do_not_touch_each_other() -> None:
    """One kind's draws are the same, however often another was drawn."""
    first, second = Dice(1), Dice(1)
    second.happens("other", 0.5)
    assert [first.upto("kind", 5) for _ in range(5)] == [second.upto("kind", 5) for _ in range(5)]
    assert not any(first.happens("kind", 0) for _ in range(100))
    assert all(first.happens("kind", 1) for _ in range(100))


async def test_rate_limits(emulator: Emulator, caller: Caller) -> None:
    """Every call is a 429 that says when to come back, and does nothing."""
    emulator.faults = Faults(rate_limited=1, retry_after=7)
    async with caller.session.post(f"{emulator.url}/api/v1/users/new") as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "7")
        assert await response.json() == {"detail": "Too Many Requests"}


async def test_rate_limits_with_a_date(emulator: Emulator, caller: Caller) -> None:
    """Retry-After may be an HTTP date, no earlier than the seconds have passed."""
    emulator.faults = Faults(rate_limited=1, retry_after=100, retry_after_date=True)
    before = time.time()
    async with caller.session.post(f"{emulator.url}/api/v1/users/new") as response:
        when = email.utils.parsedate_to_datetime(response.headers["Retry-After"]).timestamp()
    assert before + 100 <= when <= time.time() + 102


async def test_uploads_and_downloads_are_not_rate_limited(emulator: Emulator, caller: Caller) -> None:
    """They are not the API."""
    url = await caller.exported(await caller.dressed())
    upload_url = (await caller.new_avatar())["upload_url"]
    emulator.faults = Faults(rate_limited=1)
    assert (await caller.fetch(url))[0] == 200
    assert (await caller.upload(upload_url))[0] == 200


async def test_server_errors(emulator: Emulator, caller: Caller) -> None:
    """All four kinds come up, some after the work was done, 503 never; gateways answer in HTML."""
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
    """The connection breaks without an answer, before the work or after it."""
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


async def test_faults_after_the_work_hide_its_problems(emulator: Emulator, caller: Caller) -> None:
    """Also a request that would be refused meets the fault."""
    emulator.faults = Faults(server_errors=1)
    for _ in range(10):
        async with caller.anonymous.post(f"{emulator.url}/api/v1/users/new") as response:
            assert response.status >= 500
    emulator.faults = Faults(resets=1)
    for _ in range(10):
        with pytest.raises((aiohttp.ClientConnectionError, ConnectionError)):
            await caller.fetch(f"{emulator.url}/elsewhere")


async def test_downloads_meet_server_errors_and_resets(emulator: Emulator, caller: Caller) -> None:
    """Whether early or late, no byte of the file is sent."""
    url = await caller.exported(await caller.dressed())
    emulator.faults = Faults(server_errors=1)
    assert all([(await caller.fetch(url))[0] >= 500 for _ in range(5)])
    emulator.faults = Faults(resets=1)
    for _ in range(5):
        with pytest.raises((aiohttp.ClientConnectionError, ConnectionError)):
            await caller.fetch(url)


async def test_slow(emulator: Emulator, caller: Caller) -> None:
    """A slow request has arrived, and is not looked at yet; it is overtaken."""
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


async def test_the_document_is_never_hit(emulator: Emulator, caller: Caller) -> None:
    """Whatever the faults, it can be read."""
    emulator.faults = Faults(rate_limited=1, server_errors=1, resets=1, slow=3600)
    assert (await caller.fetch(f"{emulator.url}/openapi.json"))[0] == 200
