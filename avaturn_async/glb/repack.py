"""Make a model smaller by scaled textures, fewer morph targets, or no animations; the rest stays unchanged."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import secrets
import struct
from array import array
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .container import BIN, JSON, Container, MalformedError, location, opened
from .images import read_header
from .report import ModelReport, embedded, inspect

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["shrink"]

MAX_SIZE = 2**30
MAX_PIXELS = 2**26
ENCODERS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 88, "subsampling": 0},  # full resolution of colours, which normal maps need
    "PNG": {"compress_level": 9},
    "WEBP": {"quality": 88},
}
#: Prefixes of extensions that refer to no accessor, buffer view or morph target except where `Model` looks.
KNOWN_EXTENSIONS = (
    *("KHR_materials_", "KHR_texture_", "EXT_texture_", "KHR_lights_punctual", "KHR_mesh_quantization"),
    *("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression", "EXT_mesh_gpu_instancing"),
)
COMPONENTS = {5120: "b", 5121: "B", 5122: "h", 5123: "H", 5126: "I"}  # floats are only copied


async def shrink(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    max_texture: int | None = 1024,
    drop_morphs: Iterable[str] = (),
    drop_animations: bool = False,
) -> ModelReport:
    """Write a smaller copy of a model, in a thread, and return what is in it.

    Names, skins, morph targets and clips are kept. The target is written atomically, and may be the source.
    Cancelling the call does not stop the thread.

    Args:
        source: A GLB 2.0 model of at most 1 GiB.
        target: The file to write; it is replaced if it exists.
        max_texture: The longest side of a texture in pixels. Larger PNG, JPEG and WebP images are scaled; a PNG becomes
            a JPEG if it is opaque and that is smaller. None leaves all images as they are.
        drop_morphs: Names of morph targets to remove from all meshes, or patterns such as `viseme_*`.
        drop_animations: Remove all animations.

    Raises:
        NotAModelError: the source is not a model within the bounds of `inspect`, has an image that can't be decoded or
            of more than 64 megapixels, or has an extension that may refer to something dropped.
        OSError: a file can't be read or written.
        ImportError: an image must be scaled and Pillow is not installed.
        ValueError: `max_texture` is less than 1.
    """
    if max_texture is not None and max_texture < 1:
        raise ValueError(f"max_texture must be at least 1, not {max_texture!r}")
    if isinstance(drop_morphs, str):
        raise TypeError("drop_morphs must be names, not a single str")
    return await asyncio.to_thread(_shrink, source, Path(target), max_texture, tuple(drop_morphs), drop_animations)


def _shrink(
    source: str | os.PathLike[str], target: Path, max_texture: int | None, patterns: tuple[str, ...], still: bool
) -> ModelReport:
    inspect(source)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    with opened(source) as container:
        if container.size > MAX_SIZE:
            raise MalformedError(f"has {container.size} bytes, more than the {MAX_SIZE} that are read")
        try:
            model = Model(container)
            used = {key: model.used(key) for key in ("accessors", "bufferViews")}
            if still:
                model.document.pop("animations", None)
            if patterns:
                _drop_morphs(model, patterns)
            for key, before in used.items():
                model.drop(key, before - model.used(key))
            if max_texture is not None:
                _scale_images(model, max_texture)
            data = model.glb()
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            # `inspect` has checked only a part of the document.
            raise MalformedError(f"is malformed: {type(error).__name__} {error}") from None
    _write(target, data)
    return inspect(data)


class Model:
    """A glTF document, and the bytes of its buffer views; None for a view that is in another file."""

    def __init__(self, container: Container) -> None:
        self.document: dict[str, Any] = container.document
        self.views: list[dict[str, Any]] = self.document.setdefault("bufferViews", [])
        self.accessors: list[dict[str, Any]] = self.document.setdefault("accessors", [])
        self.data: list[bytes | memoryview | None] = []
        buffer = memoryview(container.buffer())
        for view in self.views:
            place = container.place(view)
            self.data.append(place and buffer[place[0] : sum(place)])

    def add_view(self, data: bytes) -> int:
        """Append a buffer view and return its index."""
        if "uri" in self.document.setdefault("buffers", [{"byteLength": 0}])[0]:
            raise MalformedError("has its first buffer in another file, so nothing can be added to it")
        self.views.append({"buffer": 0})
        self.data.append(data)
        return len(self.views) - 1

    def thin_out(self, index: int, width: int, columns: Sequence[int]) -> int:
        """Copy `columns` of an accessor of scalars, in rows of `width`, and return the index of the copy."""
        accessor = self.accessors[index]
        view, data = (each[accessor["bufferView"]] for each in (self.views, self.data))
        if data is None or "sparse" in accessor or "extensions" in view:
            raise MalformedError("has compressed or external animations of morph targets, which can't be changed")
        cells = array(COMPONENTS[accessor["componentType"]])
        start = accessor.get("byteOffset", 0)
        cells.frombytes(data[start : start + accessor["count"] * cells.itemsize])
        left = array(cells.typecode, (cells[row + column] for row in range(0, len(cells), width) for column in columns))
        same: dict[str, Any] = {
            name: accessor[name] for name in ("componentType", "type", "normalized") if name in accessor
        }
        self.accessors.append({"bufferView": self.add_view(left.tobytes()), "count": len(left), **same})
        return len(self.accessors) - 1

    def used(self, key: str) -> set[int]:
        """Return the indices of the accessors or buffer views that the document refers to."""
        return {holder[name] for holder, name in self._slots(key)}

    def drop(self, key: str, gone: Collection[int]) -> None:
        """Remove accessors or buffer views, and renumber the references to the others."""
        unknown = [name for name in self.document.get("extensionsUsed", ()) if not name.startswith(KNOWN_EXTENSIONS)]
        if gone and unknown:
            raise MalformedError(f"has the extension {unknown[0]}, which may refer to what would be dropped")
        kept = [index for index in range(len(self.document[key])) if index not in gone]
        numbers = {old: new for new, old in enumerate(kept)}
        for holder, name in self._slots(key):
            holder[name] = numbers[holder[name]]
        self.document[key][:] = [self.document[key][index] for index in kept]
        if key == "bufferViews":
            self.data = [self.data[index] for index in kept]

    def glb(self) -> bytes:
        """Pack the buffer views, and return the file."""
        parts: list[bytes | memoryview] = []
        length = 0
        for view, data in zip(self.views, self.data, strict=True):
            if data is not None:
                location(view).update(byteOffset=length, byteLength=len(data))
                parts += [data, bytes(-len(data) % 4)]
                length += len(data) + len(parts[-1])
        if parts:
            self.document["buffers"][0]["byteLength"] = length
            parts.insert(0, struct.pack("<2I", length, BIN))
        document = {key: value for key, value in self.document.items() if value != []}
        text = json.dumps(document, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        total = 20 + len(text) + sum(map(len, parts))
        return b"".join((struct.pack("<4s4I", b"glTF", 2, total, len(text), JSON), text, *parts))

    def _slots(self, key: str) -> list[tuple[dict[str, Any], str]]:
        """Return the places of the document that refer to accessors or buffer views."""
        get = self.document.get
        primitives = [primitive for mesh in get("meshes", ()) for primitive in mesh["primitives"]]
        if key == "bufferViews":
            sparse = [part for each in self.accessors for part in each.get("sparse", {}).values()]
            draco = [each.get("extensions", {}).get("KHR_draco_mesh_compression") for each in primitives]
            holders = [*self.accessors, *get("images", ()), *sparse, *draco]
            return [(each, "bufferView") for each in holders if isinstance(each, dict) and "bufferView" in each]
        tables = [table for each in primitives for table in (each["attributes"], *each.get("targets", ()))]
        instances = [node.get("extensions", {}).get("EXT_mesh_gpu_instancing", {}) for node in get("nodes", ())]
        tables += [instance.get("attributes", {}) for instance in instances]
        samplers = [sampler for animation in get("animations", ()) for sampler in animation["samplers"]]
        slots = [
            *((table, name) for table in tables for name in table),
            *((sampler, name) for sampler in samplers for name in ("input", "output")),
            *((primitive, "indices") for primitive in primitives),
            *((skin, "inverseBindMatrices") for skin in get("skins", ())),
        ]
        return [(holder, name) for holder, name in slots if name in holder]


def _drop_morphs(model: Model, patterns: Collection[str]) -> None:
    """Remove morph targets by name from meshes, from the nodes that show them, and from animations."""
    document = model.document
    thinned: dict[int, tuple[int, list[int]]] = {}  # by mesh: the number of targets, and the indices of those to keep
    for number, mesh in enumerate(document.get("meshes", ())):
        extras = mesh.get("extras")
        names = extras.get("targetNames") if isinstance(extras, dict) else None
        keep = [at for at, name in enumerate(names or ()) if not any(fnmatchcase(name, each) for each in patterns)]
        if names and len(keep) < len(names):
            thinned[number] = len(names), keep
            for primitive in mesh["primitives"]:
                _keep(primitive, "targets", keep)
            _keep(mesh, "weights", keep)
            _keep(extras, "targetNames", keep)
            if not extras:
                del mesh["extras"]
    for node in document.get("nodes", ()):
        if node.get("mesh") in thinned:
            _keep(node, "weights", thinned[node["mesh"]][1])
    for animation in document.get("animations", ()):
        channels: list[dict[str, Any]] = []
        samplers: list[dict[str, Any]] = []
        places: dict[tuple[int, int], int] = {}
        for channel in animation["channels"]:
            target = channel["target"]
            mesh = document["nodes"][target["node"]].get("mesh", -1) if target["path"] == "weights" else -1
            width, keep = thinned.get(mesh, (0, []))
            if width and not keep:
                continue
            place = channel["sampler"], mesh if width else -1
            if place not in places:
                places[place] = len(samplers)
                samplers.append({**animation["samplers"][place[0]]})
                if width:
                    samplers[-1]["output"] = model.thin_out(samplers[-1]["output"], width, keep)
            channels.append({**channel, "sampler": places[place]})
        animation.update(channels=channels, samplers=samplers)
    document["animations"] = [each for each in document.get("animations", ()) if each["channels"]]


def _keep(holder: dict[str, Any], key: str, indices: Sequence[int]) -> None:
    """Keep some values of a list, or remove the list if none is left."""
    if key in holder:
        holder[key] = [holder[key][index] for index in indices]
        if not holder[key]:
            del holder[key]


def _scale_images(model: Model, limit: int) -> None:
    scaled: dict[int, tuple[str, bytes] | None] = {}
    for image in model.document.get("images", ()):
        if "bufferView" in image:
            view = image["bufferView"]
            if view not in scaled:
                scaled[view] = _scaled(model.data[view], limit)
            if result := scaled[view]:
                image["mimeType"], model.data[view] = result
        elif image["uri"].startswith("data:") and (result := _scaled(embedded(image["uri"]), limit)):
            del image["uri"]
            image["mimeType"], image["bufferView"] = result[0], model.add_view(result[1])


def _scaled(data: bytes | memoryview | None, limit: int) -> tuple[str, bytes] | None:
    """Scale an image, and return its media type and its bytes; None for an image that stays as it is."""
    if data is None:
        return None
    header = read_header(lambda offset, length: bytes(data[offset : offset + length]), len(data))
    width, height = header.width or 0, header.height or 0
    if header.kind not in ENCODERS or max(width, height) <= limit:
        return None
    if width * height > MAX_PIXELS:
        raise MalformedError(f"has an image of {width} x {height} pixels, more than can be scaled")
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("images are scaled with Pillow: install avaturn-async[glb]") from None
    try:
        with Image.open(io.BytesIO(data), formats=(header.kind,)) as image:
            return _encoded(_scalable(image), header.kind, limit)
    except (OSError, SyntaxError, ValueError) as error:
        raise MalformedError(f"has an image that can't be decoded: {error}") from None


def _scalable(image: Image.Image) -> Image.Image:
    """Convert images with a palette, with one transparent colour, or with 16 bits of grey, which can't be scaled."""
    if image.mode.startswith("I"):
        return image.convert("I").point(lambda level: level / 256).convert("L")
    if image.has_transparency_data and image.mode not in ("LA", "RGBA"):
        return image.convert("RGBA")
    return image if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK") else image.convert("RGB")


def _encoded(image: Image.Image, kind: str, limit: int) -> tuple[str, bytes]:
    """Scale and encode an image in its own format; an opaque PNG becomes a JPEG if that is smaller."""
    image.thumbnail((limit, limit), reducing_gap=2.0)
    if image.mode == "CMYK":
        image = image.convert("RGB")
    if image.mode.endswith("A") and image.getchannel("A").getextrema() == (255, 255):
        image = image.convert(image.mode.removesuffix("A"))
    kinds = ("PNG", "JPEG") if kind == "PNG" and not image.mode.endswith("A") else (kind,)
    results = []
    for each in kinds:
        buffer = io.BytesIO()
        image.save(buffer, each, **ENCODERS[each])
        results.append((f"image/{each.lower()}", buffer.getvalue()))
    return min(results, key=lambda result: len(result[1]))


def _write(target: Path, data: bytes) -> None:
    """Write a file atomically."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
