"""The command ``avaturn``, put together.

So that ``avaturn --help`` and shell completion are quick, modules import what is slow to load inside functions, or use
it as names of `avaturn_async`, which are loaded at first use.
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
