"""The log: the story of a job at DEBUG, what an operator wants at INFO, and AVATURN_LOG."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from avaturn_async import AvaturnClient, MemoryMailbox, RateLimitError, RetryPolicy, WaitTimeoutError
from avaturn_async.emulator import Emulator, Faults, Timing

from ..pending.kit import NEVER, PENDING, READY, World, after, export_event, run, saying
from .kit import QUICK, make_avatars


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.DEBUG) -> list[str]:
    """Return what the package logged at a level or above, with numbers instead of durations."""
    records = [each for each in caplog.records if each.name.startswith("avaturn_async") and each.levelno >= level]
    return [re.sub(r"\d+\.\d+ s", "N s", record.getMessage()) for record in records]


async def test_debug_tells_the_story_of_an_export(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """From create to file in a handful of lines, with the ids."""
    async with Emulator(timing=Timing(export=0), models="small") as avaturn:
        (avatar_id,) = await make_avatars(avaturn, 1)
        caplog.set_level(logging.DEBUG, "avaturn_async")
        caplog.clear()
        async with AvaturnClient(avaturn.token, base_url=avaturn.url, polling=QUICK) as client:
            export = await client.exports.create_and_wait(avatar_id)
            await export.download(tmp_path / "a.glb")
    told, job = lines(caplog), f"export of avatar {avatar_id}"
    called = r"POST /api/v1/exports/new answered 200 in N s"
    assert len(told) <= 8
    assert re.fullmatch(called, told[0])
    assert f"{job}: pending" == told[1]
    assert re.fullmatch(called, told[2])
    assert re.fullmatch(rf"{job}: resolved by poll after N s, 0 webhooks and \d polls", told[-2])
    url = export.url.partition("?")[0]
    assert re.fullmatch(rf"download of {re.escape(url)} for avatar {avatar_id}: \d+ bytes in N s", told[-1])
    assert avaturn.token not in caplog.text


def test_webhooks_and_polls_are_lines_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    """Each with what it said."""
    caplog.set_level(logging.DEBUG, "avaturn_async")

    async def main() -> None:
        box = MemoryMailbox()
        export = await World(saying(PENDING, PENDING, READY), mailbox=box, policy=NEVER).exports.create(event.avatar_id)
        await after(1, lambda: box.deliver(event))
        await export

    event = export_event()
    run(main())
    job = f"export of avatar {event.avatar_id}"
    assert [
        f"{job}: pending",
        f"{job}: webhook export.ready received after N s",
        f"{job}: pending, says poll 1",
        f"{job}: resolved by webhook after N s, 1 webhooks and 2 polls; last request id request-3",
    ] == lines(caplog)


def test_info_tells_of_slow_jobs_and_timeouts(caplog: pytest.LogCaptureFixture) -> None:
    """And of nothing else that went well."""
    caplog.set_level(logging.INFO, "avaturn_async")

    async def main() -> None:
        quick = await World(saying(PENDING, READY)).exports.create(export_event().avatar_id)
        await quick
        slow = await World(saying(*[PENDING] * 20, READY)).exports.create(export_event().avatar_id)
        with pytest.raises(WaitTimeoutError):
            await slow.wait(timeout=3)
        await slow

    run(main())
    timed_out, resolved = lines(caplog)
    assert "WaitTimeoutError (last seen pending) after N s, 0 webhooks and " in timed_out
    assert "resolved by poll after N s" in resolved


async def test_info_tells_of_hold_backs(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    """With their length."""
    caplog.set_level(logging.INFO, "avaturn_async")
    emulator.faults = Faults(rate_limited=1, retry_after=0)
    retry = RetryPolicy(attempts=1, base=0)
    async with AvaturnClient(emulator.token, base_url=emulator.url, retry=retry) as client:
        with pytest.raises(RateLimitError):
            await client.users.create()
    assert ["POST /api/v1/users/new answered 429: no request is sent for N s"] == lines(caplog)


@pytest.mark.parametrize(
    ("setting", "configure", "expected"),
    [
        ("debug", "", r"\d{4}-\S+ \S+ DEBUG GET /api/v1/x answered 200 in 0\.000 s\n\S+ \S+ INFO .*429.*\n"),
        (" INFO ", "", r"\d{4}-\S+ \S+ INFO GET /api/v1/x answered 429: no request is sent for 2\.000 s\n"),
        ("info", "logging.basicConfig(format='app %(levelname)s')", "app INFO\n"),
        ("verbose", "", "AVATURN_LOG must be debug or info; it is ignored\n"),
        ("", "", ""),
    ],
    ids=["debug", "info", "configured-by-the-app", "misspelt", "empty"],
)
def test_the_environment_sets_up_a_log(setting: str, configure: str, expected: str) -> None:
    """On stderr, for scripts, unless the application has handlers of its own."""
    code = f"""
import logging
from avaturn_async.observe import CallInfo
from avaturn_async.observe.dispatch import Observers
{configure}
info = CallInfo(call=1, method="GET", path="/api/v1/x", url="", status=200)
Observers().tell("request_answered", info)
Observers().tell("request_held_back", CallInfo(call=1, method="GET", path="/api/v1/x", url="", seconds=2.0))
"""
    environment = {**os.environ, "AVATURN_LOG": setting}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert re.fullmatch(expected, done.stderr), done.stderr
