"""The command ``avaturn``, put together."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from . import avatars, batch, demo, emulator, export, inspect, listen, render, sessions, users
from .options import examples
from .running import USAGE, UsageError, tell_usage_error

__all__ = ["app"]


class Commands(TyperGroup):
    """The group of all commands; it tells a usage error in one line."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        """Run a command line, and exit with its code."""
        try:
            code = super().main(args, *rest, **options | {"standalone_mode": False})
        except UsageError as error:
            tell_usage_error(error)
            code = USAGE
        raise SystemExit(code)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Rich's help takes longer than all the rest of the start-up
    epilog=examples(
        "avaturn demo",
        "avaturn export 0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00 --out models",
        "avaturn inspect models/*.glb",
    ),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from .._version import __version__

        typer.echo(f"avaturn {__version__}")
        raise typer.Exit


@app.callback()
def avaturn(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Make, export and render Avaturn avatars.

    Commands that call the API take the token from AVATURN_API_TOKEN. They end with 0 when all is done, 1 when something
    failed, 2 when they were asked for what can't be, and 130 when they were interrupted.
    """


demo.add_to(app)
export.add_to(app)
batch.add_to(app)
render.add_to(app)
users.add_to(app)
avatars.add_to(app)
sessions.add_to(app)
listen.add_to(app)
emulator.add_to(app)
inspect.add_to(app)
