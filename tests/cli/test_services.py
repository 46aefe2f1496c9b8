"""``avaturn emulator`` and ``avaturn listen``, which run until Ctrl-C."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from avaturn_async.cli.listen import refusal
from avaturn_async.emulator import Emulator

from .kit import AVATAR, SECRET, avaturn, interrupt, process, read_until, records

pytestmark = pytest.mark.slow(measured=True)  # each test starts processes of the command

READY = {"event": "export.ready", "avatar_id": AVATAR, "user_id": "me", "status": "ready"}
LINK = "https://files.example/model.glb"


def post(url: str, body: Any) -> int:
    """Post a webhook and return the status."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, content, method="POST")) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def first_record(running: subprocess.Popen[str]) -> dict[str, Any]:
    """Read the first line of JSON."""
    assert running.stdout is not None
    return records(running.stdout.readline())[0]


def test_the_banner_of_the_emulator_leads_to_a_model(tmp_path: Path) -> None:
    """Its environment and commands, and a finished session, are all it takes."""
    with process("emulator", "--port", 0, "--scan-seconds", 0, cwd=tmp_path) as emulator:
        lines = [read_until(emulator.stdout, f"export {name}=") for name in ("AVATURN_BASE_URL", "AVATURN_API_TOKEN")]
        env = dict(line.removeprefix("export ").strip().split("=") for line in lines)
        read_until(emulator.stdout, "--body-type female")
        user = avaturn("users", "create", env=env).stdout.strip()
        link = avaturn("sessions", "create", user, env=env).stdout.strip()
        with urllib.request.urlopen(link, b"") as page:
            avatar = page.read().decode().partition("<code>")[2].partition("</code>")[0]
        assert 0 == avaturn("export", avatar, "--out", tmp_path, env=env).exit_code
        assert (130, "", ["avaturn: interrupted"]) == interrupt(emulator)
    assert [f"{avatar}.glb"] == [path.name for path in tmp_path.iterdir()]


def test_emulator_with_options(tmp_path: Path) -> None:
    """Options reach the emulator, and --json prints its url."""
    options = ["--token", "mine", "--server-errors", "1", "--export-seconds", "9", "--body", "T1"]
    with process("emulator", "--port", 0, "--json", *options, cwd=tmp_path) as emulator:
        told = first_record(emulator)
        assert ("mine", None) == (told["token"], told["webhook_url"])
        assert 1 == avaturn("avatars", "list", "me", "--token", "mine", "--base-url", told["url"]).exit_code
        assert 130 == interrupt(emulator)[0]


def test_the_token_of_the_emulator_is_random(tmp_path: Path) -> None:
    """It is not that of an emulator in a test, which is derived from the seed."""
    with process("emulator", "--port", 0, "--json", "--public-url", "http://avaturn.test", cwd=tmp_path) as emulator:
        told = first_record(emulator)
        assert "http://avaturn.test" == told["url"]
        assert told["token"].startswith("emulator-")
        assert Emulator().token != told["token"]
        interrupt(emulator)


def test_an_emulator_that_can_not_be_made() -> None:
    """One line names the option's field."""
    done = avaturn("emulator", "--port", 0, "--webhook-url", "/hooks")
    assert (2, "avaturn: webhook_url must be an absolute http or https url\n") == (done.exit_code, done.stderr)


def test_emulator_at_a_taken_port(tmp_path: Path) -> None:
    """A port in use is reported on one line."""
    with process("emulator", "--port", 0, "--json", cwd=tmp_path) as emulator:
        port = first_record(emulator)["url"].rpartition(":")[2]
        done = avaturn("emulator", "--port", port)
    assert (2, "", 1) == (done.exit_code, done.stdout, len(done.stderr.splitlines()))


def test_listen(tmp_path: Path) -> None:
    """Events are printed as they come, known or not, without what gives access to files."""
    with process("listen", "--port", 0, "--secret", SECRET, cwd=tmp_path) as listening:
        url = read_until(listening.stdout, "developer portal: ").split()[-1]
        assert url.endswith(f"/{SECRET}")
        assert 200 == post(url, READY | {"export_url": f"{LINK}?signature=secret"})
        shown = read_until(listening.stdout, "export.ready").split()
        assert [f"avatar_id={AVATAR}", "user_id=me", "status=ready", f"export_url={LINK}"] == shown[2:]
        assert 202 == post(url, {"event": "user.born", "links": [f"{LINK}#key", 7, "\x1b[31m"]})
        assert f"user.born links=['{LINK}', 7, '\\x1b[31m']" in read_until(listening.stdout, "user.born")
        assert (130, "", ["avaturn: interrupted"]) == interrupt(listening)


def test_listen_refuses(tmp_path: Path) -> None:
    """Refused webhooks are reported on stderr."""
    with process("listen", "--port", 0, "--json", cwd=tmp_path) as listening:
        url = first_record(listening)["url"]
        assert 404 == post(url[:-1], READY)
        assert "does not end with the secret" in read_until(listening.stderr, "refused")
        assert 400 == post(url, b"not JSON")
        assert "it is not an event" in read_until(listening.stderr, "refused")
        assert (130, "", ["avaturn: interrupted"]) == interrupt(listening)


def test_listen_whole_urls(tmp_path: Path) -> None:
    """Whoever asks for urls gets them whole, and the portal's url begins as the world sees it."""
    options = ["--json", "--urls", "--public-url", "https://hooks.example.com", "--secret", SECRET]
    with process("emulator", "--port", 0, "--json", cwd=tmp_path) as emulator:
        port = first_record(emulator)["url"].rpartition(":")[2]
        interrupt(emulator)
    with process("listen", "--port", port, *options, cwd=tmp_path) as listening:
        assert {"url": f"https://hooks.example.com/avaturn/{SECRET}"} == first_record(listening)
        event = READY | {"export_url": f"{LINK}?signature=secret"}
        assert 200 == post(f"http://127.0.0.1:{port}/avaturn/{SECRET}", event)
        assert event == first_record(listening)
        interrupt(listening)


@pytest.mark.parametrize("status", [413, 503])
def test_other_refusals_have_a_reason(status: int) -> None:
    """A refusal without a known reason is reported by its status."""
    assert {413: "refused a webhook: it is too large", 503: "refused a webhook: status 503"}[status] == refusal(status)
