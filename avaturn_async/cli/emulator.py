"""``avaturn emulator``: run a local Avaturn."""

import secrets
from typing import Annotated, Any, Literal

import typer

from .command import command, flag, option
from .output import Output

HELP = """Run a local Avaturn until Ctrl-C.

Prints the environment variables for clients that use it, and how to get an avatar.
"""

BANNER = """\
The Avaturn emulator is running at {url} until Ctrl-C.
In another terminal:

export AVATURN_BASE_URL={url}
export AVATURN_API_TOKEN={token}

To get a model from photos, any three JPEGs:

avaturn make FRONTAL.jpg LEFT.jpg RIGHT.jpg --body-type female --out avatar.glb

Or from the editor:

avaturn users create          # prints the id of a USER
avaturn sessions create USER  # prints a link: open it and finish the session
avaturn export AVATAR         # AVATAR is the id that the page shows
"""


def share(what: str) -> Any:
    """Return an option for a probability."""
    return option("0..1", f"How often {what}.", min=0, max=1)


def seconds(what: str) -> Any:
    """Return an option for a duration."""
    return option("SECONDS", what, min=0)


@command(
    HELP,
    "avaturn emulator",
    "avaturn emulator --webhook-url http://127.0.0.1:8481/avaturn/SECRET --webhook-loss 0.3",
    "avaturn emulator --export-seconds 20 --server-errors 0.05 --resets 0.02 --seed 7",
    "avaturn emulator --host 0.0.0.0 --public-url http://avaturn:8480",
)
async def _emulator(
    output: Output,
    host: Annotated[str, option("HOST", "The address to listen at; 0.0.0.0 for all networks.")] = "127.0.0.1",
    port: Annotated[int, option("PORT", "0 is any free port.", min=0, max=65535)] = 8480,
    public_url: Annotated[
        str | None, option("URL", "The url that clients use, if it is another; other hosts are refused.")
    ] = None,
    token: Annotated[str | None, option("TOKEN", "The API token.", show_default="random")] = None,
    webhook_url: Annotated[str | None, option("URL", "Where events are posted.")] = None,
    seed: Annotated[int, option("N", "What ids, models and faults are drawn from.")] = 0,
    body: Annotated[Literal["T1", "T2"], typer.Option(help="T2 has expressions, T1 has none.")] = "T2",
    small_models: Annotated[bool, flag("--small-models", "Serve small models, for tests.")] = False,
    model_size: Annotated[int | None, option("BYTES", "The minimum size of models.", min=1)] = None,
    scan_seconds: Annotated[float, seconds("From the photos to the avatar.")] = 0.2,
    export_seconds: Annotated[float, seconds("From the first request to the model.")] = 0.5,
    render_seconds: Annotated[float, seconds("From the request to the image.")] = 0.3,
    url_seconds: Annotated[float, seconds("The lifetime of a download url.")] = 900,
    webhook_loss: Annotated[float, share("an event is never sent")] = 0,
    webhook_duplicates: Annotated[float, share("an event is sent twice")] = 0,
    webhook_delay: Annotated[float, seconds("An event is sent up to this much late.")] = 0,
    webhook_early: Annotated[float, share("an event is sent before the response to the request")] = 0,
    webhook_reorder: Annotated[float, share("an event is held back until after a later one")] = 0,
    rate_limited: Annotated[float, share("a call is answered 429")] = 0,
    server_errors: Annotated[float, share("a request is answered 500, 502, 503 or 504")] = 0,
    resets: Annotated[float, share("a request's connection is reset")] = 0,
    broken_downloads: Annotated[float, share("a download's connection breaks")] = 0,
    slow: Annotated[float, seconds("A request waits up to this much.")] = 0,
    job_failures: Annotated[float, share("a scan, export or render fails")] = 0,
) -> int:
    options = locals()
    import asyncio

    import attrs

    from ..emulator import Emulator, Faults, Timing

    timing = {name: options[f"{name}_seconds"] for name in ("scan", "export", "render")}
    faults = {field.name: options[field.name] for field in attrs.fields(Faults) if field.name in options}
    unchanged = ("host", "port", "public_url", "webhook_url", "seed", "model_size")
    running = Emulator(
        **{name: options[name] for name in unchanged},
        token=token or f"emulator-{secrets.token_hex(16)}",
        body=body,
        models="small" if small_models else "full",
        timing=Timing(**timing, url_ttl=url_seconds),
        faults=Faults(**faults),
    )
    async with running as avaturn:
        output.emit({"url": avaturn.url, "token": avaturn.token, "webhook_url": avaturn.webhook_url})
        output.text(BANNER.format(url=avaturn.url, token=avaturn.token))
        return await asyncio.Event().wait()
