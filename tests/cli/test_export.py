"""Folders for downloads."""

from __future__ import annotations

from pathlib import Path

import pytest

from avaturn_async.cli.export import prepare_folder


def test_a_folder_is_created_once(tmp_path: Path) -> None:
    """An existing folder is used; an existing file is refused."""
    for _ in range(2):
        prepare_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        prepare_folder(tmp_path / "file")


def test_the_first_existing_file_is_named(tmp_path: Path) -> None:
    """Nothing is created when a file would be replaced, or a folder is in its place."""
    (tmp_path / "first.glb").touch()
    with pytest.raises(FileExistsError, match="exists already") as caught:
        prepare_folder(tmp_path / "new", [tmp_path / "missing", tmp_path / "first.glb"])
    assert str(tmp_path / "first.glb") == caught.value.filename
    assert not (tmp_path / "new").exists()
    prepare_folder(tmp_path, [tmp_path / "first.glb"], overwrite=True)
    for overwrite in (False, True):
        with pytest.raises(IsADirectoryError):
            prepare_folder(tmp_path, [tmp_path], overwrite=overwrite)
