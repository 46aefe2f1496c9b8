"""Commands that call the API."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from avaturn_async.cli.command import Access, Hooks
from avaturn_async.emulator import EmulatorThread, Faults

from .kit import AVATAR, SECRET, against, avaturn, free_port, records

Run = Callable[..., Result]


@pytest.fixture
def call(emulated: EmulatorThread) -> Run:
    """Run commands against the emulator."""
    return lambda *args, **options: avaturn(*args, env=against(emulated), **options)


@pytest.fixture
def user(call: Run) -> str:
    """Make a user."""
    return call("users", "create").stdout.strip()


@pytest.fixture
def outfit(emulated: EmulatorThread, tmp_path: Path) -> Path:
    """Write a customization."""
    file = tmp_path / "outfit.json"
    file.write_text(json.dumps(emulated.catalogue.outfit() | {"later": "kept"}))
    return file


@pytest.fixture
def avatar(call: Run, user: str, photos: list[Path], outfit: Path) -> str:
    """Make an avatar that can be exported."""
    made = call("avatars", "create", user, *photos, "--body-type", "female", "--customization", outfit)
    assert 0 == made.exit_code, made.stderr
    return made.stdout.strip()


def test_users(call: Run) -> None:
    """A user is made, deleted, and not there to be deleted again."""
    user = records(call("users", "create", "--json").stdout)[0]["user_id"]
    assert f"deleted user {user}\n" == call("users", "delete", user).stdout
    again = call("users", "delete", user)
    assert (1, 1) == (again.exit_code, len(again.stderr.splitlines()))
    missing = call("users", "delete", user, "--missing-ok", "--json")
    assert (0, [{"user_id": user, "deleted": False}]) == (missing.exit_code, records(missing.stdout))
    assert f"there is no user {user}\n" == call("users", "delete", user, "--missing-ok").stdout


def test_avatar_of_photos(call: Run, user: str, avatar: str) -> None:
    """The new avatar is in its user's list, until it is deleted."""
    listed = call("avatars", "list", user).stdout.splitlines()
    assert ["avatar", "status"] == listed[0].split()
    assert [avatar, "ready"] == listed[1].split()
    assert [{"avatar_id": avatar, "status": "ready"}] == records(
        call("avatars", "list", user, "--all", "--json").stdout
    )
    assert f"deleted avatar {avatar}\n" == call("avatars", "delete", user, avatar).stdout
    assert [] == records(call("avatars", "list", user, "--json").stdout)


def test_avatar_without_customization(call: Run, user: str, photos: list[Path]) -> None:
    """Which avatar it is is said before the wait, and the result is a record."""
    made = call(
        "avatars", "create", user, *photos, "--body-type", "male", "--telephoto", "--no-customization", "--json"
    )
    (record,) = records(made.stdout)
    assert "ready" == record["status"]
    uploaded, hint = made.stderr.splitlines()
    assert f"uploaded the photos of avatar {record['avatar_id']}; waiting for the scan" == uploaded
    assert f"avaturn avatars customization set {record['avatar_id']} FILE" in hint


def test_an_upload_has_a_bar(call: Run, user: str, photos: list[Path], emulated: EmulatorThread) -> None:
    """On a terminal, until the photos are sent."""
    environment = against(emulated) | {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    made = avaturn("avatars", "create", user, *photos, "--body-type", "male", env=environment)
    assert "photos, kB" in made.stderr
    assert 36 == len(made.stdout.strip())


def test_customization_there_and_back(call: Run, avatar: str, tmp_path: Path) -> None:
    """`set` accepts the output of `get`, and unknown fields are kept."""
    shown = call("avatars", "customization", "get", avatar).stdout
    file = tmp_path / "changed.json"
    file.write_text(json.dumps(json.loads(shown) | {"age": "adult"}))
    assert f"customized avatar {avatar}\n" == call("avatars", "customization", "set", avatar, file).stdout
    changed = records(call("avatars", "customization", "get", avatar, "--json").stdout)[0]
    assert json.loads(shown) | {"age": "adult"} == changed


def test_customization_from_stdin(call: Run, avatar: str, outfit: Path) -> None:
    """A dash is stdin."""
    done = call("avatars", "customization", "set", avatar, "-", "--json", stdin=outfit.read_bytes())
    assert [{"avatar_id": avatar, "customized": True}] == records(done.stdout)


@pytest.mark.parametrize(
    "options", [[], ["--type", "create"], ["--type", "edit_existing", "--avatar"]], ids=["any", "create", "edit"]
)
def test_sessions(call: Run, user: str, avatar: str, options: list[str]) -> None:
    """A session's link is printed."""
    chosen = [*options, avatar] if "--avatar" in options else options
    assert call("sessions", "create", user, *chosen).stdout.startswith("http://127.0.0.1:")
    assert {"session_id", "url"} == set(records(call("sessions", "create", user, *chosen, "--json").stdout)[0])


def test_export(call: Run, avatar: str, tmp_path: Path) -> None:
    """A model is downloaded once, however often its id is given, into a folder that is made."""
    done = call("export", avatar, avatar.upper(), "--out", tmp_path / "new" / "models")
    file = tmp_path / "new" / "models" / f"{avatar}.glb"
    assert 0 == done.exit_code
    assert "exports: 0 of 1\nexports: 1 of 1\n" == done.stderr
    assert [file] == [path for path in file.parent.iterdir() if not path.name.startswith(".")]
    heading, row = done.stdout.splitlines()
    assert ["avatar", "by", "took", "polls", "size", "file"] == heading.split()
    assert [avatar, file.name] == [row.split()[0], row.split()[-1]]


def test_export_again(call: Run, avatar: str, tmp_path: Path) -> None:
    """Files are replaced when that was asked for."""
    for _ in range(2):
        done = call("export", avatar, "--out", tmp_path, "--overwrite", "--json")
    (record,) = records(done.stdout)
    content = (tmp_path / f"{avatar}.glb").read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (record["size"], record["sha256"])


def test_export_by_webhook(call: Run, emulated: EmulatorThread, avatar: str, tmp_path: Path) -> None:
    """With a receiver, the end is reported by webhook."""
    emulated.timing = type(emulated.timing)(export=0.3)
    port = free_port()
    emulated.webhook_url = f"http://127.0.0.1:{port}/avaturn/{SECRET}"
    done = call("export", avatar, "--out", tmp_path, "--json", "--webhook-port", port, "--secret", SECRET)
    assert "webhook" == records(done.stdout)[0]["resolved_by"]
    assert SECRET not in done.output


def test_one_export_of_two_fails(call: Run, avatar: str, tmp_path: Path) -> None:
    """The other is done all the same; the exit code says that one failed."""
    done = call("export", AVATAR, avatar, "--out", tmp_path, "--json")
    told = {record["avatar_id"]: record.get("error") for record in records(done.stdout)}
    assert 1 == done.exit_code
    assert {AVATAR: "NotFoundError", avatar: None} == told
    assert 1 == len([line for line in done.stderr.splitlines() if line.startswith("avaturn: ") and AVATAR in line])


def test_all_exports_fail(call: Run, tmp_path: Path) -> None:
    """There is no table of nothing."""
    done = call("export", AVATAR, "--out", tmp_path)
    assert (1, "") == (done.exit_code, done.stdout)


def test_wrong_token(emulated: EmulatorThread, tmp_path: Path) -> None:
    """A refused token is reported once for all avatars, and not shown."""
    wrong = against(emulated) | {"AVATURN_API_TOKEN": "wrong-token"}
    done = avaturn("export", AVATAR, AVATAR[::-1][:8] + AVATAR[8:], "--out", tmp_path, env=wrong)
    assert 1 == done.exit_code
    assert 1 == len([line for line in done.stderr.splitlines() if line.startswith("avaturn: ")])
    assert "wrong-token" not in done.output


def test_render(call: Run, emulated: EmulatorThread, avatar: str, tmp_path: Path) -> None:
    """An image of the asked format is downloaded when its webhook came."""
    port = free_port()
    emulated.webhook_url = f"http://127.0.0.1:{port}/avaturn/{SECRET}"
    hooks = ["--webhook-port", port, "--secret", SECRET, "--out", tmp_path]
    done = call("render", avatar, "--scene", "common/forest_half_body", "--format", "png", *hooks)
    file = tmp_path / f"{avatar}-common-forest_half_body.png"
    assert done.stdout.startswith(f"{file} (")
    assert b"\x89PNG" == file.read_bytes()[:4]
    (record,) = records(call("render", avatar, *hooks, "--json", "--overwrite").stdout)
    assert ("webhook", str(tmp_path / f"{avatar}-common-preview.jpg")) == (record["resolved_by"], record["file"])


def test_render_without_a_webhook(call: Run, avatar: str, tmp_path: Path) -> None:
    """The error says that no webhook came, and what to check."""
    hooks = ["--webhook-port", 0, "--secret", SECRET, "--out", tmp_path]
    done = call("render", avatar, *hooks, "--timeout", "0.2")
    assert (1, "") == (done.exit_code, done.stdout)
    assert "no webhook reported the end of render " in done.stderr
    assert "check that the url in the developer portal leads to 127.0.0.1:0" in done.stderr


def test_avatar_from_photos_can_be_exported(call: Run, user: str, photos: list[Path], tmp_path: Path) -> None:
    """Without further options a customization is set, so that the next command works."""
    made = call("avatars", "create", user, *photos, "--body-type", "female")
    done = call("export", made.stdout.strip(), "--out", tmp_path)
    assert 0 == done.exit_code, done.stderr


def test_proxy_of_the_environment(emulated: EmulatorThread, tmp_path: Path) -> None:
    """HTTPS_PROXY is used for the API; NO_PROXY and loopback addresses are exempt."""
    port = free_port()
    proxied = {"AVATURN_API_TOKEN": "token", "https_proxy": f"http://127.0.0.1:{port}", "no_proxy": ""}
    done = avaturn("users", "create", "--base-url", "https://avaturn.example", env=proxied)
    assert 1 == done.exit_code
    assert str(port) in done.stderr
    assert 0 == avaturn("users", "create", env=against(emulated) | {"http_proxy": f"http://127.0.0.1:{port}"}).exit_code


def test_plain_http_is_allowed_by_option() -> None:
    """Otherwise the refusal names the option."""
    line = ["users", "create", "--base-url", "http://avaturn.example", "--proxy", f"http://127.0.0.1:{free_port()}"]
    refused = avaturn(*line, env={"AVATURN_API_TOKEN": "token"})
    assert (2, True) == (refused.exit_code, "give --allow-http" in refused.stderr)
    assert 1 == avaturn(*line, "--allow-http", env={"AVATURN_API_TOKEN": "token"}).exit_code


def test_server_that_fails(call: Run, emulated: EmulatorThread) -> None:
    """An API that answers only errors is reported on one line."""
    emulated.faults = Faults(rate_limited=1, retry_after=900)
    done = call("users", "create")
    assert (1, "", 1) == (done.exit_code, done.stdout, len(done.stderr.splitlines()))


def test_nobody_there() -> None:
    """So is a host that can't be reached."""
    env = {"AVATURN_API_TOKEN": "token", "AVATURN_BASE_URL": f"http://127.0.0.1:{free_port()}"}
    done = avaturn("users", "create", env=env)
    assert (1, 1) == (done.exit_code, len(done.stderr.splitlines()))


def test_reprs_hide_secrets() -> None:
    """What a traceback printer shows of a command's options has no secrets in it."""
    assert "<Access to Avaturn>" == repr(Access("token", None))
    assert "<Hooks at ::1:80>" == repr(Hooks("::1", 80, SECRET))
