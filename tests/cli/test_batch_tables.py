"""``avaturn batch`` on tables: names from columns, reports, what failed and is tried again, and object stores."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from uuid import UUID

import pytest

from avaturn_async import AvaturnClient
from avaturn_async.cli.reports import histogram
from avaturn_async.emulator import EmulatorThread, Faults, Timing
from tests.downloads.kit import S3
from tests.npm import chromium

from .kit import AVATAR, against, avaturn, interrupt, process, read_until, records

WORKER = Path(__file__).with_name("table_worker.py")


@pytest.fixture
def avatars(emulated: EmulatorThread) -> list[str]:
    """Make five avatars of one user, in editor sessions."""

    async def sessions() -> list[UUID]:
        async with AvaturnClient(emulated.token, base_url=emulated.url) as client:
            user = await client.users.create()
            return [(await client.sessions.create(user.id)).id for _ in range(5)]

    ids = [str(emulated.complete_session(session)) for session in asyncio.run(sessions())]
    emulated.settled()
    return ids


def rows_of(file: Path) -> list[dict[str, str]]:
    """Read a CSV."""
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def spreadsheet(*rows: tuple[str, ...]) -> bytes:
    """Return a table as a spreadsheet in a German or French Windows saves it."""
    return "\r\n".join(["\ufeffName;ID;Notiz", *(";".join(row) for row in rows), ";;", ""]).encode()


def test_a_spreadsheet(emulated: EmulatorThread, avatars: list[str], tmp_path: Path) -> None:
    """Unusable rows are reported with their lines; the others are exported under names from their columns."""
    missing, repeated = "0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f01", "0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f02"
    table = spreadsheet(
        ("Zoë", avatars[0], '"zwei\r\nZeilen"'),
        ("", "", ""),
        ("..", avatars[1], ""),
        ("NUL", avatars[2], ""),
        ("x" * 300, avatars[3], ""),
        ("zoë", repeated, ""),
        ("Ada", avatars[4].upper(), ""),
        ("Bob", avatars[4], ""),
        ("Eve", "junk", ""),
        ("Mia", missing, "weg"),
    )
    files = ["--report", tmp_path / "r.csv", "--failed-to", tmp_path / "f.csv", "--html", tmp_path / "r.html"]
    line = ["batch", "--column", "ID", "--name", "{Name}/{avatar_id}.glb", "--out", tmp_path / "models", *files]
    done = avaturn(*line, env=against(emulated), stdin=table)
    assert 1 == done.exit_code
    named = {str(file.relative_to(tmp_path / "models")) for file in (tmp_path / "models").rglob("*.glb")}
    assert {f"Zoë/{avatars[0]}.glb", f"Ada/{avatars[4]}.glb"} == named
    told = done.stderr.splitlines()
    for number, text in [
        (5, "not a plain relative path"),
        (6, "Windows reserves"),
        (7, "longer than"),
        (10, f"avatar {avatars[4]} is also that of line 9"),
        (11, "ID must be a UUID"),
    ]:
        assert any(f"line {number}: " in one and text in one for one in told), told
    assert any(missing in one for one in told)

    report = {int(row["line"]): row for row in rows_of(tmp_path / "r.csv")}
    assert {2: "True", 9: "True"} == {line: row["ok"] for line, row in report.items() if row["ok"] == "True"}
    assert ("Zoë", "zwei\r\nZeilen") == (report[2]["Name"], report[2]["Notiz"])
    assert {5, 6, 7, 8, 10, 11, 12} == {line for line, row in report.items() if row["ok"] == "False"}
    failed = rows_of(tmp_path / "f.csv")
    assert ["Name", "ID", "Notiz", "error", "message"] == list(failed[0])
    assert {"..", "NUL", "x" * 300, "zoë", "Bob", "Eve", "Mia"} == {row["Name"] for row in failed}
    page = (tmp_path / "r.html").read_text()
    assert (2, 7) == (page.count('<tr class="done">'), page.count('<tr class="failed">'))
    assert [] == [file.name for file in tmp_path.iterdir() if file.name.endswith(".part")]


def test_a_file_that_is_no_table(emulated: EmulatorThread, tmp_path: Path) -> None:
    """Its line is named once."""
    done = avaturn("batch", "--out", tmp_path, env=against(emulated), stdin=b"\xff\xd8\xff\x00\n")
    assert 1 == done.exit_code
    assert "avaturn: line 1: it is not in UTF-8: save the table as 'CSV UTF-8'" in done.stderr.splitlines()


def test_names_that_only_their_case_tells_apart_are_one_file() -> None:
    """What fails in a folder for the sake of some file systems is fine in a store."""
    table = f"n,avatar_id\na,{UUID(int=1)}\nA,{UUID(int=2)}\n".encode()
    for store, code in ([], 1), (["--to", "memory:///"], 0):
        done = avaturn("batch", "--name", "{n}.glb", "--dry-run", *store, stdin=table)
        assert code == done.exit_code, done.output


def test_what_failed_is_a_table_again(emulated: EmulatorThread, avatars: list[str], tmp_path: Path) -> None:
    """--failed-to may be the file of --from: it is replaced at the end, and empty once nothing fails."""
    emulated.faults = Faults(job_failures=1.0)
    file = tmp_path / "failed.csv"
    file.write_text("avatar_id,n\n" + "".join(f"{avatar},{n}\n" for n, avatar in enumerate(avatars)))
    line = ["batch", "--from", file, "--failed-to", file, "--name", "{n}.glb", "--out", tmp_path]
    assert 1 == avaturn(*line, env=against(emulated)).exit_code
    assert [("JobFailedError", str(n)) for n in range(5)] == sorted((row["error"], row["n"]) for row in rows_of(file))
    emulated.faults = Faults(restart_failed=True)
    assert 0 == avaturn(*line, env=against(emulated)).exit_code
    assert ["avatar_id,n,error,message"] == file.read_text().splitlines()


def test_an_interrupted_batch_replaces_no_file(emulated: EmulatorThread, avatars: list[str], tmp_path: Path) -> None:
    """What was to be tried again is still in the file that it was read from."""
    emulated.timing = Timing(export=3600)
    table = "\n".join(["avatar_id", *avatars, "junk"])
    (tmp_path / "failed.csv").write_text(table)
    line = ["batch", "--from", "failed.csv", "--failed-to", "failed.csv", "--html", "page.html", "--json"]
    with process(*line, cwd=tmp_path, env=against(emulated)) as running:
        read_until(running.stdout, "junk")
        assert 130 == interrupt(running)[0]
    assert ["failed.csv"] == [file.name for file in tmp_path.iterdir()]
    assert table == (tmp_path / "failed.csv").read_text()


def test_retry(emulated: EmulatorThread, avatars: list[str], tmp_path: Path) -> None:
    """What failed is exported from the journal alone, under the names that it had."""
    emulated.faults = Faults(job_failures=1.0)
    table = tmp_path / "table.jsonl"
    table.write_text("".join(json.dumps({"avatar_id": avatar, "n": n}) + "\n" for n, avatar in enumerate(avatars)))
    journal, out = tmp_path / "batch.db", tmp_path / "models"
    line = ["batch", "--from", table, "--name", "{n}.glb", "--journal", journal, "--out", out]
    assert 1 == avaturn(*line, env=against(emulated)).exit_code
    emulated.faults = Faults(restart_failed=True)
    again = ["batch", "--retry", journal, "--out", out, "--report", tmp_path / "report.jsonl"]
    shown = avaturn(*again, "--dry-run", "--json", env=against(emulated))
    assert {(f"{n}.glb", avatar) for n, avatar in enumerate(avatars)} == {
        (record["file"], record["avatar_id"]) for record in records(shown.stdout)
    }
    done = avaturn(*again, env=against(emulated))
    assert 0 == done.exit_code, done.stderr
    assert {f"{n}.glb" for n in range(5)} == {file.name for file in out.iterdir()}
    assert {2} == {record["attempts"] for record in records((tmp_path / "report.jsonl").read_text())}
    assert "0 done, 0 failed" in avaturn(*again, env=against(emulated)).stdout


def test_dry_run() -> None:
    """It says what would be done, and needs no token."""
    table = "\n".join(["avatar_id,n", *(f"{UUID(int=n)},{n}" for n in range(12)), "junk,x", AVATAR])
    done = avaturn("batch", "--dry-run", "--name", "{n}.glb", stdin=table.encode())
    assert (1, "12 can be done (2 more than shown), 2 can't; nothing was sent") == (
        done.exit_code,
        done.stdout.splitlines()[-1],
    )
    assert 11 == len(re.findall(r"\d+ +\d\.glb|line +file", done.stdout))
    assert "line 15: it has no n" in done.stderr
    *good, junk, _ = records(avaturn("batch", "--dry-run", "--json", "--name", "{n}.glb", stdin=table.encode()).stdout)
    assert {"line": 2, "file": "0.glb", "avatar_id": str(UUID(int=0)), "n": "0"} == good[0]
    assert (14, "ValueError") == (junk["line"], junk["error"])


@pytest.mark.slow
def test_to_s3(emulated: EmulatorThread, avatars: list[str], tmp_path: Path) -> None:
    """Models go into a bucket, with the settings of the environment."""
    with S3() as s3:
        s3.store()
        env = against(emulated) | {
            "AWS_ENDPOINT_URL": s3.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
        }
        line = ["batch", "--to", "s3://bucket/new/models", "--report", tmp_path / "r.csv"]
        done = avaturn(*line, env=env, stdin="\n".join(avatars).encode())
        assert 0 == done.exit_code, done.stderr
        written = {name for method, name, _ in s3.requests if method in ("PUT", "POST")}
    assert {f"new/models/{avatar}.glb" for avatar in avatars} == written
    assert {f"{avatar}.glb" for avatar in avatars} == {row["file"] for row in rows_of(tmp_path / "r.csv")}
    assert done.stdout.splitlines()[1].endswith(" in s3://bucket/new/models")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--from ids.csv", "ids.csv has no column 'avatar_id', but 'id', 'name'"),
        ("--from ids.csv --column id --name {user}.glb", "the template '{user}.glb' names 'user', but the columns are"),
        ("--from ids.csv --column id --to models", "--to models is not the url of an object store, such as"),
        ("--from ids.csv --column id --to s3://b --out models", "--out and --to exclude each other"),
        ("--from ids.csv --column id --report none/report.csv", "none/.report.csv.part: No such file"),
        ("--retry none.db", "none.db: No such file"),
        ("--retry none.db --from ids.csv", "leave out --from, --name and --journal"),
    ],
)
def test_refusals(
    emulated: EmulatorThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    """A usage error is reported on one line, before any request."""
    monkeypatch.chdir(tmp_path)
    Path("ids.csv").write_text(f"id,name\n{AVATAR},a\n")
    done = avaturn("batch", *line.split(), env=against(emulated))
    assert (2, "", 1) == (done.exit_code, done.stdout, len(done.stderr.splitlines())), done.stderr
    assert said in done.stderr
    assert () == emulated.requests


def test_histogram() -> None:
    """Bars have a round width, and every value is in one."""
    assert (0.05, [2]) == histogram([0.0, 0.0])
    width, bars = histogram([0.0, 0.05, 3.9, 40.0])
    assert (2.0, 4, 20) == (width, sum(bars), len(bars))


def large(folder: Path, count: int) -> int:
    """Run a batch of so many rows in a process of its own, check what it wrote, and return its peak memory."""
    folder.mkdir()
    with (folder / "people.csv").open("w") as file:
        file.writelines(["user;avatar_id\n", *(f"user-{n};{UUID(int=n)}\n" for n in range(count))])
    line = [sys.executable, WORKER, "--from", "people.csv", "--name", "{user}/{avatar_id}.glb"]
    line += ["--report", "report.csv", "--failed-to", "failed.csv", "--html", "report.html", "--json"]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert 1 == done.returncode, done.stderr
    *outcomes, end = records(done.stdout)
    told = {one["avatar_id"]: one.get("error") for one in outcomes}
    assert (count, {None: count - count // 20, "ServerError": count // 20}) == (len(told), Counter(told.values()))
    assert (count - count // 20, count // 20) == (end["done"], end["failed"])
    report = rows_of(folder / "report.csv")
    assert told == {row["avatar_id"]: row["error"] or None for row in report}
    assert all(UUID(int=int(row["line"]) - 2) == UUID(row["avatar_id"]) for row in report)
    assert all(f"user-{int(row['line']) - 2}" == row["user"] for row in report)
    failed = {row["avatar_id"]: row["error"] for row in rows_of(folder / "failed.csv")}
    assert {avatar: error for avatar, error in told.items() if error} == failed
    page = (folder / "report.html").read_text()
    shown = re.findall(r'<tr class="(done|failed)"><td class="number">\d+</td><td>([^<]+)</td>', page)
    assert {avatar: "failed" if error else "done" for avatar, error in told.items()} == {b: a for a, b in shown}
    assert f'<td class="number">{count // 20:,}</td><td>ServerError</td>' in page
    assert "<script" not in page
    return int(done.stderr.split()[-1])


def test_files_agree_with_the_outcomes(tmp_path: Path) -> None:
    """Report, failed rows and page have the outcomes of all rows."""
    large(tmp_path / "rows", 600)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_memory_of_a_large_table(tmp_path: Path) -> None:
    """10,000 rows take at most a quarter as much memory again as 1,000."""
    small, big = large(tmp_path / "small", 1_000), large(tmp_path / "big", 10_000)
    print(f"{small / 1024:.1f} MiB, {big / 1024:.1f} MiB")
    assert big <= 1.25 * small


@pytest.mark.npm
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    """Chromium shows all rows, the bars and the reasons, and fetches nothing."""
    large(tmp_path / "rows", 2_000)
    command = [chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,1400"]
    command += [f"--screenshot={tmp_path / 'page.png'}", "--dump-dom", (tmp_path / "rows" / "report.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert (1_900, 100) == (done.stdout.count('<tr class="done">'), done.stdout.count('<tr class="failed">'))
    assert 20 == done.stdout.count('<i style="height:')
    assert (tmp_path / "page.png").stat().st_size > 10_000
    assert "http" not in done.stdout.replace("http-equiv", "")
