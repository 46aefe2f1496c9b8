"""An observer that records what it is told."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from avaturn_async import AvaturnClient, Observer, PollPolicy
from avaturn_async.emulator import Emulator
from avaturn_async.observe import BatchInfo, CallInfo, DownloadInfo, JobInfo, MailboxInfo, WebhookInfo

QUICK = PollPolicy(first=0.02, factor=1.5, cap=0.25, first_with_webhooks=0.25)
NEVER = PollPolicy(first=600, cap=600, first_with_webhooks=600)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
METHODS = [name for name in vars(Observer) if not name.startswith("_") and name != "traceparent"]
Info = CallInfo | JobInfo | WebhookInfo | MailboxInfo | DownloadInfo | BatchInfo


class Recorder(Observer):
    """Keeps the name and the facts of everything that happens."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def names(self, *prefixes: str) -> list[str]:
        """Return what was told, of the subjects with these prefixes."""
        return [name for name, _ in self.told if name.startswith(prefixes or ("",))]

    def infos(self, name: str) -> list[Any]:
        """Return the facts of everything of one name."""
        return [info for told, info in self.told if told == name]


def _recording(name: str) -> Any:
    return lambda self, info: self.told.append((name, info))


for _name in METHODS:
    setattr(Recorder, _name, _recording(_name))


async def make_avatars(avaturn: Emulator, count: int) -> list[UUID]:
    """Make avatars by a client that nobody observes, all ready to be exported."""
    async with AvaturnClient(avaturn.token, base_url=avaturn.url) as client:
        user = await client.users.create()
        sessions = [await client.sessions.create(user.id) for _ in range(count)]
    made = [await avaturn.complete_session(session.id) for session in sessions]
    await avaturn.settled()
    return made
