"""Models of avatars, made by code with the structure of Avaturn's exports."""

import random
from collections.abc import Mapping
from typing import get_args

from .tables import Body, Models, load

__all__ = ["MAX_SIZE", "Body", "Models", "build_glb"]

MAX_SIZE = 64 * 1024 * 1024


def build_glb(
    *,
    seed: int = 0,
    body: Body = "T2",
    models: Models = "full",
    worn: Mapping[str, str | None] | None = None,
    idle_clip: bool = True,
    size: int | None = None,
) -> bytes:
    """Build an avatar's model, the same bytes for the same arguments.

    Args:
        seed: What colours are drawn from.
        body: A T1 has one mesh for the body and no morph targets; a T2 has a face that moves.
        models: `full` for models of real weight, about 3 MB (T1) and 12 MB (T2); `small` for fewer triangles and tiny
            textures, with the same names and structure.
        worn: The asset in each slot that is not empty, by name or None; everything is worn if left out.
        idle_clip: Whether the model has an idle animation.
        size: The least length of the file in bytes. A shorter one is padded with random bytes that nothing refers to.

    The first model takes seconds, later ones milliseconds. Raises `ValueError` for another body type or kind of
    models, an unknown slot, and a size outside 1 to `MAX_SIZE` (64 MiB).
    """
    for name, value, known in (("body", body, get_args(Body)), ("models", models, get_args(Models))):
        if value not in known:
            raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, not {value!r}")
    if size is not None and not 1 <= size <= MAX_SIZE:
        raise ValueError(f"size must be from 1 to {MAX_SIZE} bytes, not {size!r}")
    slots = {mesh["slot"] for mesh in load("avatar")["worn"]}
    worn = dict.fromkeys(slots) if worn is None else worn
    if unknown := set(worn) - slots:
        raise ValueError(f"worn must name slots of {', '.join(sorted(slots))}, not {', '.join(sorted(unknown))}")
    from .model import assemble  # loads Pillow, which the rest of the emulator can do without

    document = assemble(seed=seed, body=body, models=models, worn=worn, idle_clip=idle_clip)
    model = document.glb()
    if size is None or len(model) >= size:
        return model
    return document.glb(random.Random(seed).randbytes(size - len(model)))
