"""Connect to the API, with a webhook receiver where one is asked for."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from uuid import UUID

    from ..client import AvaturnClient
    from ..webhooks import WebhookReceiver

__all__ = ["Access", "Hooks", "connected", "unique_ids"]


class Access(NamedTuple):
    """What it takes to call the API."""

    token: str | None
    base_url: str | None

    def __repr__(self) -> str:
        return f"<Access to {self.base_url or 'Avaturn'}>"


class Hooks(NamedTuple):
    """Where webhooks are received, if a port is given, and the secret that authenticates them."""

    host: str
    port: int | None
    secret: str | None

    def __repr__(self) -> str:
        return f"<Hooks at {self.host}:{self.port}>"

    def receiver(self) -> WebhookReceiver | None:
        """Make the receiver, which does not listen yet; None where no port is given."""
        from ..webhooks import WebhookReceiver

        if self.port is None:
            return None
        if not self.secret:
            raise ConfigurationError(
                "--webhook-port needs --secret, or AVATURN_WEBHOOK_SECRET: the end of the url in the developer portal"
            )
        return WebhookReceiver(self.secret)


NO_HOOKS = Hooks("", None, None)


def unique_ids(texts: Iterable[str]) -> list[UUID]:
    """Read ids of avatars, each once and in their order; raise ValueError for what is none."""
    from ..models import as_uuid

    return list(dict.fromkeys(as_uuid(text, "the avatar's id") for text in texts))


@asynccontextmanager
async def connected(access: Access, hooks: Hooks = NO_HOOKS) -> AsyncIterator[AvaturnClient]:
    """Open a client, and a receiver for it where `hooks` has a port."""
    from ..client import AvaturnClient

    if not access.token:
        raise ConfigurationError("no API token: set AVATURN_API_TOKEN; tokens are made in the developer portal")
    receiver = hooks.receiver()
    client = AvaturnClient(access.token, base_url=access.base_url, webhooks=receiver)
    async with AsyncExitStack() as stack:
        if receiver is not None:
            await stack.enter_async_context(receiver.serve(hooks.host, hooks.port or 0))
        yield await stack.enter_async_context(client)
