"""Generates models of avatars with the structure of Avaturn's exports."""

from collections.abc import Mapping

from .tables import Body, Models

__all__ = ["MAX_SIZE", "Body", "Models", "build_glb"]

MAX_SIZE = 64 * 1024 * 1024
SLOTS = ("clothing", "eyewear", "footwear", "hair_and_headwear")


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
        seed: The seed of the colours.
        body: A T1 has one mesh for the body and no morph targets; a T2 has facial morph targets.
        models: `full` for models of real weight, about 3 MB (T1) and 12 MB (T2); `small` for fewer triangles and tiny
            textures, with the same names and structure.
        worn: The name of the asset, or None, for each slot that is not empty; by default no slot is empty.
        idle_clip: Whether the model has an idle animation.
        size: The minimum size of the file in bytes. A smaller one is padded with unused random bytes.

    The first model takes a second, later ones milliseconds.
    """
    from .model import assemble  # loads Pillow, which the rest of the emulator does not need

    worn = dict.fromkeys(SLOTS) if worn is None else worn
    return assemble(seed=seed, body=body, models=models, worn=worn, idle_clip=idle_clip, size=size or 0)
