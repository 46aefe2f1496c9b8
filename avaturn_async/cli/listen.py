"""``avaturn listen``."""

from typing import Annotated, NamedTuple

import typer

from .options import Json, Secret, WebhookHost, examples
from .output import Output
from .running import run

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    lines = examples(
        "avaturn listen",
        "avaturn listen --public-url https://hooks.example.com --secret $SECRET",
        "avaturn listen --json | jq 'select(.event == \"export.ready\")'",
    )
    app.command(epilog=lines)(listen)


class Place(NamedTuple):
    """Where to listen, and how the world gets there."""

    host: str
    port: int
    public_url: str | None


def listen(
    host: WebhookHost = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="0 is any that is free.")] = 8481,
    public_url: Annotated[
        str | None, typer.Option(metavar="URL", help="What the world reaches the port by: a tunnel or a proxy.")
    ] = None,
    secret: Secret = None,
    urls: Annotated[
        bool, typer.Option("--urls", help="Show urls whole: whoever has one can fetch the avatar for a while.")
    ] = False,
    json: Json = False,
) -> None:
    """Receive webhooks and print them until Ctrl-C.

    It says the url to enter in the developer portal, which ends in a secret: yours, or one made for this time.
    """
    place = Place(host, port, public_url)
    from .watching import watch

    run(watch(place, secret, Output(as_json=json), whole_urls=urls))
