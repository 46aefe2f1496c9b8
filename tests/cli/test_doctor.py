"""``avaturn doctor``."""

from __future__ import annotations

import email.utils
from datetime import timedelta
from importlib import metadata
from typing import Any

import pytest

from avaturn_async.emulator import EmulatorThread

from .kit import SECRET, against, avaturn, free_port, records


def checks(*args: object, **env: str) -> dict[str, tuple[Any, str]]:
    """Return what was found, by name."""
    done = avaturn("doctor", "--json", *args, env=env)
    found = {one["name"]: (one["ok"], one["found"]) for one in records(done.stdout)}
    assert done.exit_code == (False in [ok for ok, _ in found.values()]), done.output
    return found


def test_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions, extras, names of variables and the clock are printed, but no values of variables."""
    for name in ("HTTPS_PROXY", "https_proxy", "AVATURN_LOG", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    found = checks(AVATURN_API_TOKEN="a-token", AVATURN_WEBHOOK_SECRET=SECRET, HTTPS_PROXY="http://me:pass@proxy:3128")
    assert (True, metadata.version("aiohttp")) == found["aiohttp"]
    assert (True, f"{metadata.version('redis')} (extra redis)") == found["redis"]
    assert ((True, "set"), (True, "set")) == (found["AVATURN_API_TOKEN"], found["AVATURN_WEBHOOK_SECRET"])
    assert ((None, "not set"), (True, "proxy:3128")) == (found["AVATURN_BASE_URL"], found["proxy"])
    assert found["clock"][0]
    assert not any(secret in str(found) for secret in ("a-token", SECRET, "pass"))


@pytest.mark.parametrize(
    ("env", "name", "said"),
    [
        ({"AVATURN_API_TOKEN": "'token'"}, "AVATURN_API_TOKEN", "quotation marks"),
        ({"AVATURN_API_TOKEN": "token\n"}, "AVATURN_API_TOKEN", "spaces"),
        ({"AVATURN_WEBHOOK_SECRET": "short"}, "AVATURN_WEBHOOK_SECRET", "at least 22 characters"),
        ({"HTTPS_PROXY": "http://["}, "proxy", "malformed"),
    ],
)
def test_what_is_wrong(env: dict[str, str], name: str, said: str) -> None:
    """A problem is reported, with exit code 1."""
    ok, found = checks(**env)[name]
    assert ok is False
    assert said in found


def test_a_missing_requirement(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of an extra may be missing, one that is always needed may not."""

    def version(name: str) -> str:
        if name in ("cattrs", "redis"):
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(metadata, "version", version)
    found = checks()
    assert ((False, "not installed"), (None, "not installed (extra redis)")) == (found["cattrs"], found["redis"])
    monkeypatch.setattr(metadata, "requires", lambda _: (_ for _ in ()).throw(metadata.PackageNotFoundError))
    assert "not installed as a package" in checks()["avaturn-async"]


def test_the_api(emulated: EmulatorThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers of the API are explained, and its clock is compared."""
    env = against(emulated)
    found = checks("--check-api", **env)
    assert (True, True) == (found["API"][0], found["clock of the API"][0])
    assert found["API"][1].startswith("answered 404: it was reached and takes the token")
    ok, said = checks("--check-api", **env | {"AVATURN_API_TOKEN": "wrong"})["API"]
    assert (False, True) == (ok, said.startswith("answered 401: "))
    parse = email.utils.parsedate_to_datetime
    monkeypatch.setattr(email.utils, "parsedate_to_datetime", lambda date: parse(date) - timedelta(hours=1))
    ok, said = checks("--check-api", **env)["clock of the API"]
    assert (False, True) == (ok, said.startswith("differs by 3"))
    monkeypatch.setattr(email.utils, "parsedate_to_datetime", lambda date: parse("yesterday"))
    unknown = None, "unknown: the answer has no valid Date header"
    assert unknown == checks("--check-api", **env)["clock of the API"]


def test_an_api_that_can_not_be_asked(emulated: EmulatorThread) -> None:
    """The reason why there is no answer is reported on one line."""
    ok, said = checks("--check-api", **against(emulated) | {"AVATURN_API_TOKEN": ""})["API"]
    assert (False, True) == (ok, "no API token" in said)
    nowhere = checks("--check-api", AVATURN_API_TOKEN="t", AVATURN_BASE_URL=f"http://127.0.0.1:{free_port()}")
    assert (False, None) == (nowhere["API"][0], nowhere["clock of the API"][0])
    assert all("(nothing listens there)" in nowhere[name][1] for name in ("API", "clock of the API"))


def test_for_people() -> None:
    """A table has a line for each check."""
    shown = avaturn("doctor").stdout.splitlines()
    assert ["check", "found"] == shown[0].split()
    assert any(line.split()[:2] == ["python", "ok"] for line in shown)
