"""Run the command line: ``python -m avaturn_async`` is the command ``avaturn``."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["main"]

MISSING = 'the command line needs packages that are not installed: pip install "avaturn-async[cli]"'


def main() -> None:
    """Run the command ``avaturn`` with the arguments of this process, and exit with its code."""
    signal.signal(signal.SIGINT, _leave)
    _open_missing_streams()
    try:
        import_module("rich")  # which the commands load when they need it
        from .cli import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich", "click"):
            raise
        sys.stderr.write(f"avaturn: {MISSING}\n")
        sys.exit(2)
    app(prog_name="avaturn")


def _open_missing_streams() -> None:
    """Replace streams that the parent closed, as services do: else a file or socket would take their descriptors."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - until the process ends


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once: a KeyboardInterrupt amid imports, or at the interpreter's end, would print a traceback."""
    os._exit(130)


if __name__ == "__main__":
    main()
