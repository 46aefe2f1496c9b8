"""Folders for downloads."""

from __future__ import annotations

from pathlib import Path

import pytest

from avaturn_async.cli.files import fresh_folder, make_folder, refuse_existing


def test_fresh_folders(tmp_path: Path) -> None:
    """Each call makes the first folder that is not there."""
    assert ["run-1", "run-2"] == [fresh_folder(tmp_path / "new" / "run").name for _ in range(2)]


def test_folders_are_made_once(tmp_path: Path) -> None:
    """A folder that is there is taken, a file is not."""
    assert make_folder(tmp_path / "a" / "b") == make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        make_folder(tmp_path / "file")


def test_existing_files(tmp_path: Path) -> None:
    """The first file that is there is named."""
    (tmp_path / "there").touch()
    refuse_existing([tmp_path / "missing"])
    with pytest.raises(FileExistsError, match="there already"):
        refuse_existing([tmp_path / "missing", tmp_path / "there"])
