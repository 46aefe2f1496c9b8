"""The command ``avaturn``, put together.

Modules import what is slow to load inside their functions, or use it by `avaturn_async`, which loads names lazily, so that ``avaturn --help`` and shell completion are quick.
Help texts are arguments, not docstrings, so that they survive ``python -OO``.
"""

from . import (  # noqa: F401
    avatars,
    batch,
    demo,
    doctor,
    emulator,
    export,
    inspect,
    listen,
    make,
    render,
    sessions,
    shrink,
    trigger,
    users,
    view,
    wait,
)
from .command import app

__all__ = ["app"]

#: The order in which ``avaturn --help`` lists the commands.
ORDER = [
    *("demo", "make", "export", "batch", "wait", "render", "listen", "trigger", "emulator", "inspect", "shrink"),
    *("view", "doctor"),
]
app.registered_commands.sort(key=lambda command: ORDER.index(command.name or ""))
