"""``avaturn demo``: photos in, models out, against an emulator on real sockets."""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import avaturn_async as sdk

from .command import command, flag, in_thread, option
from .export import COLUMNS, Model, prepare_folder
from .output import Output, note, size_of

if TYPE_CHECKING:
    from ..emulator import Catalogue
    from .output import Progress

T = TypeVar("T")
R = TypeVar("R")

HELP = """Make avatars from photos and export them, on this machine alone.

An emulator of Avaturn and a webhook receiver run within the command: no account or token is needed. Users are created,
photos uploaded, scans awaited and customized; all exports are awaited at once, by webhook or poll; the models are
downloaded and checked.
"""


@command(HELP, "avaturn demo", "avaturn demo --count 20 --webhook-loss 0.3", "avaturn demo --json --out models")
async def _demo(
    output: Output,
    count: Annotated[int, option("N", "How many avatars.", min=1, max=1000)] = 8,
    out: Annotated[
        Path | None,
        option(
            "DIR",
            "The folder for the models; those of an earlier demo in it are replaced.",
            show_default="the first free of avatars/demo-1, avatars/demo-2, ...",
        ),
    ] = None,
    seed: Annotated[int, option("N", "What faces, outfits and faults are drawn from.")] = 0,
    webhook_loss: Annotated[
        float, option("0..1", "How often a webhook is lost; a poll makes up for it.", min=0, max=1)
    ] = 0,
    model_size: Annotated[int | None, option("BYTES", "The minimum size of a model.", min=1, max=64 * 2**20)] = None,
    small_models: Annotated[bool, flag("--small-models", "Make models of 1 MB, not of 12 MB.")] = False,
) -> None:
    from ..emulator import Emulator, Faults, Timing

    started = time.monotonic()
    receiver = sdk.WebhookReceiver(secrets.token_urlsafe(24))
    emulator = Emulator(
        token=secrets.token_urlsafe(24),
        seed=seed,
        timing=Timing(scan=0.3, export=0.6, jitter=0.6),
        faults=Faults(webhook_loss=webhook_loss),
        models="small" if small_models else "full",
        model_size=model_size,
    )
    folder = await in_thread(_folder, out)
    note(f"models go to {folder}")
    # The first poll comes after the last webhook, so that polls resolve only jobs whose webhook was lost.
    polling = sdk.PollPolicy(first=2.0, first_with_webhooks=2.0, factor=1.2)
    async with (
        emulator as avaturn,
        receiver.serve() as server,
        sdk.AvaturnClient(avaturn.token, base_url=avaturn.url, webhooks=receiver, polling=polling) as client,
    ):
        avaturn.webhook_url = server.url
        with output.progress() as progress:
            models = await _make_models(client, avaturn.catalogue, progress, folder, count, seed)
    _show(models, folder, time.monotonic() - started, output)


async def _make_models(
    client: "sdk.AvaturnClient", catalogue: "Catalogue", progress: "Progress", folder: Path, count: int, seed: int
) -> list[Model]:
    """Make models from photos, each stage for all avatars concurrently."""
    from ..emulator.images import photo

    async def upload(number: int) -> Any:
        face = 1000 * seed + number
        views = [await in_thread(photo, seed=face, view=view) for view in ("frontal", "side-1", "side-2")]
        user = await client.users.create()
        photos = sdk.Photos(*views, body_type="female" if number % 2 else "male")
        outfit = _outfit(catalogue, Random(face))
        return await client.avatars.create_from_photos(user.id, photos, customization=outfit)

    async def download(numbered: Any) -> Model:
        number, made = numbered
        file = folder / f"model-{number:0{len(str(count))}}.glb"
        saved = await made.download(file, overwrite=True, checksum=True)
        return Model(made, saved)

    scans = await _each(progress, "photos", range(count), upload)
    avatars = await _each(progress, "scans", scans, lambda pending: pending.wait())
    exports = await _each(progress, "exports", avatars, lambda avatar: client.exports.create_and_wait(avatar.id))
    return await _each(progress, "downloads", list(enumerate(exports, 1)), download)


def _folder(out: Path | None) -> Path:
    """Create the folder for the models: `out`, or the first free ``avatars/demo-N``."""
    if out is not None:
        prepare_folder(out)
        return out
    Path("avatars").mkdir(exist_ok=True)
    number = 1
    while True:
        folder = Path(f"avatars/demo-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1


async def _each(
    progress: "Progress", name: str, items: Sequence[T], work: Callable[[T], Coroutine[Any, Any, R]]
) -> list[R]:
    """Run one stage for all items concurrently."""
    import asyncio

    advance = progress.stage(name, len(items))

    async def counted(item: T) -> R:
        result = await work(item)
        advance()
        return result

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(counted(item)) for item in items]
    return [task.result() for task in tasks]


def _outfit(catalogue: "Catalogue", dice: "Random") -> "sdk.ExternalAvatarCustomization":
    from ..http.codec import structure

    slots = "clothing", "footwear", "eyewear", "hair_and_headwear"
    assets = {slot: {"id": str(dice.choice(catalogue.available(slot)).id)} for slot in slots}
    assets["eyewear"]["color"] = "#202020ff"
    assets["hair_and_headwear"]["color"] = f"#{dice.randrange(0x1000000):06x}"
    return structure({"assets": assets, "body": dice.choice(catalogue.bodies)}, sdk.ExternalAvatarCustomization)


def _show(models: list[Model], folder: Path, seconds: float, output: Output) -> None:
    for model in models:
        output.emit(model.record())
    output.table(COLUMNS, [model.row() for model in models])
    size = sum(model.download.size for model in models)
    ways = Counter(str(model.export.resolved_by) for model in models)
    record = {"folder": str(folder), "done": len(models), "failed": 0, "size": size, "seconds": round(seconds, 3)}
    output.emit(record | {"resolved_by": ways})
    shown = ", ".join(f"{count} by {way}" for way, count in ways.items())
    output.line("")
    output.line(f"{len(models)} models of {size_of(size)} in {folder}, in {seconds:.1f} s: {shown}.")
    output.line(f"Look into one with: avaturn inspect {models[0].download.path}")
