"""``avaturn make``: from photos to models, one and many, each person once whatever happens in between."""

from __future__ import annotations

import asyncio
import csv
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from avaturn_async import AvaturnClient
from avaturn_async.batch.journal import Journal
from avaturn_async.cli import make as command
from avaturn_async.emulator import EmulatorThread, Faults, Timing
from avaturn_async.errors import ConnectError, OutcomeUnknownError, ServerError, UnprocessableError
from tests.chaos.kit import scaled

from .kit import against, avaturn, interrupt, process, records


def client_of(emulated: EmulatorThread) -> AvaturnClient:
    """Return a client of the emulator."""
    return AvaturnClient(emulated.token, base_url=emulated.url)


def users(emulated: EmulatorThread, count: int) -> list[str]:
    """Create users."""

    async def made() -> list[str]:
        async with client_of(emulated) as client:
            return [(await client.users.create()).id for _ in range(count)]

    return asyncio.run(made())


def avatars_of(emulated: EmulatorThread, ids: list[str]) -> dict[str, list[tuple[str, str]]]:
    """Return the avatars of users, and their statuses."""

    async def found() -> dict[str, list[tuple[str, str]]]:
        async with client_of(emulated) as client:
            lists = {user: await client.avatars.list(user, include_not_ready=True) for user in ids}
        return {user: [(str(each.id), str(each.status)) for each in avatars] for user, avatars in lists.items()}

    return asyncio.run(found())


def people(folder: Path, photos: list[Path], ids: list[str], **columns: str) -> Path:
    """Write a table of people, whose photos are those of one."""
    file = folder / "people.csv"
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened, delimiter=";")
        writer.writerow(["user_id", "frontal", "side_1", "side_2", "body_type", *columns])
        for user in ids:
            writer.writerow([user, *(photo.name for photo in photos), "female", *columns.values()])
    return file


def test_one(emulated: EmulatorThread, photos: list[Path], tmp_path: Path) -> None:
    """Three photos become a model in one command, which says what it does."""
    out = tmp_path / "new" / "me.glb"
    done = avaturn("make", *photos, "--body-type", "female", "--out", out, env=against(emulated))
    assert 0 == done.exit_code, done.stderr
    assert done.stdout.startswith(str(out))
    assert b"glTF" == out.read_bytes()[:4]
    assert ["photos: 0 of 1", "photos: 1 of 1"] == done.stderr.splitlines()[:2]
    assert "download: 1 of 1" == done.stderr.splitlines()[-1]
    again = avaturn("make", *photos, "--body-type", "female", "--out", out, env=against(emulated))
    assert (2, 1) == (again.exit_code, emulated.counts["create_avatar"])
    assert "--overwrite replaces it" in again.stderr


def test_one_of_a_user(emulated: EmulatorThread, photos: list[Path], tmp_path: Path) -> None:
    """Machines get a record; a user and a customization may be given."""
    (user,) = users(emulated, 1)
    outfit = tmp_path / "outfit.json"
    outfit.write_text(json.dumps(emulated.catalogue.outfit()))
    line = ["make", *photos, "--body-type", "male", "--user", user, "--customization", outfit, "--json"]
    done = avaturn(*line, "--out", tmp_path / "me.glb", env=against(emulated))
    (record,) = records(done.stdout)
    assert (user, str(tmp_path / "me.glb")) == (record["user_id"], record["file"])
    assert {user: [(record["avatar_id"], "ready")]} == avatars_of(emulated, [user])
    shown = avaturn("avatars", "customization", "get", record["avatar_id"], env=against(emulated))
    assert outfit.read_text().split('"')[3] in shown.stdout


def test_many(emulated: EmulatorThread, photos: list[Path], tmp_path: Path) -> None:
    """Each row becomes one model under the name of its columns; the same command again does nothing."""
    ids = users(emulated, 3)
    table = people(tmp_path, photos, [*ids, "nobody", "", ids[0]])
    with table.open("a") as file:
        file.write(f"x;none.jpg;{photos[1]};{photos[2]};female\r\ny;{photos[0]};{photos[1]};{photos[2]};tall\r\n")
    out, report = tmp_path / "models", tmp_path / "report.csv"
    line = ["make", "--from", table, "--journal", tmp_path / "people.db", "--out", out, "--report", report]
    for _ in range(2):
        done = avaturn(*line, env=against(emulated))
        assert 1 == done.exit_code
        assert {*(f"{user}.glb" for user in ids), "frontal.glb"} == {file.name for file in out.iterdir()}
        assert [1, 1, 1] == [len(avatars) for avatars in avatars_of(emulated, ids).values()]
        for number, text in [
            (5, "404"),
            (7, "it has the same user and photos as line 2"),
            (8, "Photos.frontal can't be read"),
            (9, "body_type must be 'male' or 'female', not 'tall'"),
        ]:
            assert any(f"line {number}: " in told and text in told for told in done.stderr.splitlines()), done.stderr
    assert 4 + 2 == emulated.counts["create_avatar"]  # that of nobody is tried twice
    with report.open() as file:
        rows = {int(row["line"]): row for row in csv.DictReader(file)}
    assert avatars_of(emulated, ids) == {rows[n]["user_id"]: [(rows[n]["avatar_id"], "ready")] for n in (2, 3, 4)}


def test_users_are_created_for_rows_without_one(emulated: EmulatorThread, photos: list[Path], tmp_path: Path) -> None:
    """The report and the records say which."""
    table = tmp_path / "people.jsonl"
    names = dict(zip(("frontal", "side_1", "side_2"), map(str, photos), strict=True))
    table.write_text("".join(json.dumps({**names, "n": n, "frontal": str(photos[n])}) + "\n" for n in range(2)))
    line = ["make", "--from", table, "--journal", tmp_path / "people.db", "--out", tmp_path / "models"]
    done = avaturn(*line, "--body-type", "female", "--json", env=against(emulated))
    assert 0 == done.exit_code, done.stderr
    *made, end = records(done.stdout)
    assert ({1, 2}, 2) == ({one["line"] for one in made}, end["done"])
    assert {f"{photo.stem}.glb" for photo in photos[:2]} == {file.name for file in (tmp_path / "models").iterdir()}
    found = avatars_of(emulated, [one["user_id"] for one in made])
    assert {one["user_id"]: [(one["avatar_id"], "ready")] for one in made} == found


def test_dry_run(photos: list[Path], tmp_path: Path) -> None:
    """Photos are read, and nothing is sent."""
    table = people(tmp_path, photos, ["a", "b"])
    photos[2].write_bytes(b"\x89PNG")
    table.write_text(table.read_text() + f"c;{photos[0]};{photos[0]};{photos[1]};male\n")
    done = avaturn("make", "--from", table, "--dry-run", "--json")
    assert [True, True, False] == ["error" in record for record in records(done.stdout)]
    assert "line 2: Photos.side_2" in done.stderr
    assert 1 == done.exit_code


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a.jpg", "give three photos and --body-type"),
        ("a.jpg b.jpg c.jpg", "give three photos and --body-type"),
        ("a.jpg b.jpg c.jpg --body-type tall", "body_type must be 'male' or 'female'"),
        ("a.jpg b.jpg c.jpg --body-type male --dry-run", "are for a table: give one by --from"),
        ("a.jpg b.jpg c.jpg --body-type male --journal p.db", "are for a table: give one by --from"),
        ("a.jpg b.jpg c.jpg --body-type male --html p.html", "are for a table: give one by --from"),
        ("a.jpg --from people.csv", "leave out the photos and --user"),
        ("--from people.csv", "people.csv has no column 'side_2', but 'frontal', 'side_1'"),
        ("--from good.csv", "--from needs --journal FILE"),
        ("--from good.csv --journal people.csv", "the journal people.csv can't be used"),
    ],
)
def test_refusals(
    emulated: EmulatorThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    """A usage error is reported on one line, before any request."""
    monkeypatch.chdir(tmp_path)
    Path("people.csv").write_text("frontal,side_1\n")
    Path("good.csv").write_text("frontal,side_1,side_2,body_type\n")
    done = avaturn("make", *line.split(), env=against(emulated))
    assert (2, "", 1) == (done.exit_code, done.stdout, len(done.stderr.splitlines())), done.stderr
    assert said in done.stderr
    assert () == emulated.requests


def test_journals_of_batches_are_others(emulated: EmulatorThread, photos: list[Path], tmp_path: Path) -> None:
    """What `make` recorded is no list of avatars, and the other way round."""
    line = ["make", "--from", people(tmp_path, photos, []), "--journal", tmp_path / "people.db"]
    assert 0 == avaturn(*line, "--out", tmp_path, env=against(emulated)).exit_code
    done = avaturn("batch", "--retry", tmp_path / "people.db", env=against(emulated))
    assert "it is a journal of 'people', not of exports" in done.stderr


class Interrupted:
    """A client whose next call of a kind fails with an error, before or after it took effect."""

    def __init__(self, client: AvaturnClient) -> None:
        self.client = client
        self.users, self.exports, self.base_url = client.users, client.exports, client.base_url
        self.avatars = self
        self.pending, self.list = client.avatars.pending, client.avatars.list
        self.error: Exception | None = None
        self.fails: tuple[str, str] = ("", "")

    async def call(self, name: str, *args: Any) -> Any:
        """Make a call, or fail."""
        if self.fails == (name, "before"):
            raise self.error  # type: ignore[misc]
        made = await getattr(self.client.avatars, name)(*args)
        if self.fails == (name, "after"):
            raise self.error  # type: ignore[misc]
        return made

    async def create(self, user_id: str) -> Any:
        return await self.call("create", user_id)

    async def upload(self, url: str, photos: Any) -> Any:
        return await self.call("upload", url, photos)


@pytest.mark.parametrize(
    ("name", "when", "error", "told", "then"),
    [
        ("create", "before", ConnectError("no"), ConnectError, None),
        ("create", "after", ServerError("no", status_code=500), ServerError, OutcomeUnknownError),
        ("create", "before", ServerError("no", status_code=500), ServerError, None),
        ("upload", "before", ConnectError("no"), ConnectError, None),
        ("upload", "before", UnprocessableError("no", status_code=422), UnprocessableError, None),
        ("upload", "before", OutcomeUnknownError("no"), OutcomeUnknownError, OutcomeUnknownError),
        ("upload", "after", OutcomeUnknownError("no"), None, None),
        ("upload", "before", OSError("no"), OSError, None),
        ("upload", "before", asyncio.CancelledError(), asyncio.CancelledError, OutcomeUnknownError),
        ("upload", "after", asyncio.CancelledError(), asyncio.CancelledError, None),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__),
)
def test_interrupted_stages(
    name: str, when: str, error: Any, told: Any, then: Any, emulated: EmulatorThread, photos: list[Path], tmp_path: Path
) -> None:
    """A later run repeats what had no effect, continues what had one, and repeats nothing that may have had one."""
    (user,) = users(emulated, 1)
    failing: list[Interrupted] = []

    class Maker(command.Maker):
        def __init__(self, client: Any, *rest: Any) -> None:
            failing.append(Interrupted(client))
            failing[-1].error, failing[-1].fails = error, (name, when) if len(failing) == 1 else ("", "")
            super().__init__(failing[-1], *rest)  # type: ignore[arg-type]

    line = ["make", "--from", people(tmp_path, photos, [user]), "--journal", tmp_path / "people.db", "--json"]
    line += ["--out", tmp_path / "models"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "Maker", Maker)
        for expected in (told, then):
            done = avaturn(*line, env=against(emulated))
            outcome = records(done.stdout)[0]
            wanted = "AvaturnError" if expected is asyncio.CancelledError else expected and expected.__name__
            assert wanted == outcome.get("error"), outcome
    assert 1 == len(avatars_of(emulated, [user])[user])
    if then is not None:
        (avatar, status), *_ = avatars_of(emulated, [user])[user]
        assert "pending" == status
        assert avatar in outcome["message"]
        avaturn("avatars", "delete", user, avatar, env=against(emulated))
        assert 0 == avaturn(*line, env=against(emulated)).exit_code
    assert ["ready"] == [status for _, status in avatars_of(emulated, [user])[user]]
    assert [f"{user}.glb"] == [file.name for file in (tmp_path / "models").iterdir()]


def test_a_scan_that_failed_is_tried_with_another_avatar(
    emulated: EmulatorThread, photos: list[Path], tmp_path: Path
) -> None:
    """The photos may have been replaced by then."""
    (user,) = users(emulated, 1)
    line = ["make", "--from", people(tmp_path, photos, [user]), "--journal", tmp_path / "people.db", "--out", tmp_path]
    emulated.faults = Faults(job_failures=1)
    done = avaturn(*line, "--json", env=against(emulated))
    assert "JobFailedError" == records(done.stdout)[0]["error"]
    emulated.faults = Faults()
    assert 0 == avaturn(*line, env=against(emulated)).exit_code
    assert ["failed", "ready"] == [status for _, status in avatars_of(emulated, [user])[user]]


def test_rows_that_failed_are_the_same_people_again(
    emulated: EmulatorThread, photos: list[Path], tmp_path: Path
) -> None:
    """--failed-to has them as they were, without the users that were made for them, so that no one is made twice."""
    emulated.timing = Timing(scan=0, export=3600)
    table, failed = people(tmp_path, photos, [""], note="x"), tmp_path / "failed.csv"
    line = ["make", "--journal", tmp_path / "people.db", "--out", tmp_path, "--failed-to", failed]
    assert 1 == avaturn(*line, "--from", table, "--timeout", "0", env=against(emulated)).exit_code
    emulated.timing = Timing(export=0)
    with failed.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert ("", "x", "WaitTimeoutError") == (row["user_id"], row["note"], row["error"])
    avaturn(*line, "--from", failed, "--timeout", "0", env=against(emulated))
    assert 1 == emulated.counts["create_avatar"] == emulated.counts["create_user"]


def test_a_journal_that_can_not_be_written(
    emulated: EmulatorThread, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No avatar is created of which a later run would not know."""

    async def fail(*_: object, **__: object) -> None:
        """Log and go on, as a journal does on a full disk."""

    monkeypatch.setattr(Journal, "write", fail)
    (user,) = users(emulated, 1)
    line = ["make", "--from", people(tmp_path, photos, [user]), "--journal", tmp_path / "people.db", "--out", tmp_path]
    done = avaturn(*line, env=against(emulated))
    assert (1, 0) == (done.exit_code, emulated.counts["create_avatar"])
    assert "line 2: the journal could not be written" in done.stderr


def test_ctrl_c(emulated: EmulatorThread, photos: list[Path], tmp_path: Path) -> None:
    """A note says how to continue, and the next run awaits the scan that was started."""
    emulated.timing = Timing(scan=3600)
    (user,) = users(emulated, 1)
    people(tmp_path, photos, [user])
    line = ["make", "--from", "people.csv", "--journal", "people.db", "--json"]
    with process(*line, cwd=tmp_path, env=against(emulated)) as running:
        while not emulated.counts["list_user_avatars"]:
            time.sleep(0.05)
        code, _, err = interrupt(running)
    assert (130, ["0 were done; the same command continues from here", "avaturn: interrupted"]) == (code, err[-2:])
    assert 1 == len(avatars_of(emulated, [user])[user])


def killed_and_resumed(
    emulated: EmulatorThread, photos: list[Path], folder: Path, count: int, *, with_users: bool
) -> None:
    """Make avatars, kill the process once a third is made, run it again, and check every person."""
    emulated.timing = Timing(scan=0.3, export=0.3, jitter=0.5, upload=0.2)
    ids = users(emulated, count) if with_users else []
    photo = [photo.name for photo in photos]
    rows = [{"n": n, "frontal": photo[0], "side_1": photo[1], "side_2": photo[2]} for n in range(count)]
    for row in rows:
        if with_users:
            row["user_id"] = ids[row["n"]]  # type: ignore[index]
        else:
            (folder / f"{row['n']}.jpg").hardlink_to(photos[0])
            row["frontal"] = f"{row['n']}.jpg"
    (folder / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = ["make", "--from", "people.jsonl", "--journal", "people.db", "--out", "models", "--name", "{n}.glb"]
    line += ["--body-type", "male", "--json", "--max-pending", str(max(count // 4, 12))]
    with process(*line, cwd=folder, env=against(emulated)) as running:
        assert running.stdout is not None
        for _ in range(count // 3):
            assert "error" not in json.loads(running.stdout.readline())
        running.kill()
    emulated.settled()
    with process(*line, cwd=folder, env=against(emulated)) as running:
        out, err = running.communicate(timeout=300)
    *outcomes, end = records(out)
    unknown = {one["line"] for one in outcomes if "error" in one}
    print(f"{len(unknown)} unknown, {end['before']} of {end['done']} done before")
    assert {"OutcomeUnknownError"} >= {one["error"] for one in outcomes if "error" in one}, err
    assert (count, count - len(unknown), count // 3 <= end["before"] < count) == (len(outcomes), end["done"], True)
    found = avatars_of(emulated, [one["user_id"] for one in outcomes])
    assert {1: count} == Counter(len(avatars) for avatars in found.values())
    assert count == emulated.counts["create_avatar"]
    for one in outcomes:
        ((avatar, status),) = found[one["user_id"]]
        assert "pending" if one["line"] in unknown else "ready" == status
        assert avatar in (one["avatar_id"], one.get("message", "").split("avatar ")[-1][:36])
    models = {file.name: file.read_bytes()[:4] for file in (folder / "models").glob("*.glb")}
    assert {f"{n}.glb": b"glTF" for n in range(count) if n + 1 not in unknown} == models
    assert all(found[one["user_id"]][0][0] in err for one in outcomes if one["line"] in unknown)


@pytest.mark.slow
def test_killed_and_resumed(emulated: EmulatorThread, photos: list[Path], tmp_path: Path) -> None:
    """Each person has exactly one avatar and one model, or is reported."""
    killed_and_resumed(emulated, photos, tmp_path, 12, with_users=True)


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("with_users", [True, False], ids=["users", "new-users"])
def test_many_killed_and_resumed(
    with_users: bool, emulated: EmulatorThread, photos: list[Path], tmp_path: Path
) -> None:
    """The same with a table of 200, or in short 40, with users and without."""
    killed_and_resumed(emulated, photos, tmp_path, scaled(200, 40), with_users=with_users)
