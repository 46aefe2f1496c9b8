"""The resources of the API, one class each."""

from __future__ import annotations

from .avatars import Avatars
from .exports import Exports
from .renders import Renders
from .sessions import Sessions
from .users import Users

__all__ = ["Avatars", "Exports", "Renders", "Sessions", "Users"]
