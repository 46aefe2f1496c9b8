"""``avaturn emulator``."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from .options import Json, examples
from .output import Output
from .running import run

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    lines = examples(
        "avaturn emulator",
        "avaturn emulator --webhook-url http://127.0.0.1:8481/avaturn/SECRET --webhook-loss 0.3",
        "avaturn emulator --export-seconds 20 --server-errors 0.05 --resets 0.02 --seed 7",
    )
    app.command(epilog=lines)(emulator)


class Body(StrEnum):
    """The types of bodies."""

    T1 = "T1"
    T2 = "T2"


def share(what: str) -> Any:
    """Make an option for a probability."""
    return typer.Option(min=0, max=1, metavar="0..1", help=f"How often {what}.")


def seconds(what: str) -> Any:
    """Make an option for a duration."""
    return typer.Option(min=0, metavar="SECONDS", help=what)


def emulator(
    host: Annotated[str, typer.Option(metavar="HOST", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="0 is any that is free.")] = 8480,
    token: Annotated[str | None, typer.Option(metavar="TOKEN", help="The token; else one from the seed.")] = None,
    webhook_url: Annotated[str | None, typer.Option(metavar="URL", help="Where events are posted to.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="What ids, models and faults are drawn from.")] = 0,
    body: Annotated[Body, typer.Option(help="T2 has expressions, T1 has none.")] = Body.T2,
    model_size: Annotated[int | None, typer.Option(min=1, metavar="BYTES", help="The least size of models.")] = None,
    scan_seconds: Annotated[float, seconds("From the photos to the avatar.")] = 0.2,
    export_seconds: Annotated[float, seconds("From the first request to the model.")] = 0.5,
    render_seconds: Annotated[float, seconds("From the request to the image.")] = 0.3,
    url_seconds: Annotated[float, seconds("The life of a download's url.")] = 900,
    webhook_loss: Annotated[float, share("an event is never sent")] = 0,
    webhook_duplicates: Annotated[float, share("an event is sent twice")] = 0,
    webhook_delay: Annotated[float, seconds("An event is up to this much late.")] = 0,
    webhook_early: Annotated[float, share("an event comes before the answer to the request")] = 0,
    webhook_reorder: Annotated[float, share("an event is held back until after a later one")] = 0,
    rate_limited: Annotated[float, share("a call is answered 429")] = 0,
    server_errors: Annotated[float, share("a request is answered 500, 502, 503 or 504")] = 0,
    resets: Annotated[float, share("a request's connection is reset")] = 0,
    broken_downloads: Annotated[float, share("a download's connection breaks off")] = 0,
    slow: Annotated[float, seconds("A request waits up to this much.")] = 0,
    job_failures: Annotated[float, share("a scan, an export or a render fails")] = 0,
    json: Json = False,
) -> None:
    """Run a local Avaturn until Ctrl-C.

    It prints what clients need to use it instead of the real one.
    """
    options = locals()
    from .emulating import emulate

    run(emulate(options, Output(as_json=json)))
