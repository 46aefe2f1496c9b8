"""Names that callers choose: what stays below the folder or prefix, and what is refused."""

import pytest

from avaturn_async.downloads.names import check_name, check_path

GOOD = {
    "plain": "avatar.glb",
    "folders": "2024/05/avatar.glb",
    "dots-in-names": "..a/b..c/...",
    "hidden": ".avatar.glb",
    "unicode": "модели/аватар 🙂.glb",
    "colon": "user:17.glb",
    "longest-part": "a" * 255,
    "longest": "/".join(["a" * 127] * 8),
}
BAD = {
    "empty": "",
    "parent": "../avatar.glb",
    "parent-inside": "a/../../avatar.glb",
    "parent-alone": "..",
    "here": ".",
    "here-inside": "a/./b",
    "absolute": "/etc/passwd",
    "double-slash": "a//b",
    "trailing-slash": "a/",
    "backslash": "..\\avatar.glb",
    "drive": "C:/avatar.glb",
    "drive-relative": "c:avatar.glb",
    "nul": "a\0b",
    "newline": "a\nb",
    "c1": "a\x85b",
    "surrogate": "a\ud800",
    "long-part": "é" * 128,
    "long": "/".join(["a" * 127] * 9),
}


@pytest.mark.parametrize("name", GOOD.values(), ids=GOOD)
def test_a_name_below_the_folder_is_returned_as_it_is(name):
    """Relative paths of ordinary parts are accepted unchanged."""
    assert name == check_name(name)


@pytest.mark.parametrize("name", BAD.values(), ids=BAD)
def test_a_name_that_may_leave_the_folder_is_refused(name):
    """The error shows the name, shortened."""
    with pytest.raises(ValueError, match=r"name.*(empty|not a plain relative|longer than|in it)") as caught:
        check_name(name)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", [None, b"a.glb", 1], ids=["none", "bytes", "int"])
def test_a_name_that_is_not_text_is_a_type_error(name):
    """Neither bytes nor paths are taken for names."""
    with pytest.raises(TypeError, match="a name must be a str, not"):
        check_name(name)


@pytest.mark.parametrize(
    "name", ["nul", "NUL.glb", "a/con/b.glb", "aux.tar.gz", "com1.glb", "LPT\xb9", "prn .glb", "CONIN$", "../x", "a\\b"]
)
def test_device_names_of_windows_name_no_file(name: str) -> None:
    """There they lead out of every folder, whatever suffix they have."""
    with pytest.raises(ValueError, match="name"):
        check_path(name)


@pytest.mark.parametrize("name", ["auth0|1/a:b.glb", "a.", "what?.glb"])
def test_what_windows_does_not_allow_is_refused_there_only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A colon begins an alternate stream on Windows; elsewhere, ids of users have such characters."""
    with monkeypatch.context() as patch:
        patch.setattr("avaturn_async.downloads.names.os.name", "posix")
        assert name == check_path(name)
        patch.setattr("avaturn_async.downloads.names.os.name", "nt")
        with pytest.raises(ValueError, match="reserves"):
            check_path(name)


@pytest.mark.parametrize("name", ["a.glb", "a/b/c.glb", "console.glb", "nulls/x", "com/port.glb", ".hidden"])
def test_ordinary_names_name_files(name: str) -> None:
    """On every system."""
    assert name == check_path(name)


@pytest.mark.parametrize("name", [".m.glb.part", "a/.m.glb.part.json", ".m.3.part", "..part"])
async def test_no_file_is_named_like_a_partial_one(name: str, server, downloads, tmp_path) -> None:
    """A download of another name would take it for its partial file, and replace it."""
    with pytest.raises(ValueError, match=r"is named like a partial file"):
        check_path(name)
    with pytest.raises(ValueError, match=r"is named like a partial file"):
        await downloads.fetch(server.url, tmp_path / name)
    assert name == check_name(name)
    assert [] == server.requests


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"], ids=["nul", "surrogate"])
async def test_a_path_that_no_file_can_have_is_refused(name: str, server, downloads, tmp_path) -> None:
    """The error shows the path, before any request."""
    with pytest.raises(ValueError, match=r"the path '.*a\\.*b' has a NUL character or a lone surrogate in it"):
        await downloads.fetch(server.url, tmp_path / name)
    assert [] == server.requests
