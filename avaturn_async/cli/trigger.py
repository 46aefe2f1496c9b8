"""``avaturn trigger``, and the sending of events that `listen` uses too."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import uuid4

import avaturn_async as sdk

from .command import DONE, FAILED, argument, command, flag, in_thread, option
from .output import Output, note

if TYPE_CHECKING:
    import aiohttp

__all__ = ["check_target", "new_session", "post", "told"]

HELP = """Send an event to a webhook receiver, as Avaturn would.

Its links lead nowhere, and the API does not know the job: a client that awaits the avatar polls, and keeps waiting.
--replay sends the events that "avaturn listen --save" has saved, in order.

Events may contain links to people's avatars, so they are sent only to this machine unless --anywhere is given.
"""

#: Seconds in which a receiver must answer.
TIMEOUT = 10

EventName = Literal["avatar.ready", "export.ready", "render.ready"]
Anywhere = Annotated[bool, flag("--anywhere", "Send events to other machines.")]


@command(
    HELP,
    "avaturn trigger export.ready --to http://127.0.0.1:8000/avaturn/SECRET",
    "avaturn trigger export.ready --failed --to http://127.0.0.1:8000/avaturn/SECRET",
    "avaturn trigger --replay events.jsonl --to http://127.0.0.1:8000/avaturn/SECRET",
)
async def _trigger(
    output: Output,
    to: Annotated[str, option("URL", "The receiver's url, with its secret.")],
    event: Annotated[EventName | None, argument("EVENT", "The event's name.")] = None,
    avatar_id: Annotated[str | None, option("ID", "The avatar.", show_default="random")] = None,
    user_id: Annotated[str | None, option("USER", "Its user.", show_default="triggered")] = None,
    render_id: Annotated[str | None, option("ID", "The render of render.ready.", show_default="random")] = None,
    failed: Annotated[bool, flag("--failed", "The job failed.")] = False,
    unknown: Annotated[bool, flag("--unknown", "Use an undocumented event name.")] = False,
    replay: Annotated[Path | None, option("FILE", "Send the events of a file instead.")] = None,
    anywhere: Anywhere = False,
) -> int:
    check_target("--to", to, anywhere=anywhere)
    if (event is None) == (replay is None):
        raise ValueError("give the name of an event, or --replay FILE")
    if replay is not None and (avatar_id or user_id or render_id or failed or unknown):
        raise ValueError("--replay sends events unchanged: leave out the options that describe one")
    if render_id is not None and event != "render.ready":
        raise ValueError(f"--render-id is for render.ready, not for {event}")
    bodies = []
    if replay is not None:
        bodies = (await in_thread(replay.read_bytes)).splitlines()
    elif event is not None:
        bodies = [json.dumps(_payload(event, avatar_id, user_id or "triggered", render_id, failed, unknown)).encode()]
    sent = taken = 0
    async with new_session() as session:
        for line, body in enumerate(bodies, 1):
            if body.strip():
                sent += 1
                taken += await _send(session, to, body, "" if replay is None else f"{replay}, line {line}: ", output)
    return DONE if taken == sent else FAILED


def _payload(
    event: EventName, avatar_id: str | None, user_id: str, render_id: str | None, failed: bool, unknown: bool
) -> dict[str, Any]:
    """Return the payload of an event, as the contract defines it."""
    from ..models import as_uuid

    avatar = uuid4() if avatar_id is None else as_uuid(avatar_id, "--avatar-id")
    fields: dict[str, Any] = {"event": event, "avatar_id": str(avatar), "user_id": user_id}
    fields["status"] = "failed" if failed else "ready"
    link = None if failed else f"https://avaturn.invalid/{avatar}"  # RFC 6761: a host that never exists
    if event == "avatar.ready":
        fields["session_id"] = None
    elif event == "export.ready":
        fields["export_url"] = link and f"{link}.glb"
    else:
        fields["id"] = str(uuid4() if render_id is None else as_uuid(render_id, "--render-id"))
        fields["render_url"] = link and f"{link}.jpg"
    return fields | {"event": f"{event}.unknown"} if unknown else fields


async def _send(session: "aiohttp.ClientSession", url: str, body: bytes, line: str, output: Output) -> bool:
    """Send an event, print the answer, and return whether the receiver accepted the event."""
    from ..http.codec import parse_json

    try:
        event = parse_json(body)
    except ValueError:
        note(f"avaturn: {line}this is not JSON (perhaps the line was cut off); it is not sent")
        return False
    try:
        sdk.parse_event(body)
    except sdk.WebhookError as error:
        note(f"avaturn: {line}this is not an event: {str(error).partition(': ')[2]}; it is not sent")
        return False
    answer = await post(session, url, body)
    record = {"event": event["event"], "avatar_id": event.get("avatar_id"), "answer": answer}
    output.result(record, f"{line}{event['event']} of avatar {event.get('avatar_id')} {told(answer)}")
    return isinstance(answer, int) and answer < 300


def check_target(option: str, url: str, *, anywhere: bool) -> None:
    """Raise ValueError for a url that is not http or https or, unless `anywhere`, not of this machine.

    The message does not quote the url, whose path may contain a secret.
    """
    from yarl import URL

    from ..http.urls import is_loopback

    try:
        target = URL(url)
        valid = target.scheme in ("http", "https") and bool(target.host)
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"{option} must be an http or https url with a host")
    if not anywhere and not is_loopback(target):
        raise ValueError(f"{option} leads to {target.host}, which is not this machine: --anywhere allows that")


def new_session() -> "aiohttp.ClientSession":
    """Open a session that sends events as Avaturn does: without cookies and without a proxy."""
    import aiohttp

    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=TIMEOUT),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Content-Type": "application/json", "User-Agent": "avaturn-trigger"},
    )


async def post(session: "aiohttp.ClientSession", url: str, body: bytes) -> int | str:
    """Post an event; return the status, or why there was no answer."""
    import aiohttp

    from ..http.responses import exchange_problem

    try:
        async with session.post(url, data=body, allow_redirects=False) as response:
            await response.content.read(65_536)
            return response.status
    except (aiohttp.ClientError, OSError) as error:
        return exchange_problem(error, timeout=TIMEOUT, connect_timeout=TIMEOUT)


def told(answer: int | str) -> str:
    """Return what a receiver answered, for people."""
    if isinstance(answer, str):
        return f"was not answered: {answer}"
    hint = " (is the url right, with path and secret?)" if answer in (401, 404) else ""
    return f"was answered {answer}{hint}"
