"""Tables, lines and progress, on a terminal and elsewhere."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from avaturn_async.cli.output import Column, Output, note, size_of

from .kit import AVATAR, model, records, terminal

COLUMNS = (Column("avatar", 36), Column("size", numbers=True), Column("file"))
ROW = (AVATAR, "12 kB", f"a/long/path/to/models/{AVATAR}.glb")


def test_table_for_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows are lines, however long, without colours or spaces at their ends."""
    Output(False).table(COLUMNS, [ROW])
    heading, row = capsys.readouterr().out.splitlines()
    assert ["avatar", "size", "file"] == heading.split()
    assert f"{AVATAR}  12 kB  {ROW[2]}" == row


@pytest.mark.parametrize("columns", [80, 120])
def test_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """A UUID stays whole, and what is too wide goes on in the next line."""
    shown = terminal(monkeypatch, columns)
    Output(False).table(COLUMNS, [ROW])
    lines = shown.getvalue().splitlines()
    assert lines[0].startswith("\x1b[1m")
    assert lines[1].startswith(AVATAR)
    assert ROW[2] == "".join(line.split()[-1] for line in lines[1:])
    assert all(len(line) <= columns for line in lines[1:])


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR is respected; bold text is allowed."""
    shown = terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    Output(False).table(COLUMNS, [ROW])
    assert "\x1b[3" not in shown.getvalue()


def test_json_is_for_machines_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Output is only records with --json, and has none without it."""
    output = Output(True)
    output.table(COLUMNS, [ROW])
    output.line("for people")
    output.result({"name": "Zo\xeb"}, "Zo\xeb")
    (record,) = records(capsys.readouterr().out)
    assert {"name": "Zo\xeb"} == record
    Output(False).result({"name": "Zo\xeb"}, "Zo\xeb")
    assert "Zo\xeb\n" == capsys.readouterr().out


CONTROLS = "".join(map(chr, [0, 7, 27, 0x7F, 0x9B, 0x202E, 0x2066]))


def test_control_characters_are_escaped_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    """A record is printable ASCII, and reads back as it was, lone surrogates included."""
    Output(True).emit({"name": CONTROLS + "\ud800"})
    printed = capsys.readouterr().out.removesuffix("\n")
    assert printed.isascii()
    assert printed.isprintable()
    assert [{"name": CONTROLS + "\ud800"}] == records(printed)


def test_control_characters_are_removed_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing that an API sends can drive the terminal, in lines, tables and notes."""
    Output(False).line(f"id{CONTROLS}\n2")
    Output(False).table([Column("")], [[f"id{CONTROLS}\n2"]])
    note(f"id{CONTROLS}\n2")
    out, err = capsys.readouterr()
    assert ["id 2", "id 2"] == out.splitlines()
    assert "id 2\n" == err


def test_endless_texts_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """An id of megabytes does not flood the terminal."""
    Output(False).line("x" * 5_000_000)
    assert 5_000 > len(capsys.readouterr().out)


def test_a_stream_that_lacks_a_character(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is escaped, not lost."""
    raw = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    Output(False).line("Zo\xeb")
    note("Zo\xeb")
    assert b"Zo\\xeb\nZo\\xeb\n" == raw.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-16"])
def test_an_encoding_that_lacks_a_character(encoding: str, tmp_path: Path) -> None:
    """A process whose streams have it loses neither a record nor an error, nor its exit code."""
    file = model(tmp_path).rename(tmp_path / "Zo\xeb \u6f22.glb")
    env = {"PYTHONIOENCODING": encoding}
    for args, code in ((["inspect", file.name], 0), (["inspect", file.name, "--json"], 0), (["inspect", "\u6f22"], 2)):
        command = [sys.executable, "-m", "avaturn_async", *args]
        ran = subprocess.run(command, cwd=tmp_path, env=os.environ | env, capture_output=True, check=False)
        assert code == ran.returncode, ran.stderr
        text = (ran.stdout if code == 0 else ran.stderr).decode(encoding)
        assert ("\u6f22" if encoding == "utf-16" and "--json" not in args else "\\u6f22") in text


def test_progress_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Elsewhere than on a terminal a stage has two lines, on stderr."""
    with Output(False).progress() as progress:
        advance = progress.stage("exports", 3)
        for _ in range(3):
            advance()
    assert ("", "exports: 0 of 3\nexports: 3 of 3\n") == capsys.readouterr()


def test_progress_in_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal there are bars, which go away, and notes are not torn by them."""
    screen = terminal(monkeypatch)
    with Output(False).progress() as progress:
        advance = progress.stage("exports", 3)
        advance()
        note("one failed")
    shown = screen.getvalue()
    assert "1/3" in shown
    assert "one failed\n" in shown
    assert shown.endswith("\x1b[2K")


def test_a_transfer_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bar counts bytes, whose number is known once it began; elsewhere nothing is shown."""
    screen = terminal(monkeypatch)
    with Output(False).progress() as progress:
        progress.transfer("photos")(12_000_000, 36_000_000)
    assert "photos, kB" in screen.getvalue()
    assert "12000/36000" in screen.getvalue()
    with Output(True).progress() as progress:
        progress.transfer("videos")(1, 2)
    assert "videos" not in screen.getvalue()


def test_no_bars_between_lines_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that shows JSON shows no bars."""
    shown = terminal(monkeypatch)
    with Output(True).progress() as progress:
        progress.stage("exports", 3)
    assert "exports: 0 of 3\n" == shown.getvalue()


def test_sizes() -> None:
    """Sizes are shown in units of 1,000 bytes."""
    assert ["8 bytes", "317.4 kB", "2.1 MB"] == [size_of(8), size_of(317_388), size_of(2_097_152)]
