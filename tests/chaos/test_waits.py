"""Many waits at once while webhooks are lost, doubled, late, early or forged, and while the API fails."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from uuid import uuid4

import pytest

from avaturn_async import AvaturnError, Export, JobFailedError, PollPolicy, WaitTimeoutError
from avaturn_async.emulator import Emulator, Faults, Timing

from .kit import QUICK, SEED, make_avatars, nothing_left, scaled, wired

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]


def check(models: list[Export], avatars: list[object]) -> None:
    """Check that each wait has the url of its own avatar."""
    assert avatars == [model.avatar_id for model in models]
    assert all(f"/{model.avatar_id}/" in model.url for model in models)


async def test_every_wait_ends_once_with_the_right_url() -> None:
    """30 % of the webhooks lost, 30 % doubled, 30 % late, all reordered, some early."""
    count = scaled(10_000, 400)
    async with nothing_left(), Emulator(seed=SEED, timing=Timing(export=1, jitter=1)) as avaturn:
        async with wired(avaturn) as (client, _):
            avatars = await make_avatars(client, avaturn, count)
            avaturn.faults = Faults(
                webhook_loss=0.3,
                webhook_duplicates=0.3,
                webhook_delay=2,
                webhook_delayed=0.3,
                webhook_reorder=1,
                webhook_early=0.2,
            )
            pendings = await asyncio.gather(*(client.exports.create(avatar) for avatar in avatars))
            ended: list[object] = []

            async def wait(pending: object) -> Export:
                model: Export = await pending  # type: ignore[misc]
                ended.append(model.avatar_id)
                return model

            models = await asyncio.gather(*map(wait, pendings))
            check(models, avatars)  # type: ignore[arg-type]
            assert len(ended) == len(set(ended)) == count
            assert {"webhook", "poll"} <= {model.resolved_by for model in models}
            await avaturn.settled()


async def test_all_early_needs_no_polls() -> None:
    """Events that arrive before the response of the POST cost one create and one confirming poll each."""
    count = scaled(2_000, 200)
    async with nothing_left(), Emulator(seed=SEED, timing=Timing(export=1)) as avaturn:
        async with wired(avaturn, polling=PollPolicy(first=300, cap=300, first_with_webhooks=300)) as (client, _):
            avatars = await make_avatars(client, avaturn, count)
            avaturn.faults = Faults(webhook_early=1)
            models = await asyncio.gather(*map(client.exports.create_and_wait, avatars))
            check(models, avatars)  # type: ignore[arg-type]
            assert {("webhook", 1)} == {(model.resolved_by, model.polls) for model in models}
            assert 2 * count == avaturn.counts["create_export"]
            await avaturn.settled()


async def test_all_lost_resolves_by_polls_within_the_policy() -> None:
    """Without webhooks each export is polled as often as the policy says, and no more."""
    count = scaled(2_000, 200)
    policy = PollPolicy(first=0.5, factor=2, cap=4, jitter=0)
    async with nothing_left(), Emulator(seed=SEED, timing=Timing(export=1)) as avaturn:
        async with wired(avaturn, polling=policy) as (client, _):
            avatars = await make_avatars(client, avaturn, count)
            avaturn.faults = Faults(webhook_loss=1)
            models = await asyncio.gather(*map(client.exports.create_and_wait, avatars))
            check(models, avatars)  # type: ignore[arg-type]
            assert {"poll"} == {model.resolved_by for model in models}
            # Polls come 0.5, 1.5, 3.5, 7.5 ... s after the create; so many fit into the time that was waited.
            for model in models:
                allowed = sum(moment <= model.waited for moment in (0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5))
                assert model.polls <= allowed
            await avaturn.settled()


async def test_an_api_that_fails_all_the_time_is_survived() -> None:
    """With 5 % server errors, 2 % resets and some 429, what can succeed does, and each failure is raised once."""
    count = scaled(2_000, 150)
    async with nothing_left(), Emulator(seed=SEED, timing=Timing(export=0.5, jitter=0.5)) as avaturn:
        async with wired(avaturn) as (client, _):
            avatars = await make_avatars(client, avaturn, count)
            avaturn.faults = Faults(
                server_errors=0.05, resets=0.02, rate_limited=0.01, job_failures=0.05, webhook_loss=0.3
            )
            results = await asyncio.gather(*map(client.exports.create_and_wait, avatars), return_exceptions=True)
            odd = [result for result in results if not isinstance(result, Export | AvaturnError)]
            assert [] == odd
            failed = [result for result in results if isinstance(result, JobFailedError)]
            ready = [result for result in results if isinstance(result, Export)]
            # The rest failed three times in a row in their create.
            assert len(ready) + len(failed) >= 0.97 * count
            avaturn.faults = Faults()
            await avaturn.settled()


async def test_forged_events_resolve_nothing() -> None:
    """Events without the secret trigger no poll, whether or not their avatar is awaited."""
    count = scaled(100_000, 5_000)
    async with nothing_left(), Emulator(seed=SEED, timing=Timing(export=3600)) as avaturn:
        async with wired(avaturn, polling=PollPolicy(first=600, cap=600)) as (client, receiver):
            avatars = await make_avatars(client, avaturn, 20)
            waits = [asyncio.create_task(client.exports.create_and_wait(avatar)) for avatar in avatars]
            while avaturn.counts["create_export"] < len(avatars):
                await asyncio.sleep(0.01)
            before = avaturn.counts["create_export"]
            tracemalloc.start()
            start, _ = tracemalloc.get_traced_memory()
            for number in range(count):
                avatar = avatars[number % 20] if number % 2 else uuid4()
                body = {"event": "export.ready", "avatar_id": str(avatar), "user_id": "u", "status": "failed"}
                reply = await receiver.handle(json.dumps(body).encode(), path=f"/forged-{number}")
                assert 404 == reply.status
                if number % 100 == 0:
                    await asyncio.sleep(0)
            grown = tracemalloc.get_traced_memory()[0] - start
            tracemalloc.stop()
            assert grown < 5_000_000
            assert before == avaturn.counts["create_export"]
            assert not any(wait.done() for wait in waits)
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


async def test_replays_of_valid_events_stay_coalesced() -> None:
    """Ten thousand valid replays cost a bounded number of polls, and resolve nothing."""
    count = scaled(10_000, 1_000)
    async with nothing_left(), Emulator(seed=SEED, timing=Timing(export=3600)) as avaturn:
        async with wired(avaturn, polling=PollPolicy(first=600, cap=600)) as (client, receiver):
            (avatar,) = await make_avatars(client, avaturn, 1)
            pending = await client.exports.create(avatar)
            waiting = asyncio.create_task(pending.wait(timeout=600))
            body = json.dumps(
                {
                    "event": "export.ready",
                    "avatar_id": str(avatar),
                    "user_id": "u",
                    "status": "ready",
                    "export_url": "x",
                }
            ).encode()
            loop = asyncio.get_running_loop()
            start = loop.time()
            for _ in range(count):
                assert 200 == (await receiver.handle(body, path=receiver.path)).status
                await asyncio.sleep(0)
            allowed = 2 * (loop.time() - start) + 3
            assert avaturn.counts["create_export"] - 1 <= allowed
            assert not waiting.done()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


async def test_awaiters_that_come_and_go_leave_the_rest_alone() -> None:
    """Half of the awaiters are cancelled or time out; the others all get their model."""
    count = scaled(2_000, 200)
    async with nothing_left(), Emulator(seed=SEED, timing=Timing(export=1, jitter=1)) as avaturn:
        async with wired(avaturn) as (client, _):
            avatars = await make_avatars(client, avaturn, count)
            pendings = await asyncio.gather(*map(client.exports.create, avatars))
            doomed = [asyncio.create_task(pending.wait(timeout=0.01 * (n % 50))) for n, pending in enumerate(pendings)]
            waits = [asyncio.create_task(pending.wait()) for pending in pendings]
            for task in doomed[::2]:
                await asyncio.sleep(0)
                task.cancel()
            gone = await asyncio.gather(*doomed, return_exceptions=True)
            assert {asyncio.CancelledError, WaitTimeoutError} >= {type(end) for end in gone} - {Export}
            check(await asyncio.gather(*waits), avatars)  # type: ignore[arg-type]
            await avaturn.settled()


def test_a_loop_that_is_torn_down_leaves_clean_logs(caplog: pytest.LogCaptureFixture) -> None:
    """An interrupted program neither hangs nor logs that an exception was never retrieved."""

    async def story() -> None:
        async with Emulator(seed=SEED, timing=Timing(export=3600)) as avaturn, wired(avaturn) as (client, _):
            avatars = await make_avatars(client, avaturn, 20)
            waits = [asyncio.create_task(client.exports.create_and_wait(avatar)) for avatar in avatars]
            while avaturn.counts["create_export"] < 30:
                await asyncio.sleep(0.01)
            assert waits
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(story())
    assert [] == [record.message for record in caplog.records if record.name == "asyncio"]


async def test_a_receiver_that_dies_leaves_polling() -> None:
    """When the receiver is gone during the waits, all of them are resolved by polls."""
    count = scaled(500, 50)
    async with nothing_left(), Emulator(seed=SEED, timing=Timing(export=1)) as avaturn:
        async with wired(avaturn, polling=QUICK) as (client, receiver):
            avatars = await make_avatars(client, avaturn, count)
            waits = [asyncio.create_task(client.exports.create_and_wait(avatar)) for avatar in avatars]
            while avaturn.counts["create_export"] < count:
                await asyncio.sleep(0.01)
            await receiver.aclose()
            avaturn.webhook_url = "http://127.0.0.1:9/nobody"
            check(await asyncio.gather(*waits), avatars)  # type: ignore[arg-type]
            await avaturn.settled()
