"""Inspect a model, and check it against a budget."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterable
from typing import Any, Literal

import attrs
from attrs import validators as v

from .container import Container, MalformedError, count, mapping, objects, opened, string, text, values
from .images import Header, read_header

__all__ = ["ARKIT", "VISEMES", "Animation", "Budget", "Coverage", "Mesh", "ModelReport", "Texture", "Violation"]
__all__ += ["inspect"]

MAX_IMAGES = 1024
A_YEAR = 366 * 24 * 60 * 60
TRIANGLES, STRIP, FAN = 4, 5, 6
#: The names of Avaturn's T2 meshes; at least two of them make a T2.
T2_MESHES = frozenset(f"{name}_Mesh" for name in ("Body", "Head", "Eye", "EyeAO", "Eyelash", "Teeth", "Tongue"))
#: What Blender appends to a name that is taken.
COPY = re.compile(r"\.\d{3}$", re.ASCII)

#: What a budget can require of a model.
REQUIREMENTS = ("T1", "T2", "arkit", "visemes")


def _sides(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}{side}" for name in names for side in ("Left", "Right"))


#: The 52 of ``ARFaceAnchor.BlendShapeLocation``.
ARKIT = (
    *_sides("browDown", "browOuterUp", "eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp"),
    *_sides("eyeSquint", "eyeWide", "cheekSquint", "noseSneer", "mouthDimple", "mouthFrown", "mouthLowerDown"),
    *_sides("mouthPress", "mouthSmile", "mouthStretch", "mouthUpperUp"),
    *("browInnerUp", "cheekPuff", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthFunnel"),
    *("mouthLeft", "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower"),
    *("mouthShrugUpper", "tongueOut"),
)

#: The 15 of the Oculus lip sync.
VISEMES = tuple(
    f"viseme_{sound}"
    for sound in ("sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS", "nn", "RR", "aa", "E", "I", "O", "U")
)

BodyType = Literal["T1", "T2"]


@attrs.frozen
class Mesh:
    """A mesh, and the names of its morph targets."""

    name: str
    triangles: int
    vertices: int
    targets: tuple[str, ...] = attrs.field(default=(), repr=False)


@attrs.frozen
class Texture:
    """An image: its format, such as PNG, and its size in pixels and bytes; None for unknown values."""

    name: str
    kind: str
    width: int | None
    height: int | None
    size: int | None


@attrs.frozen
class Animation:
    """An animation and its length in seconds."""

    name: str
    seconds: float


@attrs.frozen
class Coverage:
    """Which of a set of expressions a model has."""

    found: tuple[str, ...]
    missing: tuple[str, ...] = attrs.field(repr=False)


def _limit(least: int) -> Any:
    return attrs.field(default=None, validator=v.optional([v.instance_of(int), v.ge(least)]))


def _names(given: Any) -> Any:
    return tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else given


def _known(_: object, attribute: object, names: object) -> None:
    if not isinstance(names, tuple):
        raise TypeError(f"require must be names, not {names!r:.80}")
    for name in names:
        if name not in REQUIREMENTS:
            raise ValueError(f"each of require must be one of {', '.join(REQUIREMENTS)}, not {name!r:.80}")


@attrs.frozen(kw_only=True)
class Budget:
    """Limits for a model; None for no limit. Raises `TypeError` or `ValueError` for invalid values.

    Attributes:
        max_triangles: Triangles of all meshes.
        max_texture: The longer side of the largest texture, in pixels.
        max_bytes: The size of the file.
        max_morph_targets: Morph targets of one mesh.
        require: What the model must have: `T1` or `T2` for the body type, `arkit` for all 52 blend shapes of ARKit,
            `visemes` for all 15 of Oculus.
    """

    max_triangles: int | None = _limit(0)
    max_texture: int | None = _limit(1)
    max_bytes: int | None = _limit(1)
    max_morph_targets: int | None = _limit(0)
    require: tuple[str, ...] = attrs.field(default=(), converter=_names, validator=_known)


@attrs.frozen
class Violation:
    """An exceeded limit or an unmet requirement of a budget; `rule` is its name."""

    rule: str
    message: str

    def __str__(self) -> str:
        return self.message


@attrs.frozen(kw_only=True)
class ModelReport:
    """What is in a model.

    Attributes:
        size: the length of the file in bytes.
        generator: the program that wrote the file.
        body_type: T1 or T2 by the names of Avaturn's meshes; None for a model of something else.
        joints: the number of joints of all skins.
        extensions: the glTF extensions that a viewer must know to show the model.
    """

    size: int
    generator: str
    body_type: BodyType | None
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

    def check(self, budget: Budget) -> tuple[Violation, ...]:
        """Return the violations of a budget, empty if there are none."""
        largest = max((max(each.width or 0, each.height or 0) for each in self.textures), default=0)
        most = max((len(mesh.targets) for mesh in self.meshes), default=0)
        limits = (
            ("max_triangles", "triangles", self.triangles, budget.max_triangles),
            ("max_texture", "pixels on the longer side of a texture", largest, budget.max_texture),
            ("max_bytes", "bytes", self.size, budget.max_bytes),
            ("max_morph_targets", "morph targets on a mesh", most, budget.max_morph_targets),
        )
        over = [
            Violation(rule, f"{found:,} {what}; the limit is {limit:,}")
            for rule, what, found, limit in limits
            if limit is not None and found > limit
        ]
        return (*over, *(Violation(wanted, lack) for wanted in budget.require if (lack := self._lack(wanted))))

    def record(self) -> dict[str, Any]:
        """Return the report as plain values for JSON."""
        sums = {name: getattr(self, name) for name in ("triangles", "vertices")}
        coverage = {name: attrs.asdict(getattr(self, name)) for name in ("arkit", "visemes")}
        return {**attrs.asdict(self), **sums, **coverage}

    def _lack(self, wanted: str) -> str:
        """Return why a requirement is not met; empty if it is met."""
        if wanted == self.body_type:
            return ""
        if wanted in ("T1", "T2"):
            return f"its body type is {self.body_type or 'unknown'}, not {wanted}"
        missing = getattr(self, wanted).missing
        return f"{len(missing)} of {wanted} are missing: {', '.join(missing)}" if missing else ""

    def _coverage(self, wanted: tuple[str, ...]) -> Coverage:
        had = {target for mesh in self.meshes for target in mesh.targets}
        return Coverage(
            tuple(name for name in wanted if name in had), tuple(name for name in wanted if name not in had)
        )


def inspect(source: str | os.PathLike[str] | bytes) -> ModelReport:
    """Report what is in a model. Blocks for milliseconds.

    Safe on untrusted files: geometry is not read, images are not decoded, and memory and time are bounded.

    Raises:
        NotAModelError: the file is not a GLB 2.0 model, is malformed, or exceeds the bounds: 16 MiB of JSON with
            500,000 values, and 1,024 images.
        OSError: the file can't be read.
    """
    with opened(source) as container:
        items = container.items
        if len(items("images")) > MAX_IMAGES:
            raise MalformedError(f"has {len(items('images'))} images, more than the {MAX_IMAGES} that are read")
        return ModelReport(
            size=container.size,
            generator=text(mapping(container.document, "asset"), "generator"),
            body_type=_body_type(container),
            meshes=tuple(_mesh(container, mesh, index) for index, mesh in enumerate(items("meshes"))),
            textures=tuple(_texture(container, image, index) for index, image in enumerate(items("images"))),
            joints=len({joint for skin in items("skins") for joint in values(skin, "joints", int)}),
            animations=tuple(_animation(container, each, index) for index, each in enumerate(items("animations"))),
            extensions=tuple(string(name, "name") for name in values(container.document, "extensionsRequired", str)),
        )


def _body_type(container: Container) -> BodyType | None:
    names = {COPY.sub("", text(each, "name")) for key in ("meshes", "nodes") for each in container.items(key)}
    if len(names & T2_MESHES) > 1:
        return "T2"
    return "T1" if "avaturn_body" in names else None


def _mesh(container: Container, mesh: dict[str, Any], index: int) -> Mesh:
    primitives = objects(mesh, "primitives")
    triangles, positions = 0, set()
    for primitive in primitives:
        corners, attributes = primitive.get("indices"), mapping(primitive, "attributes")
        if "POSITION" in attributes:
            positions.add(count(attributes, "POSITION"))
            corners = attributes["POSITION"] if corners is None else corners
        if corners is not None:
            number = count(container.item("accessors", corners), "count")
            mode = count(primitive, "mode", TRIANGLES)
            triangles += number // 3 if mode == TRIANGLES else max(0, number - 2) if mode in (STRIP, FAN) else 0
    return Mesh(
        name=text(mesh, "name") or f"mesh {index}",
        triangles=triangles,
        vertices=sum(count(container.item("accessors", position), "count") for position in positions),
        targets=_targets(mesh, primitives),
    )


def _targets(mesh: dict[str, Any], primitives: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return the names of morph targets, which glTF keeps in `extras`, or numbers for those without a name."""
    number = max((len(objects(primitive, "targets")) for primitive in primitives), default=0)
    extras = mesh.get("extras")
    names = extras.get("targetNames") if number and isinstance(extras, dict) else None
    known = [string(name, "name") for name in names[:number]] if isinstance(names, list) else []
    return (*known, *(f"target {index}" for index in range(len(known), number)))


def _texture(container: Container, image: dict[str, Any], index: int) -> Texture:
    header, size = Header(""), None
    if "bufferView" in image:
        view = container.item("bufferViews", image["bufferView"])
        if place := container.place(view):
            start, size = place
            header = read_header(lambda offset, length: container.buffer(start + offset, length), size)
    elif text(image, "uri").startswith("data:"):
        data = embedded(image["uri"])
        header, size = read_header(lambda offset, length: data[offset : offset + length], len(data)), len(data)
    declared = text(image, "mimeType").removeprefix("image/").upper()
    name = text(image, "name") or f"image {index}"
    return Texture(name, header.kind or declared or "unknown", header.width, header.height, size)


def embedded(uri: str) -> bytes:
    """Decode a data URI (RFC 2397)."""
    head, _, data = uri.partition(",")
    try:
        return base64.b64decode(data if head.endswith(";base64") else "?", validate=True)
    except binascii.Error:
        raise MalformedError("has a data URI that is not Base64") from None


def _animation(container: Container, animation: dict[str, Any], index: int) -> Animation:
    keys = (container.item("accessors", sampler.get("input")) for sampler in objects(animation, "samplers"))
    ends = [end for accessor in keys for end in values(accessor, "max", (int, float))[:1]]
    if not all(0 <= end < A_YEAR for end in ends):
        raise MalformedError("has an animation that ends at no time")
    return Animation(text(animation, "name") or f"animation {index}", float(max(ends, default=0)))
