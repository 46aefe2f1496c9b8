"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "BaseUrl",
    "Json",
    "OutFolder",
    "Overwrite",
    "Secret",
    "Timeout",
    "Token",
    "WebhookHost",
    "WebhookPort",
    "examples",
]

Token = Annotated[
    str | None,
    typer.Option(envvar="AVATURN_API_TOKEN", show_default=False, metavar="TOKEN", help="The API token of the project."),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(envvar="AVATURN_BASE_URL", metavar="URL", help="Where the API is, if not at Avaturn: an emulator."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
OutFolder = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="The folder for the files; it is made if it is not there.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")]
Timeout = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for each.")]
WebhookHost = Annotated[str, typer.Option(metavar="HOST", help="The address at which webhooks are received.")]
WebhookPort = Annotated[
    int | None,
    typer.Option(min=0, max=65535, metavar="PORT", help="Receive webhooks at this port; needs --secret."),
]
Secret = Annotated[
    str | None,
    typer.Option(
        envvar="AVATURN_WEBHOOK_SECRET",
        show_default=False,
        metavar="SECRET",
        help="The secret at the end of the webhook url; at least 22 url-safe characters.",
    ),
]


def examples(*commands: str) -> str:
    """Return the part of a help text that shows example command lines."""
    return "\b\nExamples:\n" + "\n".join(f"  {command}" for command in commands)
