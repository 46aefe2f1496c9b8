"""The emulator: its parts put together on a socket."""

import hashlib
import ipaddress
from collections import Counter, deque
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import attrs
from aiohttp import web

from .agenda import Agenda
from .api import Api
from .catalogue import Catalogue
from .controls import Controls
from .downloads import Downloads
from .editor import Editor
from .faults import Dice, Faults
from .gate import Gate, problems
from .hooks import Delivery, Hooks
from .jobs import Jobs
from .journal import Journal, RequestRecord
from .library import Body, Library, Looks
from .links import Links
from .pages import Pages
from .timing import Timing
from .uploads import Uploads
from .world import World

__all__ = ["Emulator"]

GRACE = 0.25
KEEPALIVE = 75
MAX_JSON = 256 * 1024
LOG = 10_000


class Emulator:
    """A local Avaturn on a real socket, for as long as its `async with` block runs.

    Args:
        host: The address to listen at.
        port: The port to listen at; 0 for any that is free.
        token: The only API token that is right; one made from the seed if left out.
        webhook_url: Where events are posted to. It can be set later, as receivers tend to start after the emulator.
        public_url: The start of all urls that are handed out, where clients reach the emulator at another address.
        seed: What identifiers, models, images and faults are drawn from.
        timing: How long things take.
        faults: What goes wrong.
        catalogue: The assets and bodies that customizations may name.
        body: The type of the models: T2 has expressions, T1 has none.
        model_size: The least size of the models in bytes, up to 64 MiB; None for the natural half a megabyte.
        model_variety: How many different models there are; None for one of its own for each version of each avatar.

    Entering raises `OSError` where the port is taken. The setters and `settled` may be used while it runs.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        webhook_url: str | None = None,
        public_url: str | None = None,
        seed: int = 0,
        timing: Timing | None = None,
        faults: Faults | None = None,
        catalogue: Catalogue | None = None,
        body: Body = "T2",
        model_size: int | None = None,
        model_variety: int | None = None,
    ) -> None:
        self._address = host, port
        self._public_url = public_url
        self._looks = Looks(seed=seed, body=body, model_size=model_size, model_variety=model_variety)
        self.token = token or f"emulator-{hashlib.sha256(f'token/{seed}'.encode()).hexdigest()[:32]}"
        self.catalogue = catalogue or Catalogue()
        self.deliveries: deque[Delivery] = deque(maxlen=LOG)
        """The last ten thousand webhooks, received, refused or lost."""
        self._controls = Controls(
            timing=Timing() if timing is None else timing,
            faults=Faults() if faults is None else faults,
            webhook_url=webhook_url,
        )
        self._dice = Dice(seed)
        self._journal = Journal()
        self._world = World(self._dice, self.catalogue)
        self._links = Links(self._controls)
        self._run: _Run | None = None

    def __repr__(self) -> str:
        return f"<Emulator {self._links.base or 'not started'}>"

    async def __aenter__(self) -> Self:
        if self._run is not None:
            raise RuntimeError("this emulator is running already")
        async with AsyncExitStack() as stack:
            agenda = Agenda()
            hooks = Hooks(self._controls, self._dice, agenda, self.deliveries)
            stack.push_async_callback(hooks.aclose)
            stack.callback(agenda.clear)
            jobs = Jobs(self._controls, self._dice, agenda, hooks, self._links)
            address = await self._listen(jobs, stack)
            self._links.base = (self._public_url or _url(address)).rstrip("/")
            self._run = _Run(agenda, hooks, Editor(self._world, jobs), stack.pop_all())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        run, self._run = self._run, None
        if run is not None:
            await run.stack.aclose()

    @property
    def url(self) -> str:
        """The base url, without a slash at its end. Raises `RuntimeError` before the start."""
        if not self._links.base:
            raise RuntimeError("the emulator has no url until it has started: use `async with`")
        return self._links.base

    @property
    def webhook_url(self) -> str | None:
        """Where events are posted to."""
        return self._controls.webhook_url

    @webhook_url.setter
    def webhook_url(self, value: str | None) -> None:
        self._controls.webhook_url = value

    @property
    def timing(self) -> Timing:
        """How long things take, of those that start from now on."""
        return self._controls.timing

    @timing.setter
    def timing(self, value: Timing) -> None:
        self._controls.timing = value

    @property
    def faults(self) -> Faults:
        """What goes wrong from now on."""
        return self._controls.faults

    @faults.setter
    def faults(self, value: Faults) -> None:
        self._controls.faults = value

    @property
    def requests(self) -> deque[RequestRecord]:
        """The last ten thousand requests, in the order in which they ended."""
        return self._journal.requests

    @property
    def counts(self) -> Counter[str]:
        """How often each operation was asked for, by operationId, answered or not."""
        return self._journal.counts

    async def complete_session(self, session_id: str | UUID, *, customization: dict[str, Any] | None = None) -> UUID:
        """End a session as a user in the editor would, and return the avatar's id.

        A session to edit an avatar sets its customization. Any other makes an avatar, customized from the start, whose
        scan takes its time and sends an `avatar.ready` with the session's id. Raise `LookupError` for an unknown
        session and `ValueError` for a customization that the API would refuse.
        """
        return await self._alive().editor.complete(UUID(str(session_id)), customization)

    async def settled(self) -> None:
        """Return once no job is running and every event has been sent, late ones included."""
        run = self._alive()
        while not (run.agenda.empty and run.hooks.idle):
            await run.agenda.emptied()
            await run.hooks.sent()

    def expire_urls(self) -> None:
        """Kill all urls of models and images given out so far; who asks again gets one that is alive."""
        self._links.expire()

    def _alive(self) -> "_Run":
        if self._run is None:
            raise RuntimeError("this emulator is not running: use `async with`")
        return self._run

    async def _listen(self, jobs: Jobs, stack: AsyncExitStack) -> Any:
        app = self._application(jobs)
        runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=GRACE,
            keepalive_timeout=KEEPALIVE,
            handler_cancellation=True,  # else one whose client is gone outlives the server
        )
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        await web.TCPSite(runner, *self._address).start()
        return runner.addresses[0]

    def _application(self, jobs: Jobs) -> web.Application:
        world, links, controls, dice = self._world, self._links, self._controls, self._dice
        gate = Gate(self.token, controls, dice)
        app = web.Application(
            middlewares=[self._journal.middleware, problems, gate.trouble, gate.authenticate],
            client_max_size=MAX_JSON,
        )
        app.add_routes(Api(world, jobs, links, controls).routes())
        app.add_routes(Uploads(world, jobs, links, controls).routes())
        app.add_routes(Downloads(world, links, Library(self._looks), controls, dice).routes())
        app.add_routes(Pages(world, links, self.catalogue).routes())
        return app


@attrs.frozen
class _Run:
    """What there is only while the emulator runs, and belongs to its loop."""

    agenda: Agenda
    hooks: Hooks
    editor: Editor
    stack: AsyncExitStack


def _url(address: Any) -> str:
    host, port = ipaddress.ip_address(address[0]), address[1]
    if host.is_unspecified:
        host = ipaddress.ip_address("127.0.0.1" if host.version == 4 else "::1")
    return f"http://{host}:{port}" if host.version == 4 else f"http://[{host}]:{port}"
