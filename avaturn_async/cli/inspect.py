"""``avaturn inspect``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Json, examples
from .output import Column, Output, note, one_line, size_of
from .running import DONE, FAILED, USAGE, failure

if TYPE_CHECKING:
    from .glb import Coverage, Report, Texture

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(epilog=examples("avaturn inspect avatar.glb", "avaturn inspect --json models/*.glb"))(inspect)


def inspect(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="GLB models.")], json: Json = False
) -> None:
    """Say what is in GLB models.

    That is what people ask before they ship one: body type T1 or T2, size, meshes, triangles, vertices, textures,
    joints, animations, and how many of ARKit's blend shapes and of the visemes there are.
    """
    output, code = Output(as_json=json), DONE
    for number, file in enumerate(files):
        if number:
            output.line("")
        code = max(code, _inspect(file, output))
    raise typer.Exit(code)


def _inspect(file: Path, output: Output) -> int:
    from ..errors import NotAModelError
    from .glb import read

    try:
        report = read(file)
    except (OSError, NotAModelError) as error:
        note(f"avaturn: {failure(error)}")
        return USAGE if isinstance(error, OSError) else FAILED
    output.emit(report.record())
    output.line(one_line(str(file)))
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
