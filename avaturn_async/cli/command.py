"""What all commands share: registration, common options, the connection to the API, Ctrl-C, errors, exit codes."""

import inspect
import os
import re
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn, ParamSpec, TypeVar, cast
from urllib.parse import urlsplit

import typer
from typer.core import TyperGroup

import avaturn_async as sdk

from .output import Output, note

if TYPE_CHECKING:
    import asyncio
    from types import FrameType


__all__ = ["AVATAR", "DONE", "FAILED", "INTERRUPTED", "NO_HOOKS", "USAGE", "Access", "AvatarId", "Hooks", "MissingOk"]
__all__ += ["OutFolder", "Overwrite", "Reports", "Timeout", "UserId", "app", "argument", "command", "connected"]
__all__ += ["deleted", "failure", "flag", "group", "in_thread", "option", "proxy_of_environment", "run"]
__all__ += ["secret_option", "tell", "tell_of"]

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

#: An id for examples.
AVATAR = "0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00"

HELP = """Make, export and render Avaturn avatars.

Commands that call the API take the token from AVATURN_API_TOKEN. Exit codes: 0 on success, 1 if something failed, 2 on
usage errors, 130 after Ctrl-C.
"""

#: Modules that commands import lazily; imported before the loop runs, as importing would block it.
_BEFORE_THE_LOOP = ("..client", "..webhooks.server", "rich.progress", "rich.table")

# Typer keeps it in different modules from version to version; BadParameter stays.
_UsageError: type[Exception] = cast("type[Exception]", typer.BadParameter.__mro__[1])


class Commands(TyperGroup):
    """The group of all commands; it prints a usage error on one line."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        """Run a command line, and exit with its code."""
        try:
            code = super().main(args, *rest, **options | {"standalone_mode": False})
        except _UsageError as error:
            code = USAGE
            message = str(getattr(error, "format_message", error.__str__)()).replace("Value error, ", "")  # typer 0.29
            path = getattr(getattr(error, "ctx", None), "command_path", "avaturn")
            if "\n" in message.strip():  # the help that a group without a command shows
                typer.echo(message, err=True)
            else:
                note(f"{path}: {message}{'' if message.endswith(('.', '?')) else '.'} See: {path} --help")
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
        typer.echo(f"avaturn {sdk.__version__}")
        raise typer.Exit


@app.callback(help=HELP)
def _avaturn(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def argument(metavar: str, help: str, **more: Any) -> Any:
    """Describe an argument."""
    return typer.Argument(metavar=metavar, help=help, **more)


def option(metavar: str, help: str, *names: str, **more: Any) -> Any:
    """Describe an option with a value; by default it is called like its parameter."""
    return typer.Option(*names, metavar=metavar, help=help, **more)


def flag(name: str, help: str) -> Any:
    """Describe an option without a value."""
    return typer.Option(name, help=help)


UserId = Annotated[str, argument("USER", "The id of a user.")]
AvatarId = Annotated[str, argument("ID", "The id of an avatar.")]
OutFolder = Annotated[Path, option("DIR", "The folder for the files; it is created if needed.", "--out")]
Overwrite = Annotated[bool, flag("--overwrite", "Replace files that exist.")]
Timeout = Annotated[float, option("SECONDS", "How long to wait for each.", min=0)]
MissingOk = Annotated[bool, flag("--missing-ok", "Succeed if it does not exist.")]


def secret_option(variable: str, metavar: str, help: str, default: str | bool = False) -> Any:
    """Describe an option with a secret, which is better set in the environment."""
    warning = "Set the variable instead: options are visible in the process list."
    return option(metavar, f"{help} {warning}", envvar=variable, show_default=default)


class Access(NamedTuple):
    """The options for reaching the API."""

    token: Annotated[str | None, secret_option("AVATURN_API_TOKEN", "TOKEN", "The API token of the project.")] = None
    base_url: Annotated[
        str | None, option("URL", "The API, if it is not Avaturn's: an emulator.", envvar="AVATURN_BASE_URL")
    ] = None
    proxy: Annotated[str | None, option("URL", "An HTTP proxy for all requests.", show_default="HTTPS_PROXY")] = None
    allow_http: Annotated[bool, flag("--allow-http", "Allow a plain http --base-url, in a private network.")] = False

    def __repr__(self) -> str:
        return f"<Access to {self.base_url or 'Avaturn'}>"


class Hooks(NamedTuple):
    """The options for receiving webhooks; without a port there is no receiver."""

    webhook_host: Annotated[str, option("HOST", "The address at which webhooks are received.")] = "127.0.0.1"
    webhook_port: Annotated[
        int | None, option("PORT", "Receive webhooks at this port; needs the secret.", min=0, max=65535)
    ] = None
    secret: Annotated[
        str | None,
        secret_option(
            "AVATURN_WEBHOOK_SECRET", "SECRET", "The last part of the webhook url, at least 22 url-safe characters."
        ),
    ] = None

    def __repr__(self) -> str:
        return f"<Hooks at {self.webhook_host}:{self.webhook_port}>"


NO_HOOKS = Hooks()


class Reports(NamedTuple):
    """The options for the files that report a batch."""

    report: Annotated[Path | None, option("FILE", "Write a table of all outcomes: CSV, or JSON lines.")] = None
    failed_to: Annotated[Path | None, option("FILE", "Write the rows that failed, which --from reads.")] = None
    html: Annotated[Path | None, option("FILE", "Write a page with totals, waits, failures and all rows.")] = None


_SHARED = (Access, Hooks, Output, Reports)
P = ParamSpec("P")
T = TypeVar("T")
W = TypeVar("W", bound=Callable[..., Coroutine[Any, Any, int | None]])


def command(help: str, *examples: str, name: str | None = None, among: typer.Typer = app) -> Callable[[W], W]:
    """Add an async function, which returns the exit code or None for success, to the command line.

    Its parameters are the command's arguments and options. A parameter of the type `Access`, `Hooks`, `Output` or
    `Reports` stands for the options of that class.
    """

    def register(work: W) -> W:
        parameters, shared = [], {}
        for each in inspect.signature(work).parameters.values():
            if each.annotation in _SHARED:
                shared[each.name] = each.annotation
            else:
                parameters.append(each)
        fields = {name: inspect.signature(kind, eval_str=True).parameters for name, kind in shared.items()}
        parameters += [field for those in fields.values() for field in those.values()]

        def call(**given: Any) -> None:
            for name, kind in shared.items():
                given[name] = kind(*map(given.pop, fields[name]))
            run(work(**given))

        options = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
        call.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        call.__annotations__ = {each.name: each.annotation for each in options}
        lines = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in examples)
        among.command(name or work.__name__.strip("_"), help=help, epilog=lines)(call)
        return work

    return register


def group(name: str, help: str, among: typer.Typer = app) -> typer.Typer:
    """Add a group of commands to the command line."""
    made = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    made.callback()(lambda: None)  # a group with one command stays a group
    among.add_typer(made, name=name, help=help)
    return made


@asynccontextmanager
async def connected(access: Access, hooks: Hooks = NO_HOOKS) -> "AsyncIterator[sdk.AvaturnClient]":
    """Open a client, with a receiver if `hooks` has a port."""
    from yarl import URL

    from ..http.urls import is_loopback

    if not access.token:
        raise sdk.ConfigurationError("no API token: set AVATURN_API_TOKEN; tokens are made in the developer portal")
    # The client would refuse plain http as well, but name its own parameter instead of the option.
    url = URL(access.base_url or "")
    if url.scheme == "http" and not access.allow_http and not is_loopback(url):
        raise sdk.ConfigurationError(
            f"--base-url {url.origin()} would send the token in the clear: use https, or give --allow-http"
        )
    receiver = None
    if hooks.webhook_port is not None:
        if not hooks.secret:
            raise sdk.ConfigurationError(
                "--webhook-port needs AVATURN_WEBHOOK_SECRET: the last part of the url in the developer portal"
            )
        receiver = sdk.WebhookReceiver(hooks.secret)
    client = sdk.AvaturnClient(
        access.token,
        base_url=access.base_url,
        webhooks=receiver,
        allow_http=access.allow_http,
        proxy=access.proxy or proxy_of_environment(access.base_url),
    )
    async with AsyncExitStack() as stack:
        if receiver is not None:
            await stack.enter_async_context(receiver.serve(hooks.webhook_host, hooks.webhook_port or 0))
        yield await stack.enter_async_context(client)


async def in_thread(work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Run blocking work in a thread: `asyncio.to_thread`, without loading asyncio before a command runs."""
    import asyncio

    return await asyncio.to_thread(work, *args, **options)


async def deleted(kind: str, name: str, call: Awaitable[None], missing_ok: bool, output: Output) -> None:
    """Await the deletion of `name`, and print how it ended."""
    try:
        await call
        output.result({f"{kind}_id": name, "deleted": True}, f"deleted {kind} {name}")
    except sdk.NotFoundError:
        if not missing_ok:
            raise
        output.result({f"{kind}_id": name, "deleted": False}, f"there is no {kind} {name}")


def proxy_of_environment(base_url: str | None) -> str | None:
    """Return the proxy that HTTPS_PROXY or HTTP_PROXY name for the API, unless NO_PROXY excludes its host."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(base_url or "https://api.avaturn.me")
    if parts.hostname in ("localhost", "127.0.0.1", "::1") or proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme)


def run(work: Coroutine[Any, Any, int | None]) -> NoReturn:
    """Run a command, and exit with the code that it returns, or with that of its error."""
    import asyncio

    async def interruptible() -> int | None:
        with _cancelled_by_ctrl_c(cast("asyncio.Task[int | None]", asyncio.current_task())):
            return await work

    for name in _BEFORE_THE_LOOP:
        import_module(name, __package__)
    code: int | None
    try:
        with asyncio.Runner() as runner:
            code = runner.run(interruptible()) or DONE
    except asyncio.CancelledError:
        note("avaturn: interrupted")
        code = INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        first: BaseException = error
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        code = tell(first)
        if code is None:
            raise
    raise typer.Exit(code)


@contextmanager
def _cancelled_by_ctrl_c(task: "asyncio.Task[int | None]") -> Iterator[None]:
    """Cancel the task at the first Ctrl-C, and end the process at the second."""
    presses = count()

    def interrupt(number: int, frame: "FrameType | None") -> None:
        if next(presses):
            os._exit(INTERRUPTED)
        task.get_loop().call_soon_threadsafe(task.cancel)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def tell(error: BaseException) -> int | None:
    """Print an expected error on one line, and return the exit code; return None for any other exception."""
    usage = isinstance(error, sdk.ConfigurationError | sdk.WebhooksRequiredError)
    if not usage and not isinstance(error, sdk.AvaturnError | ValueError | OSError | ImportError):
        return None
    note(f"avaturn: {failure(error)}")
    return FAILED if isinstance(error, sdk.AvaturnError) and not usage else USAGE


def failure(error: BaseException) -> str:
    """Return the message of an error."""
    if isinstance(error, OSError) and error.strerror and not isinstance(error, sdk.AvaturnError):
        if bind := re.search(r"bind on address \('(.+?)', (\d+)", error.strerror):  # asyncio's message quotes a tuple
            return f"can't listen at {bind[1]}, port {bind[2]}: {os.strerror(error.errno or 0)}"
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def tell_of(avatar: object, error: Exception) -> None:
    """Print the error of one avatar of several, on one line."""
    message = failure(error)
    named = str(avatar) in message or message.startswith("line ")
    note(f"avaturn: {message}" if named else f"avaturn: {avatar}: {message}")
