"""Avatars made by code: valid GLB 2.0 models with a mesh, a skeleton, a texture and expressions."""

from .model import Body, assemble
from .morphs import ARKIT, VISEMES
from .texture import fit, paint

__all__ = ["ARKIT_SHAPES", "MAX_SIZE", "OCULUS_VISEMES", "build_glb"]

ARKIT_SHAPES = tuple(ARKIT)
OCULUS_VISEMES = tuple(VISEMES)
MAX_SIZE = 64 * 1024 * 1024

NATURAL_TEXTURE = (128, 64)


def build_glb(*, seed: int = 0, body: Body = "T2", size: int | None = None) -> bytes:
    """Build an avatar's model, the same bytes for the same arguments.

    The seed chooses colours, height and hair. A T1 body has a static head; a T2 body has the 52 ARKit blend shapes and
    the 15 Oculus visemes on `Head_Mesh`. With `size` the texture is made as large as it takes for the file to have at
    least that many bytes, and at most 64 KiB more unless the smallest model has; without, it has its natural size.

    Raises `ValueError` for another body type and for a size outside 1 to `MAX_SIZE` (64 MiB).
    """
    if body not in ("T1", "T2"):
        raise ValueError(f"body must be 'T1' or 'T2', not {body!r}")
    if size is None:
        width, height = NATURAL_TEXTURE
    elif 1 <= size <= MAX_SIZE:
        width, height = fit(size - len(assemble(seed=seed, body=body, texture=b"")))
    else:
        raise ValueError(f"size must be from 1 to {MAX_SIZE} bytes, not {size!r}")
    return assemble(seed=seed, body=body, texture=paint(seed=seed, width=width, height=height))
