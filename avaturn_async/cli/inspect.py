"""``avaturn inspect``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .command import command
from .output import Column, Output, note, size_of
from .runner import DONE, FAILED, USAGE, failure

if TYPE_CHECKING:
    from .glb import Coverage, Report, Texture

__all__ = ["add_to"]

HELP = """Show what is in GLB models.

Body type T1 or T2, size, meshes, triangles, vertices, textures, joints, animations, and how many of ARKit's blend
shapes and of the visemes there are.
"""


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    command(app, help=HELP, examples=("avaturn inspect avatar.glb", "avaturn inspect --json models/*.glb"))(inspect)


async def inspect(
    output: Output, files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="GLB models.")]
) -> int:
    """Show models."""
    code = DONE
    for number, file in enumerate(files):
        if number:
            output.line("")
        code = max(code, await _inspect(file, output))
    return code


async def _inspect(file: Path, output: Output) -> int:
    import asyncio

    from ..errors import NotAModelError
    from .glb import read

    try:
        report = await asyncio.to_thread(read, file)
    except (OSError, NotAModelError) as error:
        note(f"avaturn: {failure(error)}")
        return USAGE if isinstance(error, OSError) else FAILED
    output.emit(report.record())
    output.line(str(file))
    output.table([Column("", 14), Column("")], _facts(report))
    return DONE


def _facts(report: "Report") -> list[tuple[str, str]]:
    targets = ", ".join(f"{len(mesh.targets)} on {mesh.name}" for mesh in report.meshes if mesh.targets)
    animations = ", ".join(f"{one.name} ({one.seconds:.1f} s)" for one in report.animations)
    return [
        ("body type", report.body_type or "unknown: no mesh has a name of Avaturn's"),
        ("file size", size_of(report.size)),
        ("meshes", f"{len(report.meshes)}: {', '.join(mesh.name for mesh in report.meshes)}"),
        ("triangles", f"{report.triangles:,}"),
        ("vertices", f"{report.vertices:,}"),
        ("textures", "; ".join(map(_texture, report.textures)) or "none"),
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
    found, missing = coverage
    said = f"{len(found)} of {len(found) + len(missing)}"
    return f"{said}; without {', '.join(missing)}" if found and missing else said
