"""``avaturn demo``: the whole story in a process of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from avaturn_async import glb

from .kit import HANGING, avaturn, interrupt, process, read_until, records, without_slowness

MOMENTS = ["models go to ", "photos: 0 of", "scans: 0 of", "exports: 0 of", "exports: 2 of", "downloads: 0 of"]


def told(*args: object, cwd: Path) -> tuple[str, list[str]]:
    """Run the demo to its end; return what it said on stdout, and on stderr."""
    with process("demo", *args, cwd=cwd) as demo:
        out, err = demo.communicate(timeout=HANGING)
        assert 0 == demo.returncode, err
        return out, without_slowness(err)


@pytest.mark.slow
def test_all_by_webhook(tmp_path: Path) -> None:
    """Eight models are exported by webhook, and are on the disk as the records say."""
    out, err = told("--json", cwd=tmp_path)
    *models, end = records(out)
    assert {"webhook": 8} == end["resolved_by"]
    assert ("avatars/demo-1", 8, 0) == (end["folder"], end["done"], end["failed"])
    for model in models:
        file = tmp_path / model["file"]
        assert (model["size"], model["sha256"]) == (file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest())
        assert "T2" == glb.inspect(file).body_type
    stages = [f"{name}: {done} of 8" for name in ("photos", "scans", "exports", "downloads") for done in (0, 8)]
    assert ["models go to avatars/demo-1", *stages] == err


@pytest.mark.slow
def test_some_by_poll(tmp_path: Path) -> None:
    """What loses its webhook is resolved by poll, and the models of an earlier demo stay."""
    (tmp_path / "avatars/demo-1").mkdir(parents=True)
    out, _ = told("--small-models", "--webhook-loss", "0.5", "--count", "12", "--json", cwd=tmp_path)
    *models, end = records(out)
    assert {"poll", "webhook"} == {model["resolved_by"] for model in models}
    assert "avatars/demo-2" == end["folder"]


@pytest.mark.slow
def test_table(tmp_path: Path) -> None:
    """People get a table, a line that sums it up, and a hint; a folder that they name is used again."""
    for _ in range(2):
        out, _ = told("--count", "2", "--out", "models", "--small-models", "--model-size", "2000000", cwd=tmp_path)
    heading, *rows, blank, end, hint = out.splitlines()
    assert ["avatar", "by", "took", "polls", "size", "file"] == heading.split()
    assert ["model-1.glb", "model-2.glb"] == [row.split()[-1] for row in rows]
    assert all(36 == len(row.split()[0]) for row in rows)
    assert "" == blank
    assert end.startswith("2 models of ")
    assert end.endswith(": 2 by webhook.")
    assert "Look into one with: avaturn inspect models/model-1.glb" == hint
    assert {"model-1.glb", "model-2.glb"} == {file.name for file in (tmp_path / "models").iterdir()}
    assert 400_000 <= (tmp_path / "models/model-1.glb").stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c(tmp_path: Path, moment: str) -> None:
    """Whenever Ctrl-C comes, there is no traceback and no warning."""
    with process("demo", "--small-models", "--count", "2", "--model-size", "3000000", cwd=tmp_path) as demo:
        read_until(demo.stderr, moment)
        code, out, err = interrupt(demo)
    assert (130, "", "avaturn: interrupted") == (code, out, err[-1])
    assert all(" of 2" in line for line in err[:-1]), err


def test_demo_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The story blocks its loop nowhere."""
    monkeypatch.chdir(tmp_path)
    done = avaturn("demo", "--small-models", "--count", "1", "--webhook-loss", "1", "--seed", "3")
    assert 0 == done.exit_code, done.stderr
    assert "1 by poll" in done.stdout
