"""The expressions that apps drive: ARKit's blend shapes for face tracking, the Oculus visemes for lip sync."""

from __future__ import annotations

__all__ = ["ARKIT", "VISEMES"]


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
