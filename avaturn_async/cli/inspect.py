"""``avaturn inspect``: show what is in models, and check them against limits."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import avaturn_async as sdk

from .command import DONE, FAILED, USAGE, argument, command, failure, in_thread, option
from .output import Column, Output, note, size_of

if TYPE_CHECKING:
    from ..glb import Budget, Coverage, ModelReport, Texture

__all__ = ["facts"]

INSPECT = """Show what is in GLB models, and check them against limits.

Body type T1 or T2, size, meshes, triangles, vertices, textures, joints, animations, and how many of ARKit's blend
shapes and of the visemes there are. Exits with 1 if a model exceeds a limit or lacks something required.
"""


def _limit(metavar: str, help: str) -> Any:
    return option(metavar, help, min=0)


@command(INSPECT, "avaturn inspect avatar.glb", "avaturn inspect --max-triangles 30000 --require T2 models/*.glb")
async def _inspect(
    output: Output,
    files: Annotated[list[Path], argument("FILE...", "GLB models; - is stdin.")],
    max_triangles: Annotated[int | None, _limit("N", "Fail if there are more triangles.")] = None,
    max_texture: Annotated[int | None, _limit("PIXELS", "Fail if a texture has a longer side.")] = None,
    max_bytes: Annotated[int | None, _limit("BYTES", "Fail if the file is larger.")] = None,
    max_morph_targets: Annotated[int | None, _limit("N", "Fail if a mesh has more morph targets.")] = None,
    require: Annotated[list[str] | None, option("WHAT", "Fail without it: T1, T2, arkit or visemes.")] = None,
) -> int:
    from ..glb import Budget

    budget = Budget(
        max_triangles=max_triangles,
        max_texture=max_texture,
        max_bytes=max_bytes,
        max_morph_targets=max_morph_targets,
        require=require or (),
    )
    code = DONE
    for number, file in enumerate(files):
        if number:
            output.line("")
        code = max(code, await _inspect_one(file, budget, output))
    return code


async def _inspect_one(file: Path, budget: "Budget", output: Output) -> int:
    from .. import glb

    try:
        source = await in_thread(sys.stdin.buffer.read) if str(file) == "-" else file
        report = await in_thread(glb.inspect, source)
    except (OSError, sdk.NotAModelError) as error:
        note(f"avaturn: {failure(error)}")
        return USAGE if isinstance(error, OSError) else FAILED
    violations = [str(each) for each in report.check(budget)]
    output.emit({"file": str(file), **report.record(), "violations": violations})
    output.line(str(file))
    output.table([Column("", 14), Column("")], facts(report))
    for violation in violations:
        note(f"avaturn: {file}: {violation}")
    return FAILED if violations else DONE


def facts(report: "ModelReport") -> list[tuple[str, str]]:
    """Return a report as rows for people."""
    targets = ", ".join(f"{len(mesh.targets)} on {mesh.name}" for mesh in report.meshes if mesh.targets)
    animations = ", ".join(f"{one.name} ({one.seconds:.1f} s)" for one in report.animations)
    textures = "; ".join(map(_texture, report.textures))
    return [
        ("body type", report.body_type or "unknown: no mesh has a name of Avaturn's"),
        ("file size", size_of(report.size)),
        ("meshes", f"{len(report.meshes)}: {', '.join(mesh.name for mesh in report.meshes)}"),
        ("triangles", f"{report.triangles:,}"),
        ("vertices", f"{report.vertices:,}"),
        ("textures", f"{len(report.textures)}: {textures}" if textures else "none"),
        ("joints", f"{report.joints:,}"),
        ("animations", animations or "none"),
        ("morph targets", targets or "none"),
        ("ARKit", _coverage(report.arkit)),
        ("visemes", _coverage(report.visemes)),
        *([("needs", ", ".join(report.extensions))] if report.extensions else []),
    ]


def _texture(texture: "Texture") -> str:
    pixels = f"{texture.width} x {texture.height}" if texture.width else "of unknown size"
    size = f", {size_of(texture.size)}" if texture.size is not None else ", in another file"
    return f"{texture.name} {pixels} {texture.kind}{size}"


def _coverage(coverage: "Coverage") -> str:
    found, missing = coverage.found, coverage.missing
    said = f"{len(found)} of {len(found) + len(missing)}"
    return f"{said}; without {', '.join(missing)}" if found and missing else said
