"""The command ``avaturn``, put together."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from . import (
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
from .command import AVATAR
from .runner import UsageError, usage

__all__ = ["app"]

HELP = """Make, export and render Avaturn avatars.

Commands that call the API take the token from AVATURN_API_TOKEN. Exit codes: 0 on success, 1 if something failed, 2 on
usage errors, 130 after Ctrl-C.
"""


class Commands(TyperGroup):
    """The group of all commands; it prints a usage error on one line."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        """Run a command line, and exit with its code."""
        try:
            code = super().main(args, *rest, **options | {"standalone_mode": False})
        except UsageError as error:
            code = usage(error)
        raise SystemExit(code)


app: typer.Typer = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Rich's help takes longer than all the rest of the start-up
    epilog=f"\b\nExamples:\n  avaturn demo\n  avaturn export {AVATAR} --out models\n  avaturn inspect models/*.glb",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from .._version import __version__

        typer.echo(f"avaturn {__version__}")
        raise typer.Exit


@app.callback(help=HELP)
def avaturn(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that stand before any command."""


_MODULES = (
    *(demo, make, export, batch, wait, render, users, avatars, sessions),
    *(listen, trigger, emulator, inspect, shrink, view, doctor),
)
for _module in _MODULES:
    _module.add_to(app)
