"""``avaturn inspect`` and ``avaturn shrink``."""

from __future__ import annotations

from pathlib import Path

from avaturn_async import glb as library
from tests.glb.kit import glb, with_images

from .kit import avaturn, model, records


def test_facts_for_people(tmp_path: Path) -> None:
    """The table says all that people ask before they ship a model."""
    result = avaturn("inspect", model(tmp_path))
    facts = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if " " in line)
    assert 0 == result.exit_code
    assert "T2" == facts["body"].removeprefix("type").strip()
    assert facts["meshes"].startswith("13: Body_Mesh, Eye_Mesh, ")
    assert facts["textures"].startswith("24: image 0 32 x 32 JPEG, ")
    assert "54" == facts["joints"]
    assert "avaturn_animation (8.1 s)" == facts["animations"]
    assert "52 of 52" == facts["ARKit"]
    assert "15 of 15" == facts["visemes"]


def test_facts_for_machines(tmp_path: Path) -> None:
    """Each model is one line of JSON."""
    files = [model(tmp_path, "T1"), model(tmp_path, "T2")]
    result = avaturn("inspect", "--json", *files)
    assert [("T1", str(files[0])), ("T2", str(files[1]))] == [
        (record["body_type"], record["file"]) for record in records(result.stdout)
    ]


def test_one_bad_file_of_two(tmp_path: Path) -> None:
    """The other is shown all the same, and the exit code says that one failed."""
    bad = tmp_path / "page.glb"
    bad.write_text("<html></html>")
    result = avaturn("inspect", bad, model(tmp_path))
    assert 1 == result.exit_code
    assert f"avaturn: {bad} is not a usable GLB model: it came as a page of HTML or XML\n" == result.stderr
    assert "52 of 52" in result.stdout


def test_stdin(tmp_path: Path) -> None:
    """A dash is stdin, also where that is no model."""
    result = avaturn("inspect", "--json", "-", stdin=model(tmp_path).read_bytes())
    assert (0, [("-", "T2")]) == (
        result.exit_code,
        [(each["file"], each["body_type"]) for each in records(result.stdout)],
    )
    result = avaturn("inspect", "-", stdin=b"<html>")
    assert (1, 1) == (result.exit_code, len(result.stderr.splitlines()))


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is a matter of usage."""
    result = avaturn("inspect", tmp_path / "none.glb")
    assert (2, f"avaturn: {tmp_path}/none.glb: No such file or directory\n") == (result.exit_code, result.stderr)


def test_facts_that_need_words(tmp_path: Path) -> None:
    """Missing images, unknown sizes and other files are reported as such."""
    file = tmp_path / "odd.glb"
    primitive = {"attributes": {}, "targets": [{}, {}]}
    mesh = {"name": "Face", "primitives": [primitive], "extras": {"targetNames": ["jawOpen", "viseme_aa"]}}
    images = [{"uri": "hair.png", "name": "hair"}, {"uri": "data:image/ktx2;base64,AAAA", "mimeType": "image/ktx2"}]
    file.write_bytes(glb({"meshes": [mesh], "images": images, "extensionsRequired": ["KHR_texture_basisu"]}))
    shown = avaturn("inspect", file).stdout
    assert "unknown: no mesh has a name of Avaturn's" in shown
    assert "1 of 52; without browDownLeft, " in shown
    assert "hair of unknown size unknown, in another file; image 1 of unknown size KTX2, 3 bytes" in shown
    assert "KHR_texture_basisu" in shown


def test_names_drive_no_terminal(tmp_path: Path) -> None:
    """Control characters in a model's names are not printed."""
    file = tmp_path / "odd.glb"
    file.write_bytes(glb({"meshes": [{"name": "\x1b[31mred\nline\ud800", "primitives": []}]}))
    assert "1: [31mred line" in avaturn("inspect", file).stdout
    assert 0 == avaturn("inspect", "--json", file).exit_code


def test_limits_that_are_kept(tmp_path: Path) -> None:
    """The model is shown as without limits."""
    result = avaturn("inspect", "--max-triangles", 30000, "--require", "T2", "--require", "arkit", model(tmp_path))
    assert (0, "") == (result.exit_code, result.stderr)


def test_limits_that_are_exceeded(tmp_path: Path) -> None:
    """The exit code is 1, and each violation is on stderr and in the record."""
    file = model(tmp_path, "T1")
    result = avaturn("inspect", "--max-triangles", 3000, "--require", "T2", "--json", file)
    assert 1 == result.exit_code
    triangles = library.inspect(file).triangles
    violations = [f"{triangles:,} triangles; the limit is 3,000", "its body type is T1, not T2"]
    assert [f"avaturn: {file}: {each}" for each in violations] == result.stderr.splitlines()
    (record,) = records(result.stdout)
    assert violations == record["violations"]


def test_unknown_requirement(tmp_path: Path) -> None:
    """It is a usage error that names what is known."""
    result = avaturn("inspect", "--require", "T3", model(tmp_path))
    assert (2, 1) == (result.exit_code, len(result.stderr.splitlines()))
    assert "T1" in result.stderr


def test_shrink(tmp_path: Path) -> None:
    """A line says what was gained."""
    source, target = model(tmp_path, "T2"), tmp_path / "small.glb"
    result = avaturn("shrink", source, target, "--drop-morphs", "viseme_*", "--drop-animations", "--max-texture", 16)
    assert (0, "") == (result.exit_code, result.stderr)
    share = target.stat().st_size / source.stat().st_size
    assert f"{share:.0%} of 1.2 MB\n" in result.stdout
    report = library.inspect(target)
    assert ((), (), 16) == (report.animations, report.visemes.found, report.textures[0].width)


def test_shrink_for_machines(tmp_path: Path) -> None:
    """A record has both sizes."""
    source = model(tmp_path, "T1")
    (record,) = records(avaturn("shrink", "--json", source, source, "--drop-animations").stdout)
    assert record["before"] > record["after"] == source.stat().st_size


def test_shrink_without_what_should_be_dropped(tmp_path: Path) -> None:
    """A name that no morph target has is a usage error, before anything is written; a T1 has none, and says so."""
    source, target = model(tmp_path, "T2"), tmp_path / "small.glb"
    done = avaturn("shrink", source, target, "--drop-morphs", "viseme_*", "--drop-morphs", "visem_sil")
    assert (2, "", 1) == (done.exit_code, done.stdout, len(done.stderr.splitlines()))
    assert done.stderr.startswith(f"avaturn: --drop-morphs visem_sil matches none of the 72 morph targets of {source};")
    assert not target.exists()
    done = avaturn("shrink", model(tmp_path, "T1"), target, "--drop-morphs", "viseme_*")
    assert (0, True) == (done.exit_code, target.exists())
    assert f"{tmp_path / 'T1.glb'} has no morph targets, so --drop-morphs viseme_* removes none\n" == done.stderr


def test_shrink_what_is_no_model(tmp_path: Path) -> None:
    """One line says why not, and nothing is written."""
    source, target = tmp_path / "odd.glb", tmp_path / "small.glb"
    source.write_bytes(with_images(b"x")[:-1])
    result = avaturn("shrink", source, target)
    assert (1, 1) == (result.exit_code, len(result.stderr.splitlines()))
    assert 2 == avaturn("shrink", tmp_path / "none.glb", target).exit_code
    assert not target.exists()
