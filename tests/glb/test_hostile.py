"""Models made to break their reader."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from avaturn_async.errors import NotAModelError
from avaturn_async.glb import ModelReport, inspect

from .hostile import FILES
from .kit import avatar, document_of, glb, image, with_images

READ = {
    *("160,000 nodes", "1,024 images of one view", "1,024 images of 64 segments", "a mesh of 80,000 primitives"),
    *("a mesh of 200,000 targets", "60,000 meshes of one accessor", "many keys", "a long name", "a long data URI"),
    "a sparse buffer of 4 GB",
}
HEADER = struct.pack("<4sII", b"glTF", 2, 20)

BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is empty"),
    "html": (b"<html></html>", "came as a page of HTML or XML"),
    "html after a BOM": (b"\xef\xbb\xbf\n<html></html>", "came as a page of HTML or XML"),
    "json": (b'{"asset": {}}', "came as JSON"),
    "gzip": (b"\x1f\x8b" + bytes(30), "came as gzip data"),
    "png": (image("PNG"), "came as a PNG image"),
    "text": (b"not a model", "came as something that begins with b'not '"),
    "only a magic": (b"glTF", "ends after 4 bytes"),
    "only a header": (HEADER[:12], "ends after 12 bytes"),
    "version 1": (struct.pack("<4s4I", b"glTF", 1, 20, 0, 0), "is of version 1, not 2"),
    "cut": (avatar()[:-1], "declares"),
    "longer": (avatar() + b"\0", "declares"),
    "no JSON": (HEADER + struct.pack("<II", 0, 0x4E4F534A), "does not begin with a JSON chunk"),
    "buffer first": (HEADER + struct.pack("<II", 0, 0x004E4942), "does not begin with a JSON chunk"),
    "JSON exceeds": (HEADER + struct.pack("<II", 100, 0x4E4F534A), "does not begin with a JSON chunk"),
    "buffer exceeds": (
        struct.pack("<4s4I", b"glTF", 2, 32, 4, 0x4E4F534A) + b"{}  " + struct.pack("<II", 9, 0x004E4942),
        "second chunk that exceeds",
    ),
    "not JSON": (glb(b"not JSON"), "not a JSON object"),
    "a list": (glb(b"[]"), "not a JSON object"),
    "not UTF-8": (glb(b'{"a":"\xff"}'), "not a JSON object"),
    "UTF-16": (glb('{"a":1}'.encode("utf-16-le")), "not a JSON object"),
    "NaN": (glb(b'{"a":NaN}'), "not a JSON object"),
    "too many digits": (glb(b'{"a":' + b"9" * 5000 + b"}"), "not a JSON object"),
    "meshes": (glb({"meshes": 7}), "has meshes"),
    "a mesh": (glb({"meshes": [7]}), "has meshes"),
    "primitives": (glb({"meshes": [{"primitives": {}}]}), "has primitives"),
    "attributes": (glb({"meshes": [{"primitives": [{"attributes": []}]}]}), "has attributes"),
    "no such accessor": (glb({"meshes": [{"primitives": [{"attributes": {"POSITION": 9}}]}]}), "refers to accessors"),
    "negative accessor": (
        glb({"meshes": [{"primitives": [{"indices": -1}]}], "accessors": [{}]}),
        "refers to accessors",
    ),
    "a list as index": (
        glb({"meshes": [{"primitives": [{"indices": [0]}]}], "accessors": [{}]}),
        "refers to accessors",
    ),
    "no count": (glb({"meshes": [{"primitives": [{"indices": 0}]}], "accessors": [{}]}), "has a count"),
    "true count": (glb({"meshes": [{"primitives": [{"indices": 0}]}], "accessors": [{"count": True}]}), "has a count"),
    "mode": (
        glb({"meshes": [{"primitives": [{"indices": 0, "mode": "x"}]}], "accessors": [{"count": 3}]}),
        "has a mode",
    ),
    "targets": (glb({"meshes": [{"primitives": [{"targets": [0]}]}]}), "has targets"),
    "name": (glb({"meshes": [{"name": 7}]}), "has a name"),
    "asset": (glb({"asset": []}), "has asset"),
    "joints": (glb({"skins": [{"joints": ["a"]}]}), "has joints"),
    "no such view": (glb({"images": [{"bufferView": 3}]}), "refers to bufferViews"),
    "no such buffer": (
        glb({"images": [{"bufferView": 0}], "bufferViews": [{"buffer": 0, "byteLength": 1}]}),
        "buffers",
    ),
    "view exceeds": (
        with_images(b"abcd").replace(b'"byteLength": 4', b'"byteLength": 9'),
        "a buffer view that exceeds",
    ),
    "uri": (glb({"images": [{"uri": ["data:"]}]}), "has a uri"),
    "data uri": (glb({"images": [{"uri": "data:image/png;base64,&&&"}]}), "a data URI that is not Base64"),
    "data uri without base64": (glb({"images": [{"uri": "data:image/png,abc"}]}), "a data URI that is not Base64"),
    "sampler": (glb({"animations": [{"samplers": [{}]}]}), "refers to accessors"),
    "endless animation": (
        glb(b'{"animations":[{"samplers":[{"input":0}]}],"accessors":[{"max":[1e999]}]}'),
        "an animation that ends at no time",
    ),
    "old animation": (
        glb({"animations": [{"samplers": [{"input": 0}]}], "accessors": [{"max": [-(10**400)]}]}),
        "an animation that ends at no time",
    ),
    "extensions": (glb({"extensionsRequired": [7]}), "has extensionsRequired"),
    "too many images": (glb({"images": [{"uri": ""}] * 1025}), "has 1025 images"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_models_are_told_in_one_line(name: str, tmp_path: Path) -> None:
    """The error names the file and what is wrong with it."""
    data, message = BROKEN[name]
    file = tmp_path / "broken.glb"
    file.write_bytes(data)
    with pytest.raises(NotAModelError) as caught:
        inspect(file)
    assert str(caught.value).startswith(f"{file} is not a usable GLB model: it ")
    assert message in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(NotAModelError, match=r"^model is not"):
        inspect(data)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is told in other units elsewhere")
@pytest.mark.parametrize("name", FILES)
def test_hostile_models_cost_little(name: str, tmp_path: Path) -> None:
    """Less than 200 MB, and less than five seconds of CPU time where the goal is one; other machines are slower."""
    command = [sys.executable, "-m", "tests.glb.hostile", name, str(tmp_path)]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100, env=environment)
    told = json.loads(done.stdout)
    assert ("read" == told["outcome"]) == (name in READ), told
    assert told["megabytes"] < 200, told
    assert told["seconds"] < 5, told


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
)
KEYS = (
    "accessors",
    "animations",
    "asset",
    "bufferViews",
    "buffers",
    "extensionsRequired",
    "images",
    "meshes",
    "nodes",
    "skins",
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of everything in a document, but for most of the long lists."""
    found = [path] if path else []
    if isinstance(value, dict):
        found += [place for key in value for place in _places(value[key], (*path, key))]
    elif isinstance(value, list):
        found += [place for index in range(min(3, len(value))) for place in _places(value[index], (*path, index))]
    return found


PLACES = _places(document_of(avatar()))


@pytest.mark.slow
@given(place=st.sampled_from(PLACES), value=ANYTHING)
@settings(max_examples=300, deadline=None)
def test_any_value_anywhere_is_read_or_refused(place: tuple[Any, ...], value: Any) -> None:
    """A document with one wrong value gives a report, or a NotAModelError and nothing else."""
    document = document_of(avatar())
    holder = document
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = value
    _inspect(document)


@pytest.mark.slow
@given(document=st.dictionaries(st.sampled_from(KEYS), ANYTHING))
@settings(max_examples=300, deadline=None)
def test_any_document_is_read_or_refused(document: dict[str, Any]) -> None:
    """So does a document of anything."""
    _inspect(document)


def _inspect(document: dict[str, Any]) -> None:
    try:
        report = inspect(glb(document, bytes(100_000)))
    except NotAModelError:
        return
    assert isinstance(report, ModelReport)
    json.dumps(report.record(), allow_nan=False).encode()
