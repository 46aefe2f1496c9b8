"""``avaturn shrink``: make smaller copies of models."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from .command import argument, command, flag, in_thread, option
from .output import Output, note, size_of

SHRINK = """Make a model smaller.

PNG, JPEG and WebP textures are scaled, the buffer is repacked, and everything else stays: names, skins, morph targets
and clips. Draco or meshopt compression, levels of detail and atlases are left to gltf-transform.
"""


@command(SHRINK, "avaturn shrink avatar.glb small.glb", "avaturn shrink avatar.glb small.glb --drop-morphs 'viseme_*'")
async def _shrink(
    output: Output,
    source: Annotated[Path, argument("SOURCE", "A GLB model.")],
    target: Annotated[Path, argument("TARGET", "The file to write; it is replaced if it exists.")],
    max_texture: Annotated[int, option("PIXELS", "The longest side of a texture.", min=1)] = 1024,
    drop_morphs: Annotated[list[str] | None, option("NAME", "Remove morph targets of that name or pattern.")] = None,
    drop_animations: Annotated[bool, flag("--drop-animations", "Remove all animations.")] = False,
) -> None:
    from .. import glb

    before = await in_thread(glb.inspect, source)
    morphs = {name for mesh in before.meshes for name in mesh.targets}
    for pattern in drop_morphs or ():
        if not morphs:  # usual for a T1
            note(f"{source} has no morph targets, so --drop-morphs {pattern} removes none")
        elif not any(fnmatchcase(name, pattern) for name in morphs):
            raise ValueError(
                f"--drop-morphs {pattern} matches none of the {len(morphs)} morph targets of {source}; "
                "avaturn inspect --json lists their names"
            )
    after = await glb.shrink(
        source, target, max_texture=max_texture, drop_morphs=drop_morphs or (), drop_animations=drop_animations
    )
    record = {"source": str(source), "target": str(target), "before": before.size, "after": after.size}
    share = f"{after.size / before.size:.0%} of {size_of(before.size)}"
    output.result(record, f"{target}: {size_of(after.size)}, {share}")
