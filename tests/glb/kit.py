"""Models and images to inspect and shrink, written by hand."""

from __future__ import annotations

import io
import json
import struct
from functools import cache
from typing import Any, Literal

from PIL import Image

from avaturn_async.emulator.glb import build_glb

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
