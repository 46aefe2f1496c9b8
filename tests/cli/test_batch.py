"""``avaturn batch``."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from avaturn_async import AvaturnClient, BatchProgress, ExternalAvatarCustomization, Photos, PollPolicy
from avaturn_async.batch.items import BatchOutcome
from avaturn_async.cli.batch import PRINTED, Tally, tracker
from avaturn_async.cli.output import Output
from avaturn_async.emulator import EmulatorThread, Timing
from avaturn_async.errors import JobFailedError
from avaturn_async.http.codec import structure

from .kit import AVATAR, SECRET, against, avaturn, free_port, interrupt, process, read_until, records, terminal

COUNT = 6


async def made(emulated: EmulatorThread, count: int) -> list[str]:
    """Make avatars that can be exported."""
    outfit = structure(emulated.catalogue.outfit(), ExternalAvatarCustomization)
    photo = b"\xff\xd8\xff\xda a face \xff\xd9"
    async with AvaturnClient(emulated.token, base_url=emulated.url, polling=PollPolicy(first=0.02)) as client:
        user = await client.users.create()
        photos = Photos(photo, photo, photo, body_type="male")
        scans = [await client.avatars.create_from_photos(user.id, photos, customization=outfit) for _ in range(count)]
        return [str((await scan).id) for scan in scans]


@pytest.fixture
def avatars(emulated: EmulatorThread) -> list[str]:
    """Make a few avatars."""
    return asyncio.run(made(emulated, COUNT))


@pytest.fixture
def ids(avatars: list[str], tmp_path: Path) -> Path:
    """Write their ids to a file, with a comment, an empty line and a duplicate."""
    file = tmp_path / "ids.txt"
    file.write_text("\n".join(["# avatars", "", *avatars, avatars[0].upper()]))
    return file


def test_all_done(emulated: EmulatorThread, avatars: list[str], ids: Path, tmp_path: Path) -> None:
    """Each model is there under its avatar's id, and a summary says how it went."""
    done = avaturn("batch", "--from", ids, "--out", tmp_path / "models", env=against(emulated))
    assert 0 == done.exit_code, done.stderr
    assert {f"{avatar}.glb" for avatar in avatars} == {file.name for file in (tmp_path / "models").iterdir()}
    head, size, waits = done.stdout.splitlines()
    assert head.startswith(f"{COUNT} done, 0 failed, in ")
    assert size.endswith(f" in {tmp_path / 'models'}")
    assert "by percentile: " in waits
    assert f"exports: {COUNT} of {COUNT}, 0 failed, 0 under way" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_ids_that_are_typed(emulated: EmulatorThread, avatars: list[str], tmp_path: Path) -> None:
    """On a terminal the command says that it waits for them."""
    keyboard, stdin = os.openpty()
    command = [sys.executable, "-m", "avaturn_async", "batch", "--out", tmp_path]
    with subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | against(emulated),
    ) as running:
        assert "until Ctrl-D; --from FILE reads a file" in read_until(running.stderr, "reading")
        os.write(keyboard, f"{avatars[0]}\n\x04".encode())
        assert running.communicate()[0].startswith("1 done, 0 failed")
    for each in (keyboard, stdin):
        os.close(each)
    assert [f"{avatars[0]}.glb"] == [path.name for path in tmp_path.iterdir()]


def test_records(emulated: EmulatorThread, avatars: list[str], ids: Path, tmp_path: Path) -> None:
    """Machines get a record of each outcome, and one that sums them up."""
    done = avaturn("batch", "--json", "--out", tmp_path, env=against(emulated), stdin=ids.read_bytes() + b"\njunk\n")
    *outcomes, end = records(done.stdout)
    assert 1 == done.exit_code
    assert {*avatars, "junk"} == {outcome["avatar_id"] for outcome in outcomes}
    assert {"junk": "ValueError"} == {one["avatar_id"]: one["error"] for one in outcomes if "error" in one}
    assert (COUNT, 1, {"ValueError": 1}) == (end["done"], end["failed"], end["reasons"])
    assert {"50", "95", "99"} == set(end["percentiles"])
    assert sum(one.get("size", 0) for one in outcomes) == end["size"]
    assert "avaturn: line 10: avatar_id must be a UUID" in done.stderr


def test_by_webhook(emulated: EmulatorThread, ids: Path, tmp_path: Path) -> None:
    """With a receiver exports are awaited by webhook."""
    emulated.timing = Timing(export=0.3)
    port = free_port()
    emulated.webhook_url = f"http://127.0.0.1:{port}/avaturn/{SECRET}"
    hooks = ["--webhook-port", port, "--secret", SECRET]
    done = avaturn("batch", "--from", ids, "--out", tmp_path, "--json", *hooks, env=against(emulated))
    assert {"webhook"} == {record["resolved_by"] for record in records(done.stdout)[:-1]}


def test_ctrl_c(emulated: EmulatorThread, ids: Path, tmp_path: Path) -> None:
    """With a journal, a note says that the same command continues."""
    emulated.timing = Timing(export=3600)
    ids.write_text(f"{ids.read_text()}\njunk\n")
    line = ["batch", "--from", ids, "--out", "models", "--journal", "batch.db", "--json"]
    with process(*line, cwd=tmp_path, env=against(emulated)) as running:
        read_until(running.stdout, "junk")
        code, out, err = interrupt(running)
    assert (130, "") == (code, out)
    assert ["0 were done; the same command continues from here", "avaturn: interrupted"] == err[-2:]


def test_journal(emulated: EmulatorThread, ids: Path, tmp_path: Path) -> None:
    """What was done before is not done again."""
    line = ["batch", "--from", ids, "--out", tmp_path / "models", "--journal", tmp_path / "batch.db", "--json"]
    for before in (0, COUNT):
        *_, end = records(avaturn(*line, env=against(emulated)).stdout)
        assert (COUNT, before, 0) == (end["done"], end["before"], end["failed"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--from none.txt", "none.txt: No such file"),
        ("--from . --out models", ": Is a directory"),
        ("--from ids.txt --out ids.txt", "ids.txt: Not a directory"),
        ("--from ids.txt --journal ids.txt", "the journal ids.txt can't be used"),
        ("--from ids.txt --max-pending 0", "Invalid value for '--max-pending'"),
        ("--from ids.txt --token=", "no API token"),
    ],
)
def test_refusals(
    emulated: EmulatorThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    """A usage error is reported on one line, before any request."""
    monkeypatch.chdir(tmp_path)
    Path("ids.txt").write_text(AVATAR)
    done = avaturn("batch", *line.split(), env=against(emulated))
    assert (2, "", 1) == (done.exit_code, done.stdout, len(done.stderr.splitlines())), done.stderr
    assert said in done.stderr
    assert () == emulated.requests


def test_many_failures_of_one_kind(capsys: pytest.CaptureFixture[str]) -> None:
    """The first failures are printed individually, the rest are counted; --json prints all."""
    tally = Tally(Output(False), Path("models"))
    for number in range(PRINTED + 9):
        tally.add(BatchOutcome(avatar_id=UUID(int=number), error=JobFailedError("it failed", resolved_by="poll")))
    told = capsys.readouterr().err.splitlines()
    assert (PRINTED + 1, "avaturn: further JobFailedError failures are only counted") == (len(told), told[-1])
    tally.sum_up()
    assert f"\n{PRINTED + 9} x JobFailedError\n" in capsys.readouterr().out


def test_a_refused_token_is_told_once(emulated: EmulatorThread, tmp_path: Path) -> None:
    """A 401 concerns every avatar; each still has its record, and the batch stops sending."""
    ids = "\n".join(str(UUID(int=number)) for number in range(60)).encode()
    env = against(emulated) | {"AVATURN_API_TOKEN": "wrong"}
    line = ["batch", "--out", tmp_path, "--max-pending", 2]
    done = avaturn(*line, env=env, stdin=ids)
    told = [said for said in done.stderr.splitlines() if said.startswith("avaturn: ")]
    assert (1, 1) == (done.exit_code, len(told))
    assert "answered 401: Invalid or missing token; nothing more is sent" in told[0]
    assert {"AuthenticationError": 60} == records(avaturn(*line, "--json", env=env, stdin=ids).stdout)[-1]["reasons"]
    assert emulated.counts["create_export"] <= 4


def test_done_before(capsys: pytest.CaptureFixture[str]) -> None:
    """An outcome of an earlier run has no wait of its own."""
    earlier = BatchOutcome(avatar_id=UUID(AVATAR), attempts=2)
    Tally(Output(True), Path("models")).add(earlier)
    assert [{"avatar_id": AVATAR, "resolved_by": None, "attempts": 2}] == records(capsys.readouterr().out)
    tally = Tally(Output(False), Path("models"))
    tally.add(earlier)
    tally.sum_up()
    assert "1 done (1 of them before), 0 failed" in capsys.readouterr().out


def test_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar says how many ended, failed and wait, how fast, and for how long yet, within 80 columns."""
    screen = terminal(monkeypatch)
    now = BatchProgress(total=5000, done=1200, failed=34, pending=256, bytes=1, rate=123.4, eta=3661.2)
    with tracker(Output(False), 5000) as told:
        told(now)
    assert "1234/5000" in screen.getvalue()
    assert "34 failed, 256 under way, 123.4/s, 1:01:01 left" in screen.getvalue()
