"""Models and images to inspect and shrink, written by hand."""

from __future__ import annotations

import base64
import io
import json
import struct
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from PIL import Image

from avaturn_async.emulator.glb.model import build_glb

JSON, BIN = 0x4E4F534A, 0x004E4942


def glb(document: Any, data: bytes = b"") -> bytes:
    """Write a GLB of a glTF document, or of the bytes of its JSON chunk, and a binary buffer."""
    text = document if isinstance(document, bytes) else json.dumps({"asset": {"version": "2.0"}} | document).encode()
    text += b" " * (-len(text) % 4)
    data += bytes(-len(data) % 4)
    chunks = struct.pack("<II", len(text), JSON) + text
    if data:
        chunks += struct.pack("<II", len(data), BIN) + data
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def with_images(*images: bytes, **more: Any) -> bytes:
    """Write a GLB that contains images and nothing else."""
    views, buffer = [], b""
    for image in images:
        views.append({"buffer": 0, "byteOffset": len(buffer), "byteLength": len(image)})
        buffer += image
    document = {"images": [{"bufferView": index} for index in range(len(images))], "bufferViews": views}
    return glb({**document, "buffers": [{"byteLength": len(buffer)}], **more}, buffer)


def image(kind: str, width: int = 64, height: int = 48, mode: str = "RGB", color: Any = None, **options: Any) -> bytes:
    """Encode a gradient, or an image of one colour."""
    if color is None:
        picture = Image.linear_gradient("L").resize((width, height)).convert(mode)
    else:
        picture = Image.new(mode, (width, height), color)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def packed(source: Path) -> bytes:
    """Write a GLB of a .gltf file: buffers become one, images data URIs; all else stays as it is."""
    document = json.loads(source.read_text("utf-8-sig"))
    buffers, starts, data = document.get("buffers", []), [], b""
    for buffer in buffers:
        starts.append(len(data))
        data += _linked(source, buffer["uri"]) if "uri" in buffer else b""
        data += bytes(-len(data) % 4)
    for view in document.get("bufferViews", []):
        for place in (view, *view.get("extensions", {}).values()):
            if "uri" in buffers[place.get("buffer", 0)]:
                place["byteOffset"] = place.get("byteOffset", 0) + starts[place["buffer"]]
                place["buffer"] = 0
    if data:
        document["buffers"] = [{"byteLength": len(data)}, *(each for each in buffers[1:] if "uri" not in each)]
    for image in document.get("images", []):
        if not image.get("uri", "data:").startswith("data:"):
            kind = "jpeg" if image["uri"].endswith(("jpg", "jpeg")) else image["uri"].rpartition(".")[2]
            encoded = base64.b64encode(_linked(source, image["uri"])).decode()
            image["uri"] = f"data:{image.get('mimeType', f'image/{kind}')};base64,{encoded}"
    return glb(document, data)


def _linked(source: Path, uri: str) -> bytes:
    return (
        base64.b64decode(uri.partition(",")[2])
        if uri.startswith("data:")
        else (source.parent / unquote(uri)).read_bytes()
    )


@cache
def avatar(body: Literal["T1", "T2"] = "T2") -> bytes:
    """Return a small model of the emulator's."""
    return build_glb(body=body, models="small")


def document_of(data: bytes) -> dict[str, Any]:
    """Return the glTF document of a model."""
    return json.loads(data[20 : 20 + struct.unpack_from("<I", data, 12)[0]])  # type: ignore[no-any-return]


def view_of(data: bytes, index: int) -> bytes:
    """Return the bytes of a buffer view."""
    view = document_of(data)["bufferViews"][index]
    start = 28 + struct.unpack_from("<I", data, 12)[0] + view.get("byteOffset", 0)
    return data[start : start + view["byteLength"]]
