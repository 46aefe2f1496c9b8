"""Make commands of async functions: their own options, the options that several share, and their help."""

import inspect
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from .connect import Access, Hooks
from .output import Output
from .reports import Reports
from .runner import run

__all__ = ["AVATAR", "AvatarId", "OutFolder", "Overwrite", "Timeout", "UserId", "command", "group"]

#: An id for examples.
AVATAR = "0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00"

UserId = Annotated[str, typer.Argument(metavar="USER")]
AvatarId = Annotated[str, typer.Argument(metavar="ID")]
OutFolder = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="The folder for the files; it is made if it does not exist.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
Timeout = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for each.")]

_Token = Annotated[
    str | None,
    typer.Option(
        envvar="AVATURN_API_TOKEN",
        show_default=False,
        metavar="TOKEN",
        help="The API token of the project. Set the variable instead: options are visible in the process list.",
    ),
]
_BaseUrl = Annotated[
    str | None,
    typer.Option(envvar="AVATURN_BASE_URL", metavar="URL", help="Where the API is, if not at Avaturn: an emulator."),
]
_Proxy = Annotated[
    str | None,
    typer.Option(metavar="URL", show_default="HTTPS_PROXY", help="An HTTP proxy for all requests."),
]
_AllowHttp = Annotated[bool, typer.Option("--allow-http", help="Allow a plain http --base-url, in a private network.")]
_WebhookHost = Annotated[str, typer.Option(metavar="HOST", help="The address at which webhooks are received.")]
_WebhookPort = Annotated[
    int | None,
    typer.Option(min=0, max=65535, metavar="PORT", help="Receive webhooks at this port; needs the secret."),
]
_Secret = Annotated[
    str | None,
    typer.Option(
        envvar="AVATURN_WEBHOOK_SECRET",
        show_default=False,
        metavar="SECRET",
        help="The last part of the webhook url, at least 22 url-safe characters. Set the variable instead: options "
        "are visible in the process list.",
    ),
]
_Report = Annotated[
    Path | None, typer.Option("--report", metavar="FILE", help="Write a table of all outcomes: CSV, or JSON lines.")
]
_FailedTo = Annotated[
    Path | None, typer.Option("--failed-to", metavar="FILE", help="Write the rows that failed, which --from reads.")
]
_Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a page with totals, waits, failures and all rows.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]

#: Parameters of commands that stand for several options: what is made of the options, and their types and defaults.
_SHARED: dict[str, tuple[Callable[..., Any], dict[str, tuple[Any, Any]]]] = {
    "hooks": (
        Hooks,
        {"webhook_host": (_WebhookHost, "127.0.0.1"), "webhook_port": (_WebhookPort, None), "secret": (_Secret, None)},
    ),
    "access": (
        Access,
        {
            "token": (_Token, None),
            "base_url": (_BaseUrl, None),
            "proxy": (_Proxy, None),
            "allow_http": (_AllowHttp, False),
        },
    ),
    "reports": (Reports, {"report": (_Report, None), "failed_to": (_FailedTo, None), "html": (_Html, None)}),
    "output": (Output, {"json": (_Json, False)}),
}

W = TypeVar("W", bound=Callable[..., Coroutine[Any, Any, int]])


def command(app: typer.Typer, name: str | None = None, *, help: str, examples: tuple[str, ...]) -> Callable[[W], W]:
    """Add an async function, which returns the exit code, to the command line.

    Its parameters are the command's arguments and options. Parameters called ``access``, ``hooks``, ``reports`` and
    ``output`` stand for the options that several commands share.
    """

    def register(work: W) -> W:
        parameters = inspect.signature(work).parameters.values()
        shared = {each.name: _SHARED[each.name] for each in parameters if each.name in _SHARED}

        def call(**given: Any) -> None:
            for parameter, (make, options) in shared.items():
                given[parameter] = make(*[given.pop(option) for option in options])
            run(work(**given))

        own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters if each.name not in shared]
        own += [
            inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
            for _, options in shared.values()
            for option, (annotation, default) in options.items()
        ]
        call.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
        call.__annotations__ = {each.name: each.annotation for each in own}
        lines = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in examples)
        app.command(name or work.__name__.strip("_"), help=help, epilog=lines)(call)
        return work

    return register


def group(app: typer.Typer, name: str, *, help: str) -> typer.Typer:
    """Add a group of commands to the command line."""
    made = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    made.callback()(lambda: None)  # a group with one command stays a group
    app.add_typer(made, name=name, help=help)
    return made
