"""The story that ``avaturn demo`` tells: photos in, models out, on real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
import struct
import time
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..client import AvaturnClient
from ..config import PollPolicy
from ..emulator import Catalogue, Emulator, Faults, Timing
from ..emulator.images import photo
from ..errors import NotAModelError
from ..models import (
    AssetSlot,
    AssetSlots,
    AssetSlotWithColorRGB,
    AssetSlotWithColorRGBA,
    AvatarBody,
    ExternalAvatarCustomization,
)
from ..resources.photos import Photos
from ..webhooks import WebhookReceiver
from .exported import COLUMNS, Model
from .files import fresh_folder, make_folder
from .output import Output, note, size_of
from .running import DONE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
    from uuid import UUID

    from ..emulator.glb import Models
    from ..pending.base import Pending
    from ..pending.results import Download, Export
    from .progress import Progress

__all__ = ["Plan", "tell_story"]

T = TypeVar("T")
R = TypeVar("R")

#: Scans and exports take a little, and not all the same.
TIMING = Timing(scan=0.3, export=0.6, jitter=0.6)
#: The first look comes after the last webhook would have, so that who is resolved by poll has lost its webhook.
POLLING = PollPolicy(first=2.0, first_with_webhooks=2.0, factor=1.2)


class Plan(NamedTuple):
    """What the demo is to do."""

    avatars: int
    out: Path | None
    seed: int
    webhook_loss: float
    model_size: int | None
    models: Models


async def tell_story(plan: Plan, output: Output) -> int:
    """Run the demo and return its exit code."""
    started = time.monotonic()
    folder = await asyncio.to_thread(_folder, plan)
    note(f"models go to {folder}")
    async with _stage_set(plan) as (client, catalogue):
        with output.progress() as progress:
            scene = _Scene(plan, client, catalogue, folder, progress)
            models = await scene.play()
    for model in models:
        output.emit(model.record())
    output.table(COLUMNS, [model.row() for model in models])
    _sum_up(models, folder, time.monotonic() - started, output)
    return DONE


def _folder(plan: Plan) -> Path:
    return fresh_folder(Path("avatars/demo")) if plan.out is None else make_folder(plan.out)


@asynccontextmanager
async def _stage_set(plan: Plan) -> AsyncIterator[tuple[AvaturnClient, Catalogue]]:
    faults = Faults(webhook_loss=plan.webhook_loss)
    receiver = WebhookReceiver(secrets.token_urlsafe(24))
    async with (
        Emulator(
            seed=plan.seed, timing=TIMING, faults=faults, models=plan.models, model_size=plan.model_size
        ) as avaturn,
        receiver.serve() as server,
        AvaturnClient(avaturn.token, base_url=avaturn.url, webhooks=receiver, polling=POLLING) as client,
    ):
        avaturn.webhook_url = server.url
        yield client, avaturn.catalogue


class _Scene(NamedTuple):
    plan: Plan
    client: AvaturnClient
    catalogue: Catalogue
    folder: Path
    progress: Progress

    async def play(self) -> Sequence[Model]:
        """Go through the stages, each of them for all avatars at once."""
        scans = await self._each("photos", range(self.plan.avatars), self._upload)
        avatars = await self._each("scans", scans, _waited)
        exports = await self._each("exports", [avatar.id for avatar in avatars], self._export)
        return await self._each("downloads", list(enumerate(exports, 1)), self._download)

    async def _each(self, name: str, items: Sequence[T], work: Callable[[T], Awaitable[R]]) -> Sequence[R]:
        stage = self.progress.stage(name, len(items))

        async def counted(item: T) -> R:
            result = await work(item)
            stage.advance()
            return result

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(counted(item)) for item in items]
        return [task.result() for task in tasks]

    async def _upload(self, number: int) -> Pending[Any]:
        seed = 1000 * self.plan.seed + number
        views = [await asyncio.to_thread(photo, seed=seed, view=view) for view in ("frontal", "side-1", "side-2")]
        user = await self.client.users.create()
        photos = Photos(*views, body_type="female" if number % 2 else "male")
        return await self.client.avatars.create_from_photos(
            user.id, photos, customization=_outfit(self.catalogue, random.Random(seed))
        )

    async def _export(self, avatar: UUID) -> Export:
        return await self.client.exports.create_and_wait(avatar)

    async def _download(self, numbered: tuple[int, Export]) -> Model:
        number, export = numbered
        digits = len(str(self.plan.avatars))
        download = await export.download(self.folder / f"model-{number:0{digits}}.glb", overwrite=True)
        await asyncio.to_thread(_check, download)
        return Model(export, download)


async def _waited(pending: Pending[T]) -> T:
    return await pending.wait()


def _outfit(catalogue: Catalogue, dice: random.Random) -> ExternalAvatarCustomization:
    chosen = {slot: dice.choice(catalogue.available(slot)).id for slot in ("clothing", "footwear", "eyewear")}
    hair = dice.choice(catalogue.available("hair_and_headwear")).id
    assets = AssetSlots(
        clothing=AssetSlot(id=chosen["clothing"]),
        footwear=AssetSlot(id=chosen["footwear"]),
        eyewear=AssetSlotWithColorRGBA(id=chosen["eyewear"], color="#202020ff"),
        hair_and_headwear=AssetSlotWithColorRGB(id=hair, color=f"#{dice.randrange(0x1000000):06x}"),
    )
    return ExternalAvatarCustomization(assets=assets, body=AvatarBody(dice.choice(catalogue.bodies)))


def _check(download: Download) -> None:
    """Read the file once more, and compare what is on the disk with what came."""
    content = download.path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", content)
    if (magic, version, length) != (b"glTF", 2, download.size):
        raise NotAModelError(f"{download.path} does not begin with the header of a whole GLB model")
    if hashlib.sha256(content).hexdigest() != download.sha256:
        raise NotAModelError(f"{download.path} is not what was downloaded: its SHA-256 differs")


def _sum_up(models: Sequence[Model], folder: Path, seconds: float, output: Output) -> None:
    size = sum(model.download.size for model in models)
    ways = Counter(str(model.export.resolved_by) for model in models)
    record = {"folder": str(folder), "done": len(models), "failed": 0, "size": size, "seconds": round(seconds, 3)}
    output.emit(record | {"resolved_by": ways})
    output.line(f"\n{len(models)} models of {size_of(size)} in {folder}, in {seconds:.1f} s: {_told(ways.items())}.")
    output.line(f"Look into one with: avaturn inspect {models[0].download.path}")


def _told(ways: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count} by {way}" for way, count in ways)
