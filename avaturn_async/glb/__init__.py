"""Inspect, check and shrink GLB models.

    from avaturn_async import glb

    report = glb.inspect("avatar.glb")
    problems = report.check(glb.Budget(max_triangles=30_000, max_texture=1024, require=("T2", "arkit")))
    await glb.shrink("avatar.glb", "small.glb", max_texture=512)

`inspect` is safe on untrusted files: it reads only the JSON of a model and the headers of its images, within bounds.
`shrink` needs Pillow, from the extra `glb`.
"""

from .repack import shrink
from .report import ARKIT, VISEMES, Animation, Budget, Coverage, Mesh, ModelReport, Texture, Violation, inspect

__all__ = ["ARKIT", "VISEMES", "Animation", "Budget", "Coverage", "Mesh", "ModelReport", "Texture", "Violation"]
__all__ += ["inspect", "shrink"]
