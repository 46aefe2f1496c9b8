"""Exports through the whole client under frozen clocks, and with eager tasks."""

from __future__ import annotations

import asyncio
import secrets
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from freezegun import freeze_time

from avaturn_async import AvaturnClient, PollPolicy, WebhookReceiver
from avaturn_async.emulator import Emulator, Faults, Timing

from .conftest import QUICK
from .observe.kit import make_avatars

NEVER = PollPolicy(first=600, cap=600, first_with_webhooks=600)


@pytest.mark.parametrize("webhooks", [True, False], ids=["webhooks", "polls"])
async def test_clocks_that_stand_or_jump(webhooks: bool, tmp_path: Path) -> None:
    """Under freezegun polls come, deadlines pass, webhooks resolve, and a batch with a journal ends."""
    receiver = WebhookReceiver(secrets.token_urlsafe(24))
    async with Emulator(timing=Timing(export=0.05), models="small") as avaturn, receiver.serve() as server:
        avatars = await make_avatars(avaturn, 3)
        avaturn.webhook_url = server.url
        with freeze_time("2026-01-01", real_asyncio=True) as clock:
            async with AvaturnClient(
                avaturn.token,
                base_url=avaturn.url,
                webhooks=receiver if webhooks else None,
                polling=NEVER if webhooks else QUICK,
            ) as client:
                pending = await client.exports.create(avatars[0])
                with pytest.raises(TimeoutError):
                    await pending.wait(timeout=0.001)
                await avaturn.settled()
                clock.tick(timedelta(days=400))
                model = await client.exports.resume(pending.resume_token).wait(timeout=30)
                await model.download(tmp_path / "a.glb")
                clock.move_to("2001-01-01")
                async with client.exports.batch(avatars, download_to=tmp_path, journal=tmp_path / "j.db") as batch:
                    assert not (await batch.run()).failed


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.eager_task_factory is new in 3.12")
def test_eager_tasks(tmp_path: Path) -> None:
    """With every task eager: webhooks, polls, failing polls, cancelled waits, a batch and downloads."""

    async def story() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        receiver = WebhookReceiver(secrets.token_urlsafe(24))
        async with Emulator(timing=Timing(export=0.05), models="small") as avaturn, receiver.serve() as server:
            avatars = await make_avatars(avaturn, 6)
            avaturn.webhook_url = server.url
            avaturn.faults = Faults(webhook_loss=0.5, server_errors=0.1)
            async with AvaturnClient(avaturn.token, base_url=avaturn.url, webhooks=receiver, polling=QUICK) as client:
                pendings = [await client.exports.create(each) for each in avatars]
                gone = [asyncio.create_task(each.wait()) for each in pendings]
                for task in gone:
                    task.cancel()
                await asyncio.gather(*gone, return_exceptions=True)
                models = await asyncio.gather(*(each.wait(timeout=60) for each in pendings * 2))
                assert avatars * 2 == [model.avatar_id for model in models]
                avaturn.faults = Faults()
                async with client.exports.batch(avatars, download_to=tmp_path) as batch:
                    assert not (await batch.run()).failed

    asyncio.run(story())
