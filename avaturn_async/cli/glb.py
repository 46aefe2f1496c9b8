"""Read a GLB model and report what is in it."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from ..downloads.glb import GlbCheck
from ..errors import NotAModelError
from .expressions import ARKIT, VISEMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = ["Animation", "Coverage", "Mesh", "Report", "Texture", "read"]

TRIANGLES, STRIP, FAN = 4, 5, 6


class Mesh(NamedTuple):
    """A mesh, and the names of its morph targets."""

    name: str
    triangles: int
    vertices: int
    targets: tuple[str, ...]


class Texture(NamedTuple):
    """An image; its pixels and bytes are None where they can't be told."""

    name: str
    kind: str
    width: int | None
    height: int | None
    size: int | None


class Animation(NamedTuple):
    """An animation and its length."""

    name: str
    seconds: float


class Coverage(NamedTuple):
    """Which of a set of expressions a model has."""

    found: tuple[str, ...]
    missing: tuple[str, ...]


class Report(NamedTuple):
    """What is in a model. `extensions` are those of glTF that a viewer must know to show it."""

    file: Path
    size: int
    meshes: tuple[Mesh, ...]
    textures: tuple[Texture, ...]
    joints: int
    animations: tuple[Animation, ...]
    extensions: tuple[str, ...]

    @property
    def triangles(self) -> int:
        """The triangles of all meshes."""
        return sum(mesh.triangles for mesh in self.meshes)

    @property
    def vertices(self) -> int:
        """The vertices of all meshes."""
        return sum(mesh.vertices for mesh in self.meshes)

    @property
    def arkit(self) -> Coverage:
        """Which of ARKit's blend shapes some mesh has."""
        return self._coverage(ARKIT)

    @property
    def visemes(self) -> Coverage:
        """Which of the Oculus visemes some mesh has."""
        return self._coverage(VISEMES)

    @property
    def body_type(self) -> str | None:
        """T2 where the head is a mesh of its own or has expressions, T1 where the body is one; else None."""
        names = {mesh.name.lower() for mesh in self.meshes}
        if "head_mesh" in names or self.arkit.found:
            return "T2"
        return "T1" if any(name.startswith("avaturn_body") for name in names) else None

    def record(self) -> dict[str, Any]:
        """Return what machines are told."""
        sums = {"triangles": self.triangles, "vertices": self.vertices, "joints": self.joints}
        return {
            "file": str(self.file),
            "size": self.size,
            "body_type": self.body_type,
            **sums,
            "meshes": [mesh._asdict() for mesh in self.meshes],
            "textures": [texture._asdict() for texture in self.textures],
            "animations": [animation._asdict() for animation in self.animations],
            "arkit": self.arkit._asdict(),
            "visemes": self.visemes._asdict(),
            "extensions_required": self.extensions,
        }

    def _coverage(self, wanted: Sequence[str]) -> Coverage:
        had = {target for mesh in self.meshes for target in mesh.targets}
        return Coverage(
            tuple(name for name in wanted if name in had), tuple(name for name in wanted if name not in had)
        )


def read(file: Path) -> Report:
    """Read a model; raise OSError where the file can't be read, and NotAModelError where it is no GLB."""
    content = file.read_bytes()
    check = GlbCheck(str(file))
    check.feed(content)
    check.finish(len(content))
    try:
        with warnings.catch_warnings(action="ignore"):
            return _report(file, content)
    except Exception as error:  # noqa: BLE001 - whatever a broken document makes its reader raise
        raise NotAModelError(f"{file} is not a GLB model that can be read: {error or type(error).__name__}") from None


def _report(file: Path, content: bytes) -> Report:
    from pygltflib import GLTF2

    document = GLTF2.load_from_bytes(content)
    return Report(
        file=file,
        size=len(content),
        meshes=tuple(_mesh(document, index) for index in range(len(document.meshes))),
        textures=tuple(_texture(document, index) for index in range(len(document.images))),
        joints=len({joint for skin in document.skins for joint in skin.joints}),
        animations=tuple(_animation(document, index) for index in range(len(document.animations))),
        extensions=tuple(document.extensionsRequired or ()),
    )


def _mesh(document: Any, index: int) -> Mesh:
    mesh = document.meshes[index]
    accessors = document.accessors
    positions = {_position(primitive) for primitive in mesh.primitives}
    return Mesh(
        name=mesh.name or f"mesh {index}",
        triangles=sum(_triangles(accessors, primitive) for primitive in mesh.primitives),
        vertices=sum(accessors[position].count for position in positions if position is not None),
        targets=_targets(mesh),
    )


def _triangles(accessors: Sequence[Any], primitive: Any) -> int:
    corners = _position(primitive) if primitive.indices is None else primitive.indices
    if corners is None:
        return 0
    count = int(accessors[corners].count)
    if primitive.mode in (STRIP, FAN):
        return max(0, count - 2)
    return count // 3 if primitive.mode in (TRIANGLES, None) else 0


def _position(primitive: Any) -> int | None:
    """Return the accessor of the vertices; no attributes at all are read as an empty dict."""
    return getattr(primitive.attributes, "POSITION", None)


def _targets(mesh: Any) -> tuple[str, ...]:
    """Return the names of morph targets, which glTF keeps in `extras`, or numbers where they have none."""
    count = max((len(primitive.targets or ()) for primitive in mesh.primitives), default=0)
    names = (mesh.extras or {}).get("targetNames") or ()
    return tuple(str(names[number]) if number < len(names) else f"target {number}" for number in range(count))


def _texture(document: Any, index: int) -> Texture:
    image = document.images[index]
    data = _bytes_of(document, image)
    kind = (image.mimeType or "image").removeprefix("image/").upper()
    width, height = _pixels(data)
    return Texture(image.name or f"image {index}", kind, width, height, None if data is None else len(data))


def _bytes_of(document: Any, image: Any) -> bytes | None:
    if image.bufferView is None:
        return None
    view = document.bufferViews[image.bufferView]
    start = view.byteOffset or 0
    return bytes(document.binary_blob()[start : start + view.byteLength])


def _pixels(data: bytes | None) -> tuple[int, int] | tuple[None, None]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data or b"")) as image:
            return image.size
    except (OSError, Image.DecompressionBombError):
        return None, None


def _animation(document: Any, index: int) -> Animation:
    animation = document.animations[index]
    ends = (document.accessors[sampler.input].max for sampler in animation.samplers)
    return Animation(animation.name or f"animation {index}", _longest(ends))


def _longest(ends: Iterable[Any]) -> float:
    return max((float(end[0]) for end in ends if end), default=0.0)
