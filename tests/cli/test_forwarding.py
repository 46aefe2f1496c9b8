"""``avaturn trigger``, and ``avaturn listen`` with --save and --forward-to: nothing that was answered 200 is lost."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from avaturn_async import WebhookReceiver
from avaturn_async.cli import listen
from avaturn_async.cli.listen import EventFile
from avaturn_async.emulator import Emulator

from .kit import AVATAR, SECRET, avaturn, free_port, interrupt, process, read_until, records
from .test_services import READY, first_record, post

pytestmark = pytest.mark.slow(measured=True)  # each test starts processes of the command

PAST = "http://127.0.0.1:9/avaturn/" + SECRET


class Target:
    """An app that takes events. `answers` are its next statuses, 200 after them."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/hooks/{SECRET}"
        self.answers: list[int] = []
        self.taken: list[dict[str, Any]] = []
        self.came = threading.Condition()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Listen."""
        target = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert (f"/hooks/{SECRET}", "application/json") == (self.path, self.headers["Content-Type"])
                with target.came:
                    status = target.answers.pop(0) if target.answers else 200
                    if status == 200:
                        target.taken.append(body)
                    target.came.notify_all()
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", self.port), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        """Return the events once so many were taken."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.taken) >= count, 60), self.taken
        return self.taken


def numbered(*numbers: int) -> list[dict[str, Any]]:
    """Return distinguishable events."""
    return [READY | {"user_id": str(number)} for number in numbers]


@pytest.mark.parametrize("event", ["avatar.ready", "export.ready", "render.ready"])
@pytest.mark.parametrize("options", [[], ["--failed"]], ids=["ready", "failed"])
async def test_triggered_events_are_valid(event: str, options: list[str]) -> None:
    """The receiver takes them, and they follow the contract as the emulator has it."""
    seen: list[Any] = []
    receiver = WebhookReceiver(SECRET)
    for name in ("avatar.ready", "export.ready", "render.ready"):

        @receiver.on(name)  # type: ignore[call-overload, untyped-decorator]
        async def keep(found: Any) -> None:
            seen.append(found)

    async with receiver, receiver.serve() as server:
        line = ["trigger", event, "--to", server.url, "--avatar-id", AVATAR, "--json", *options]
        done = await asyncio.to_thread(avaturn, *line)
        assert [{"event": event, "avatar_id": AVATAR, "answer": 200}] == records(done.stdout)
    (found,) = seen
    assert (event, AVATAR, "failed" if options else "ready") == (found.event, str(found.avatar_id), str(found.status))
    line = ["trigger", event, "--to", PAST, "--avatar-id", AVATAR, *options]
    target = Target()
    with target.running():
        await asyncio.to_thread(avaturn, *line[:3], target.url, *line[4:])
    async with Emulator(webhook_url=PAST) as emulator:
        await emulator.send(target.taken[0])  # ValueError if it violates the contract


def test_trigger_says_what_was_answered() -> None:
    """Also that nothing listens; and an unknown event is taken with 202."""
    target = Target()
    done = avaturn("trigger", "export.ready", "--to", target.url)
    assert 1 == done.exit_code
    assert f"was not answered: no connection to 127.0.0.1:{target.port} (nothing listens there)" in done.stdout
    target.answers = [202, 500, 404]
    with target.running():
        done = avaturn("trigger", "export.ready", "--unknown", "--to", target.url)
        assert (0, True) == (done.exit_code, done.stdout.startswith("export.ready.unknown of avatar "))
        done = avaturn("trigger", "render.ready", "--to", target.url)
        wrong = avaturn("trigger", "render.ready", "--to", target.url)
    assert (1, True) == (done.exit_code, done.stdout.endswith("was answered 500\n"))
    assert wrong.stdout.endswith("was answered 404 (is the url right, with path and secret?)\n")
    assert SECRET not in done.output


def test_replay(tmp_path: Path) -> None:
    """The events of a file are sent in order; lines that are not events are reported by file, number and fault."""
    file = tmp_path / "events.jsonl"
    odd = json.dumps(READY | {"user_id": 7})
    file.write_text("\n".join([*map(json.dumps, numbered(1, 2)), '{"torn', "", odd, *map(json.dumps, numbered(3))]))
    target = Target()
    with target.running():
        done = avaturn("trigger", "--replay", file, "--to", target.url)
    assert numbered(1, 2, 3) == target.taken
    assert 1 == done.exit_code
    assert [
        f"avaturn: {file}, line 3: this is not JSON (perhaps the line was cut off); it is not sent",
        f"avaturn: {file}, line 5: this is not an event: $.user_id: expected a string, got a number; it is not sent",
    ] == done.stderr.splitlines()
    assert done.stdout.startswith(f"{file}, line 1: export.ready of avatar {AVATAR} was answered 200\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("trigger export.ready --to https://example.com/s", "--to leads to example.com, which is not this machine"),
        ("trigger export.ready --to ftp://127.0.0.1", "--to must be an http or https url with a host"),
        ("trigger export.ready --to http://[", "--to must be an http or https url with a host"),
        (f"trigger --to {PAST}", "give the name of an event, or --replay FILE"),
        (f"trigger export.ready --to {PAST} --replay x", "give the name of an event, or --replay FILE"),
        (f"trigger --to {PAST} --replay x --failed", "--replay sends events unchanged"),
        (f"trigger --to {PAST} --replay x --user-id u", "--replay sends events unchanged"),
        (f"trigger export.ready --to {PAST} --render-id {AVATAR}", "--render-id is for render.ready"),
        (f"trigger --to {PAST} --replay none.jsonl", "none.jsonl: No such file"),
        (f"trigger nonsense --to {PAST}", "'nonsense' is not one of 'avatar.ready'"),
        (f"trigger export.ready --to {PAST} --avatar-id 7", "--avatar-id must be a UUID"),
        ("listen --forward-to http://example.com/s", "--forward-to leads to example.com"),
        ("listen --save none/events.jsonl", "none/events.jsonl: No such file"),
    ],
)
def test_refusals(line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A usage error is reported on one line."""
    monkeypatch.chdir(tmp_path)
    done = avaturn(*line.split())
    assert (2, "", 1) == (done.exit_code, done.stdout, len(done.stderr.splitlines())), done.output
    assert said in done.stderr


def test_forwarded_although_the_target_is_down_for_a_while(tmp_path: Path) -> None:
    """Events that came while the target was down, and that it refused for a while, reach it once it works, in order."""
    target = Target()
    line = ["listen", "--port", 0, "--json", "--save", "events.jsonl", "--forward-to", target.url]
    with process(*line, cwd=tmp_path) as listening:
        url = first_record(listening)["url"]
        with target.running():
            assert 200 == post(url, numbered(1)[0])
            assert numbered(1) == target.wait_for(1)
        assert [200, 200] == [post(url, event) for event in numbered(2, 3)]
        said = read_until(listening.stderr, "retrying until it is accepted")
        assert f"was not answered: no connection to 127.0.0.1:{target.port} (nothing listens there)" in said
        assert SECRET not in said
        target.answers = [503, 404, 422]
        with target.running():
            assert numbered(1, 3) == target.wait_for(2)
            assert "was answered 422" in read_until(listening.stderr, "is skipped")
            assert 202 == post(url, {"event": "user.born"})
            assert {"event": "user.born"} == target.wait_for(3)[2]
        assert 130 == interrupt(listening)[0]
    kept = records((tmp_path / "events.jsonl").read_text())
    assert [*numbered(1, 2, 3), {"event": "user.born"}] == kept
    assert 0o600 == (tmp_path / "events.jsonl").stat().st_mode & 0o777


def test_killed_while_the_target_is_down(tmp_path: Path) -> None:
    """What was answered 200 is on the disk, and the next process forwards it."""
    target = Target()
    line = ["listen", "--port", 0, "--json", "--save", "events.jsonl", "--forward-to", target.url]
    with process(*line, cwd=tmp_path) as listening:
        url = first_record(listening)["url"]
        assert [200, 200] == [post(url, event) for event in numbered(1, 2)]
        listening.kill()
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"event": "torn')
    with target.running(), process(*line, cwd=tmp_path) as listening:
        url = first_record(listening)["url"]
        assert numbered(1, 2) == target.wait_for(2)
        assert 200 == post(url, numbered(3)[0])
        assert numbered(1, 2, 3) == target.wait_for(3)
        assert 130 == interrupt(listening)[0]


def test_without_a_file_of_ones_own(tmp_path: Path) -> None:
    """Events are kept in a temporary file, which stays if they were not forwarded, and the command says so."""
    target = Target()
    environment = {"TMPDIR": str(tmp_path)}
    for count in (1, 0):
        with process("listen", "--port", 0, "--json", "--forward-to", target.url, cwd=tmp_path, env=environment) as one:
            kept = Path(read_until(one.stderr, "events are kept in ").split()[4])
            url = first_record(one)["url"]
            if count:
                assert 200 == post(url, numbered(1)[0])
                read_until(one.stderr, "retrying")
            code, _, err = interrupt(one)
        assert (130, bool(count)) == (code, kept.exists())
        assert count == sum(
            f"not forwarded yet: 1. To go on: avaturn listen --save {kept} --forward-to" in told for told in err
        )


def test_saved_without_forwarding_is_not_forwarded_later(tmp_path: Path) -> None:
    """Events that were saved without --forward-to are not forwarded later."""
    (tmp_path / "events.jsonl").write_text(json.dumps(numbered(1)[0]) + "\n")
    target = Target()
    line = ["listen", "--port", 0, "--json", "--save", "events.jsonl", "--forward-to", target.url]
    with target.running(), process(*line, cwd=tmp_path) as listening:
        assert 200 == post(first_record(listening)["url"], numbered(2)[0])
        assert numbered(2) == target.wait_for(1)
        interrupt(listening)


async def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that can't be written leaves nothing of it, and the next one can be read."""
    file = tmp_path / "events.jsonl"
    async with EventFile(file, forwarding=False) as events:
        await events.add(json.dumps(numbered(1)[0]).encode())

        def fail(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(OSError, match="No space left"):
                await events.add(json.dumps(numbered(2)[0]).encode())
        await events.add(b'{\n "event": "user.born"\n}')
    assert [*numbered(1), {"event": "user.born"}] == records(file.read_text())


async def test_an_event_that_the_target_always_fails_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is given up after a bounded number of 5xx, later events are forwarded, and the file with it stays."""
    monkeypatch.setattr(listen, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    target = Target()
    target.answers = [500] * listen.FAILURES
    with target.running():
        async with EventFile(None, forwarding=True) as events, asyncio.TaskGroup() as tasks:
            forwarding = tasks.create_task(events.forward(target.url))
            for event in numbered(1, 2):
                await events.add(json.dumps(event).encode())
            assert numbered(2) == await asyncio.to_thread(target.wait_for, 1)
            forwarding.cancel()
    (file,) = tmp_path.glob("*.jsonl")
    assert numbered(1, 2) == records(file.read_text())
    assert f"was answered 500, the 60th 5xx, and is skipped; it stays in {file}\n" in (said := capsys.readouterr().err)
    assert "an event was answered 500; retrying for five minutes\n" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_what_can_not_be_saved_is_answered_503(tmp_path: Path) -> None:
    """Avaturn may send it again; the command goes on."""
    limited = "ulimit -f 1; exec python -X dev -W error -m avaturn_async listen --port 0 --json --save events.jsonl"
    command = ["bash", "-c", f"trap '' XFSZ; {limited}"]
    env = os.environ | {"PATH": f"{Path(os.sys.executable).parent}:{os.environ['PATH']}"}  # type: ignore[attr-defined]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, env=env, text=True, **pipes) as listening:
        try:
            url = first_record(listening)["url"]
            answers = [post(url, READY | {"user_id": "x" * 300}) for _ in range(8)]
        finally:
            listening.kill()
    assert {200, 503} == set(answers)
    assert answers.count(200) == len(records((tmp_path / "events.jsonl").read_text()))
