"""``avaturn view``."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from avaturn_async.cli.view import INTEGRITY, VIEWER
from tests.npm import chromium, node, node_modules

from .kit import avaturn, interrupt, model, process, read_until

pytestmark = pytest.mark.slow(measured=True)  # each test starts processes of the command


@contextmanager
def viewing(*args: object, cwd: Path) -> Iterator[str]:
    """Serve models, and give the page's url; end as Ctrl-C does."""
    with process("view", "--no-open", "--json", *args, cwd=cwd) as view:
        yield json.loads(read_until(view.stdout, '"url"'))["url"]
        code, _, err = interrupt(view)
        assert 130 == code, err


def get(url: str, **headers: str) -> tuple[int, Any, bytes]:
    """Fetch a url, and return status, headers and body."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_a_page_for_each_model(tmp_path: Path) -> None:
    """A folder's models are linked, and each is shown with what `inspect` says."""
    (tmp_path / "below").mkdir()
    model(tmp_path, "T1")
    model(tmp_path / "below", "T2")
    with viewing(".", cwd=tmp_path) as url:
        status, headers, first = get(url)
        _, _, second = get(f"{url}1")
        bytes_of = [get(f"{url}models/{number}")[2] for number in range(2)]
        missing = [get(f"{url}{path}")[0] for path in ("2", "models/2", "viewer.js", "..%2fsecret")]
    assert (200, "nosniff") == (status, headers["X-Content-Type-Options"])
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert b"<h1>T1.glb</h1>" in first
    assert b"<td>T1</td>" in first
    assert b'href="/1"' in first
    assert b"<h1>T2.glb</h1>" in second
    assert b"<td>52 of 52</td>" in second
    assert [(tmp_path / name).read_bytes() for name in ("T1.glb", "below/T2.glb")] == bytes_of
    assert [404] * 4 == missing


def test_only_this_machine_reads_it(tmp_path: Path) -> None:
    """A foreign name that leads to this address is refused."""
    with viewing(model(tmp_path), cwd=tmp_path) as url:
        assert 403 == get(url, Host="evil.example")[0]
        assert 200 == get(url, Host=f"localhost:{url.split(':')[2].strip('/')}")[0]


def test_names_are_text(tmp_path: Path) -> None:
    """Markup in the name of a file stays text, a name need not be UTF-8, and what is no model says so."""
    file = tmp_path / '<script>alert(1)<script> "$number".glb'
    file.write_text("<html>")
    shutil.copy(file, tmp_path / os.fsdecode(b"\xff.glb"))
    with viewing(".", cwd=tmp_path) as url:
        page = get(url)[2].decode()
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append(tag)  # type: ignore[method-assign]
    parser.feed(page)
    assert 1 == tags.count("script")
    assert ">?.glb<" in page
    assert "it came as a page of HTML or XML" in page


@pytest.mark.parametrize("local", [True, False], ids=["local", "cdn"])
def test_viewer(tmp_path: Path, local: bool) -> None:
    """The script comes from a pinned url and is checked by its hash, or is a file of the user's."""
    script = tmp_path / "viewer.js"
    script.write_text("// mine")
    with viewing(model(tmp_path), *(["--viewer", script] if local else []), cwd=tmp_path) as url:
        page = get(url)[2].decode()
        if local:
            assert 'src="/viewer.js"' in page
            assert b"// mine" == get(f"{url}viewer.js")[2]
        else:
            assert f'src="{VIEWER}" integrity="{INTEGRITY}" crossorigin="anonymous"' in page


def test_nothing_to_look_at(tmp_path: Path) -> None:
    """A folder without models, and a file that does not exist, are usage errors."""
    for path in (tmp_path, tmp_path / "none.glb"):
        result = avaturn("view", path, "--no-open")
        assert (2, 1) == (result.exit_code, len(result.stderr.splitlines()))


@pytest.mark.npm
def test_hash_is_that_of_the_package() -> None:
    """The pinned version on the CDN is the package from npm."""
    package = node_modules("@google/model-viewer") / "@google/model-viewer"
    version = json.loads((package / "package.json").read_text())["version"]
    assert f"/model-viewer@{version}/dist/" in VIEWER
    digest = hashlib.sha384((package / "dist/model-viewer.min.js").read_bytes()).digest()
    assert f"sha384-{base64.b64encode(digest).decode()}" == INTEGRITY


@pytest.mark.npm
@pytest.mark.timeout(900)
def test_models_turn_by_keyboard(tmp_path: Path) -> None:
    """The viewer is reached with Tab and turned with arrows; without WebGL links and facts remain."""
    modules = node_modules("@google/model-viewer", "playwright-core")
    script = modules / "@google/model-viewer/dist/model-viewer.min.js"
    files = [model(tmp_path, body) for body in ("T2", "T1")]
    with viewing(*files, "--viewer", script, cwd=tmp_path) as url:
        view = Path(__file__).with_name("view.mjs")
        result = node(view, url, tmp_path, modules=modules, browser=chromium())
    assert [] == result["turned"]["trouble"]
    assert "MODEL-VIEWER" == result["turned"]["stops"][-1]
    assert "T1.glb" == result["flat"]["heading"]
    assert "avaturn_body" in result["flat"]["facts"]
    with Image.open(tmp_path / "view.png") as image:
        assert len(image.convert("RGB").getcolors(1280 * 800) or ()) > 1000, "the screenshot shows no model"
    if folder := os.environ.get("AVATURN_SCREENSHOTS"):
        shutil.copy(tmp_path / "view.png", folder)
