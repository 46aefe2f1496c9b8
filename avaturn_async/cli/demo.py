"""``avaturn demo``."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Json, examples
from .output import Output
from .running import run

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    lines = examples("avaturn demo", "avaturn demo --count 20 --webhook-loss 0.3", "avaturn demo --json --out models")
    app.command(epilog=lines)(demo)


def demo(
    count: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="How many avatars.")] = 8,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            show_default="the first free of avatars/demo-1, avatars/demo-2, ...",
            help="The folder for the models; those of an earlier demo in it are replaced.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="What faces, outfits and faults are drawn from.")] = 0,
    webhook_loss: Annotated[
        float, typer.Option(min=0, max=1, metavar="0..1", help="How often a webhook is lost; a poll makes up for it.")
    ] = 0,
    model_size: Annotated[
        int | None, typer.Option(min=1, max=64 * 2**20, metavar="BYTES", help="The least size of a model.")
    ] = None,
    small_models: Annotated[bool, typer.Option("--small-models", help="Make models of 1 MB, not of 12 MB.")] = False,
    json: Json = False,
) -> None:
    """Make avatars from photos and export them, on this machine alone.

    An emulator of Avaturn and a webhook receiver run within the command: no account or token is needed. Users are made
    and photos uploaded, scans awaited and customized, all exports awaited at once by webhook or poll, the models
    downloaded and checked.
    """
    from .story import Plan, tell_story

    plan = Plan(count, out, seed, webhook_loss, model_size, "small" if small_models else "full")
    run(tell_story(plan, Output(as_json=json)))
