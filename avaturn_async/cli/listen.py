"""``avaturn listen``: receive webhooks, print them, save them, and forward them to an app."""

import json
import os
import secrets
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self
from urllib.parse import urlsplit

import avaturn_async as sdk

from .command import command, flag, in_thread, option, secret_option
from .output import Output, note
from .trigger import Anywhere, check_target, new_session, post, told

if TYPE_CHECKING:
    import aiohttp


__all__ = ["refusal"]

HELP = """Receive webhooks and print them until Ctrl-C.

The first line is the url to enter in the developer portal. Its last part is a secret: AVATURN_WEBHOOK_SECRET, or a
random one for this run.

--save appends each event to a file before the webhook is answered. --forward-to posts events to your app, in order, and
repeats each until the app answers 2xx. An event that the app refuses as malformed (400, 413, 422), or answers with 5xx
for five minutes, is reported and skipped, and stays in the file. Events that were not forwarded when the command ended
are forwarded by the next run with the same --save.
"""

#: Statuses with which a target refuses an event for good.
REFUSED = (400, 413, 422)
#: Seconds between attempts to forward an event: the first pause, and the longest.
PAUSES = (0.25, 5.0)
#: Times that a target may answer an event with 5xx: five minutes, at these pauses.
FAILURES = 60

REASONS = {
    400: "it is not an event",
    404: "its url does not end with the secret",
    413: "it is too large",
    415: "its body is compressed",
}


@command(
    HELP,
    "avaturn listen",
    "avaturn listen --public-url https://hooks.example.com",
    "avaturn listen --save e.jsonl --forward-to http://127.0.0.1:8000/avaturn/SECRET",
    "avaturn listen --json | jq 'select(.event == \"export.ready\")'",
)
async def _listen(
    output: Output,
    host: Annotated[str, option("HOST", "The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, option("PORT", "0 is any free port.", min=0, max=65535)] = 8481,
    public_url: Annotated[
        str | None, option("URL", "The public address of the port, if there is a tunnel or a proxy.")
    ] = None,
    secret: Annotated[
        str | None, secret_option("AVATURN_WEBHOOK_SECRET", "SECRET", "The last part of the url.", "random")
    ] = None,
    urls: Annotated[
        bool, flag("--urls", "Show whole urls; with one, anyone can fetch the avatar until it expires.")
    ] = False,
    save: Annotated[Path | None, option("FILE", "Append events to a file, as lines of JSON.")] = None,
    forward_to: Annotated[str | None, option("URL", "Post events to your app, with its secret.")] = None,
    anywhere: Anywhere = False,
) -> int:
    import asyncio

    parts = urlsplit(public_url or "https://example.com")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"--public-url must be an http or https url with a host, not {public_url!r}")
    if forward_to is not None:
        check_target("--forward-to", forward_to, anywhere=anywhere)
    events = None
    async with AsyncExitStack() as stack:
        if save is not None or forward_to is not None:
            events = await stack.enter_async_context(EventFile(save, forwarding=forward_to is not None))
        if forward_to is not None and events is not None:
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            tasks.create_task(events.forward(forward_to))
        receiver = _printer(secret or secrets.token_urlsafe(24), events, output, whole_urls=urls)
        server = await stack.enter_async_context(receiver.serve(host, port, public_url=public_url))
        output.result({"url": server.url}, f"Enter this url in the developer portal: {server.url}")
        return await asyncio.Event().wait()


def _printer(secret: str, events: "EventFile | None", output: Output, *, whole_urls: bool) -> "sdk.WebhookReceiver":
    """Return a receiver that saves and prints the events that it accepts, and prints why it refused others."""
    from ..webhooks.replies import UNAVAILABLE

    class Printer(sdk.WebhookReceiver):
        """A receiver that saves and prints."""

        async def handle(self, body: bytes, **request: Any) -> "sdk.Reply":
            """Handle a webhook, then save and print its event."""
            reply = await super().handle(body, **request)
            if reply.status >= 300:
                note(refusal(reply.status))
                return reply
            try:
                if events is not None:
                    await events.add(body)
            except OSError as error:
                note(f"avaturn: an event could not be saved and was answered 503: {error.strerror}")
                return UNAVAILABLE
            _show(sdk.parse_event(body), output, whole_urls=whole_urls)
            return reply

    return Printer(secret)


class EventFile:
    """A file of received events, one a line, and the number of bytes that were forwarded; an async context manager.

    An event is on the disk before `add` returns. When events are forwarded, the position is kept in a second file
    beside the first, so that the next process continues there.

    Args:
        path: the file, created readable for this user alone if it does not exist; None for a temporary file, which is
            kept if it has events that were not forwarded or not accepted.
        forwarding: whether `forward` will be called.
    """

    def __init__(self, path: Path | None, *, forwarding: bool) -> None:
        import asyncio

        self._wanted = path
        self._lock = asyncio.Lock()
        self._arrived = asyncio.Event()
        self._forwarding = forwarding
        self._skipped = False

    async def __aenter__(self) -> Self:
        await in_thread(self._open)
        if self._wanted is None:
            note(f"events are kept in {self._path} until they are forwarded")
        return self

    async def __aexit__(self, *_: object) -> None:
        left = await in_thread(self._close)
        if left:
            note(f"not forwarded yet: {left}. To go on: avaturn listen --save {self._path} --forward-to URL")

    async def add(self, body: bytes) -> None:
        """Append an event. Raises OSError if it can't be written."""
        from ..http.codec import parse_json

        line = json.dumps(parse_json(body)).encode() + b"\n"
        async with self._lock:
            await in_thread(self._append, line)
        self._arrived.set()

    async def forward(self, url: str) -> None:
        """Post events to a url until cancelled: in order, each until it is accepted or given up."""
        async with new_session() as session:
            while True:
                self._arrived.clear()
                line = await in_thread(self._next)
                if not line:
                    await self._arrived.wait()
                    continue
                if _is_event(line):
                    await self._deliver(session, url, line)
                await in_thread(self._advance, len(line))

    async def _deliver(self, session: "aiohttp.ClientSession", url: str, line: bytes) -> None:
        import asyncio

        pause, most = PAUSES
        failures, first = 0, True
        while True:
            answer = await post(session, url, line.rstrip())
            if isinstance(answer, int) and answer < 300:
                return
            failed = isinstance(answer, int) and answer >= 500
            failures += failed
            if answer in REFUSED or failures == FAILURES:
                attempts = f", the {failures}th 5xx," if failures == FAILURES else ""
                note(f"avaturn: an event {told(answer)}{attempts} and is skipped; it stays in {self._path}")
                self._skipped = True
                return
            if first:
                limit = "for five minutes" if failed else "until it is accepted"
                note(f"avaturn: an event {told(answer)}; retrying {limit}")
            first = False
            await asyncio.sleep(pause)
            pause = min(2 * pause, most)

    # The methods below block, and are called in a thread.

    def _open(self) -> None:
        import tempfile

        if self._wanted is None:
            number, name = tempfile.mkstemp(prefix="avaturn-events-", suffix=".jsonl")
            self._path = Path(name)
            os.close(number)
        else:
            self._path = self._wanted
        self._position_file = self._path.with_name(f"{self._path.name}.forwarded")
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        self._file = open(self._path, "a+b", buffering=0, opener=lambda path, _: os.open(path, flags, 0o600))  # noqa: SIM115
        self._position = self._file.seek(0, os.SEEK_END)
        if self._position:
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":  # left by a process that was killed while writing
                self._append(b"\n")
                self._position += 1
        if self._forwarding:
            with suppress(OSError, ValueError):  # no position yet: earlier events were not meant to be forwarded
                self._position = min(int(self._position_file.read_text()), self._position)
            self._advance(0)

    def _append(self, line: bytes) -> None:
        before = self._file.seek(0, os.SEEK_END)
        try:
            rest = memoryview(line)
            while rest:  # a full disk accepts only a part
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(before)  # a partial line would corrupt the next one
            raise

    def _next(self) -> bytes:
        """Return the first complete line that was not forwarded, or an empty one."""
        with self._path.open("rb") as file:
            file.seek(self._position)
            line = file.readline()
        return line if line.endswith(b"\n") else b""

    def _advance(self, size: int) -> None:
        self._position += size
        self._position_file.write_text(str(self._position))

    def _close(self) -> int:
        """Close the file, and return the number of events that still have to be forwarded."""
        self._file.seek(self._position)
        left = sum(map(_is_event, self._file)) if self._forwarding else 0
        self._file.close()
        if self._wanted is None and not left and not self._skipped:
            self._path.unlink()
            self._position_file.unlink(missing_ok=True)
        return left


def _is_event(line: bytes) -> bool:
    """Whether a line is an event; a process that was killed while writing leaves a part of one."""
    try:
        sdk.parse_event(line)
    except sdk.WebhookError:
        return False
    return True


def refusal(status: int) -> str:
    """Return why a webhook was refused."""
    return f"refused a webhook: {REASONS.get(status, f'status {status}')}"


def _show(event: Any, output: Output, *, whole_urls: bool) -> None:
    from ..http import codec

    fields = dict(event.body) if isinstance(event, sdk.UnknownEvent) else codec.unstructure(event)
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
