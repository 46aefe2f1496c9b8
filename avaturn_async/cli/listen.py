"""``avaturn listen``."""

from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from .command import command
from .output import Output, note

if TYPE_CHECKING:
    from ..webhooks import Reply

__all__ = ["add_to", "refusal"]

HELP = """Receive webhooks and print them until Ctrl-C.

The first line is the url to enter in the developer portal. Its last part is a secret: that of AVATURN_WEBHOOK_SECRET,
or a random one for this run.
"""

REASONS = {
    400: "it is not an event",
    404: "its url does not end with the secret",
    413: "it is too large",
    415: "its body is compressed",
}


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    lines = (
        "avaturn listen",
        "avaturn listen --public-url https://hooks.example.com",
        "avaturn listen --json | jq 'select(.event == \"export.ready\")'",
    )
    command(app, help=HELP, examples=lines)(listen)


async def listen(
    output: Output,
    host: Annotated[str, typer.Option(metavar="HOST", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="0 is any free port.")] = 8481,
    public_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the world reaches the port: a tunnel or a proxy.")
    ] = None,
    secret: Annotated[
        str | None,
        typer.Option(
            envvar="AVATURN_WEBHOOK_SECRET",
            show_default="random",
            metavar="SECRET",
            help="The last part of the url. Set the variable instead: options are visible in the process list.",
        ),
    ] = None,
    urls: Annotated[
        bool, typer.Option("--urls", help="Show urls whole: for a while, anyone who has one can fetch the avatar.")
    ] = False,
) -> int:
    """Receive webhooks."""
    import asyncio
    import secrets

    from ..webhooks import WebhookReceiver, parse_event

    parts = urlsplit(public_url or "https://example.com")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"--public-url must be an http or https url with a host, not {public_url!r}")

    class Printer(WebhookReceiver):
        """Prints what it accepts, and why it refused the rest."""

        async def handle(self, body: bytes, **request: Any) -> "Reply":
            """Take in a webhook and print it."""
            reply = await super().handle(body, **request)
            if reply.status < 300:
                _show(parse_event(body), output, whole_urls=urls)
            else:
                note(refusal(reply.status))
            return reply

    receiver = Printer(secret or secrets.token_urlsafe(24))
    async with receiver.serve(host, port, public_url=public_url) as server:
        output.result({"url": server.url}, f"Enter this url in the developer portal: {server.url}")
        return await asyncio.Event().wait()


def refusal(status: int) -> str:
    """Return why a webhook was refused."""
    return f"refused a webhook: {REASONS.get(status, f'status {status}')}"


def _show(event: Any, output: Output, *, whole_urls: bool) -> None:
    from datetime import datetime

    from ..http import codec
    from ..webhooks import UnknownEvent

    fields = dict(event.body) if isinstance(event, UnknownEvent) else codec.unstructure(event)
    shown = fields if whole_urls else _without_queries(fields)
    others = [f"{name}={value}" for name, value in shown.items() if name != "event"]
    local_time = f"{datetime.now():%H:%M:%S}"  # noqa: DTZ005
    output.result(shown, " ".join([local_time, str(shown.get("event")), *others]))


def _without_queries(value: Any) -> Any:
    from ..redact import without_query

    if isinstance(value, dict):
        return {name: _without_queries(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_queries(item) for item in value]
    return without_query(value) if isinstance(value, str) and "://" in value else value
