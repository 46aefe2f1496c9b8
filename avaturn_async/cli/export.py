"""``avaturn export``."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from ..errors import AuthenticationError, AvaturnError
from .connecting import Access, Hooks, connected, unique_ids
from .exported import COLUMNS, Model
from .files import make_folder, refuse_existing
from .options import BaseUrl, Json, OutFolder, Overwrite, Secret, Timeout, Token, WebhookHost, WebhookPort, examples
from .output import Output
from .running import DONE, FAILED, failure, off_loop, run, tell_of

if TYPE_CHECKING:
    from uuid import UUID

    from ..client import AvaturnClient
    from .progress import Stage

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    lines = examples(
        "avaturn export 0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00 --out models",
        "avaturn export $(cat ids.txt) --out models --webhook-port 8481 --secret $SECRET",
    )
    app.command(epilog=lines)(export)


class Order(NamedTuple):
    """What to do with each avatar."""

    folder: Path
    timeout: float
    overwrite: bool

    def file(self, avatar: "UUID") -> Path:
        """Return where an avatar's model goes."""
        return self.folder / f"{avatar}.glb"


def export(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Avatars; each is exported once.")],
    out: OutFolder = Path(),
    timeout: Timeout = 900,
    overwrite: Overwrite = False,
    webhook_host: WebhookHost = "127.0.0.1",
    webhook_port: WebhookPort = None,
    secret: Secret = None,
    token: Token = None,
    base_url: BaseUrl = None,
    json: Json = False,
) -> None:
    """Export avatars as GLB models and download them, as DIR/ID.glb.

    Exports are polled. With --webhook-port and --secret they are awaited by webhooks as well, which is quicker and
    costs fewer requests.
    """
    order, hooks = Order(out, timeout, overwrite), Hooks(webhook_host, webhook_port, secret)
    run(_export(Access(token, base_url), hooks, Output(as_json=json), ids, order))


async def _export(access: Access, hooks: Hooks, output: Output, ids: list[str], order: Order) -> int:
    import asyncio

    avatars = unique_ids(ids)
    async with connected(access, hooks) as client:
        await off_loop(_prepare, order, avatars)
        with output.progress() as progress:
            work = _Work(client, output, order, progress.stage("exports", len(avatars)))
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(work.one(avatar)) for avatar in avatars]
    models = [model for task in tasks if (model := task.result())]
    if models:
        output.table(COLUMNS, [model.row() for model in models])
    return DONE if len(models) == len(avatars) else FAILED


def _prepare(order: Order, avatars: Iterable["UUID"]) -> None:
    if not order.overwrite:
        refuse_existing(map(order.file, avatars))
    make_folder(order.folder)


class _Work(NamedTuple):
    client: "AvaturnClient"
    output: Output
    order: Order
    stage: "Stage"

    async def one(self, avatar: "UUID") -> Model | None:
        """Export and download one avatar; where that fails tell it, and let the others go on."""
        model = None
        try:
            model = await self._model(avatar)
            self.output.emit(model.record())
        except AuthenticationError:
            raise  # for all of them
        except AvaturnError as error:
            tell_of(avatar, error)
            self.output.emit({"avatar_id": str(avatar), "error": type(error).__name__, "message": failure(error)})
        self.stage.advance()
        return model

    async def _model(self, avatar: "UUID") -> Model:
        export = await self.client.exports.create_and_wait(avatar, timeout=self.order.timeout)
        return Model(export, await export.download(self.order.file(avatar), overwrite=self.order.overwrite))
