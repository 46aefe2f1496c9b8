"""What can't be done is refused in one line with exit code 2, before any request."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from avaturn_async.emulator import EmulatorThread

from .kit import AVATAR, SECRET, against, avaturn

HOOKS = ["--webhook-port", "0", "--secret", SECRET]


@pytest.fixture
def files(tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Be in a folder with photos, and with files that are no photos and no customizations."""
    monkeypatch.chdir(tmp_path)
    Path("text.jpg").write_text("not a photo")
    Path("text.json").write_text("not JSON")
    Path("wrong.json").write_text('{"assets": 7, "body": "body_0"}')
    Path(f"{AVATAR}.glb").touch()
    Path(f"{AVATAR}-common-preview.jpg").touch()


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("export not-a-uuid", "the avatar's id must be a UUID, such as "),
        (f"export {AVATAR}", f"{AVATAR}.glb: it exists already; --overwrite replaces it"),
        (f"export {AVATAR} --out text.jpg", "text.jpg: Not a directory"),
        (f"export {AVATAR} --webhook-port 0", "--webhook-port needs AVATURN_WEBHOOK_SECRET"),
        (f"export {AVATAR} --webhook-port 0 --secret short", "the path secret must be at least 22 characters"),
        (f"export {AVATAR} --timeout -1", "Invalid value for '--timeout'"),
        (f"export {AVATAR} --base-url http://example.com", "http"),
        ("export", "Missing argument 'ID...'"),
        ("exprot", "No such command 'exprot'. Did you mean 'export'?"),
        ("users create --nonsense", "No such option: --nonsense"),
        (
            f"render {AVATAR}",
            "the end of a render is reported only by webhook: give --webhook-port and set AVATURN_WEBHOOK_SECRET",
        ),
        (f"render {AVATAR} --format gif --webhook-port 0 --secret {SECRET}", "Invalid value for '--format'"),
        ("trigger avatar.redy --to http://127.0.0.1:1/", "'EVENT': 'avatar.redy' is not one of 'avatar.ready', "),
        (f"render {AVATAR} --scene= --webhook-port 0 --secret {SECRET}", "scene must be letters, digits"),
        (f"render {AVATAR} --webhook-port 0 --secret {SECRET}", "common-preview.jpg: it exists already"),
        (f"render 7 --webhook-port 0 --secret {SECRET}", "the avatar's id must be a UUID"),
        ("avatars create me frontal.jpg side-1.jpg none.jpg --body-type male", "none.jpg: Photos.side_2 can't be read"),
        (
            "avatars create me frontal.jpg text.jpg side-2.jpg --body-type male",
            "Photos.side_1 ('text.jpg') is not a JP",
        ),
        ("avatars create me frontal.jpg side-1.jpg side-2.jpg --body-type neither", "must be 'male' or 'female'"),
        ("avatars create me a b c --body-type male --customization none.json", "none.json: No such file"),
        (f"avatars customization set {AVATAR} text.json", "text.json: is not JSON: "),
        (f"avatars customization set {AVATAR} wrong.json", "wrong.json: does not follow the contract at $.assets"),
        ("avatars customization get 12", "avatar_id must be a UUID"),
        ("avatars delete me 12", "avatar_id must be a UUID"),
        ("sessions create me --type edit_existing", "--type edit_existing and --avatar ID go together"),
        (f"sessions create me --avatar {AVATAR}", "--type edit_existing and --avatar ID go together"),
        ("sessions create me --type edit_existing --avatar 12", "--avatar must be a UUID"),
        ("listen --public-url nope", "--public-url must be an http or https url with a host, not 'nope'"),
        ("avatars create me a b c --body-type male --customization x --no-customization", "exclude each other"),
        ("demo --count 0", "Invalid value for '--count'"),
        ("demo --webhook-loss 2", "Invalid value for '--webhook-loss'"),
        ("demo --webhook-loss nan", "loss"),  # found by the option or, before typer 0.29, by the emulator
        ("demo --out text.jpg/models", "text.jpg"),
        ("emulator --resets 2", "Invalid value for '--resets'"),
        ("listen --secret short", "the path secret must be at least 22 characters"),
    ],
)
def test_refusals(emulated: EmulatorThread, line: str, said: str) -> None:
    """One line names what was wrong, nothing is on stdout, and nothing was asked for."""
    result = avaturn(*line.split(), env=against(emulated))
    assert (2, "", 1) == (result.exit_code, result.stdout, len(result.stderr.splitlines()))
    assert said in result.stderr
    assert () == emulated.requests
    assert emulated.token not in result.stderr


@pytest.mark.parametrize("line", ["listen", "emulator", f"export {AVATAR} --secret {SECRET} --token t --webhook-port"])
def test_a_port_that_is_in_use(line: str) -> None:
    """The message has the address and the reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = line.split() if "--webhook-port" in line else [line, "--port"]
        result = avaturn(*words, port)
    assert (2, f"avaturn: can't listen at 127.0.0.1, port {port}: Address already in use\n") == (
        result.exit_code,
        result.stderr,
    )


@pytest.mark.parametrize(
    "line",
    [
        f"export {AVATAR}",
        f"render {AVATAR} --webhook-port 0 --secret {SECRET}",
        "users create",
        "users delete me",
        "avatars list me",
        f"avatars delete me {AVATAR}",
        f"avatars customization get {AVATAR}",
        "sessions create me",
    ],
)
def test_no_token(line: str) -> None:
    """Every command that needs a token says where to put it."""
    result = avaturn(*line.split())
    assert 2 == result.exit_code
    assert "avaturn: no API token: set AVATURN_API_TOKEN; tokens are made in the developer portal\n" == result.stderr
