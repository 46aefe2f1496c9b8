"""Connect to the API, with a webhook receiver if a port for one is given."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..client import AvaturnClient
    from ..webhooks import WebhookReceiver

__all__ = ["NO_HOOKS", "Access", "Hooks", "connected", "proxy_of_environment"]


class Access(NamedTuple):
    """How the API is reached."""

    token: str | None
    base_url: str | None = None
    proxy: str | None = None
    allow_http: bool = False

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
        """Make the receiver, which does not listen yet; None without a port."""
        from ..errors import ConfigurationError
        from ..webhooks import WebhookReceiver

        if self.port is None:
            return None
        if not self.secret:
            raise ConfigurationError(
                "--webhook-port needs AVATURN_WEBHOOK_SECRET: the last part of the url in the developer portal"
            )
        return WebhookReceiver(self.secret)


NO_HOOKS = Hooks("", None, None)


@asynccontextmanager
async def connected(access: Access, hooks: Hooks = NO_HOOKS) -> AsyncIterator[AvaturnClient]:
    """Open a client, and a receiver for it where `hooks` has a port."""
    from ..client import AvaturnClient
    from ..errors import ConfigurationError

    if not access.token:
        raise ConfigurationError("no API token: set AVATURN_API_TOKEN; tokens are made in the developer portal")
    _check_base_url(access)
    receiver = hooks.receiver()
    client = AvaturnClient(
        access.token,
        base_url=access.base_url,
        webhooks=receiver,
        allow_http=access.allow_http,
        proxy=access.proxy or proxy_of_environment(access.base_url),
    )
    async with AsyncExitStack() as stack:
        if receiver is not None:
            await stack.enter_async_context(receiver.serve(hooks.host, hooks.port or 0))
        yield await stack.enter_async_context(client)


def _check_base_url(access: Access) -> None:
    """Refuse plain http in the terms of the command line; the client refuses the rest."""
    from yarl import URL

    from ..errors import ConfigurationError
    from ..http.urls import is_loopback

    url = URL(access.base_url or "")
    if url.scheme == "http" and not access.allow_http and not is_loopback(url):
        raise ConfigurationError(
            f"--base-url {url.origin()} would send the token in the clear: use https, or give --allow-http"
        )


def proxy_of_environment(base_url: str | None) -> str | None:
    """Return the proxy that HTTPS_PROXY or HTTP_PROXY name for the API, unless NO_PROXY excludes its host."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(base_url or "https://api.avaturn.me")
    if parts.hostname in ("localhost", "127.0.0.1", "::1") or proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme)
