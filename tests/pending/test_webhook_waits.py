"""Waits raced between webhooks and polls, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID, uuid4

import attrs
import pytest

from avaturn_async import JobFailedError, RenderReadyWebhook, ResponseFormatError, ScanStatus, WaitTimeoutError
from avaturn_async.models import AvatarReadyWebhook, ExternalAvatarCustomization
from avaturn_async.webhooks import MemoryMailbox

from .world import (
    AVATAR,
    FAILED,
    PENDING,
    POLICY,
    READY,
    RENDER,
    URL,
    VirtualLoop,
    World,
    after,
    export_event,
    run,
    saying,
)


def test_an_event_wakes_a_confirming_read() -> None:
    """The read decides, and its url is the one that counts."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING, READY), mailbox=box)
        export = await world.exports.create(AVATAR)
        model, _ = await asyncio.gather(
            export.wait(), after(0.3, lambda: box.deliver(export_event(url="https://forged.example")))
        )
        assert (URL, "webhook", 1) == (model.url, model.resolved_by, model.polls)
        assert [0, 0.3] == world.times

    run(story())


def test_an_event_that_beats_the_response_is_not_lost() -> None:
    """The position is taken before the POST, so an early event resolves with no poll but the confirmation."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING, READY), mailbox=box, latency=1)
        creating = asyncio.create_task(world.exports.create(AVATAR))
        await after(0.5, lambda: box.deliver(export_event()))
        model = await (await creating)
        assert ("webhook", 1) == (model.resolved_by, model.polls)
        assert [0, 1] == world.times

    run(story())


def test_an_event_before_the_post_is_not_believed() -> None:
    """A row that stood in the mailbox before belongs to an older version."""

    async def story() -> None:
        box = MemoryMailbox()
        await box.deliver(export_event("failed", None))
        world = World(saying(PENDING, READY), mailbox=box)
        model = await (await world.exports.create(AVATAR))
        assert ("poll", [0, 1]) == (model.resolved_by, world.times)

    run(story())


def test_confirm_webhooks_off_takes_the_url_of_the_event() -> None:
    """Without confirmation there is no read after the create."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING), mailbox=box, confirm=False)
        export = await world.exports.create(AVATAR)
        model, _ = await asyncio.gather(export.wait(), after(0.3, lambda: box.deliver(export_event())))
        assert (URL, "webhook", 0) == (model.url, model.resolved_by, model.polls)
        assert [0] == world.times

    run(story())


def test_confirm_webhooks_off_reads_where_the_event_has_no_url() -> None:
    """An event that says ready without a url is confirmed all the same."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING, READY), mailbox=box, confirm=False)
        export = await world.exports.create(AVATAR)
        model, _ = await asyncio.gather(export.wait(), after(0.3, lambda: box.deliver(export_event(url=None))))
        assert ("webhook", [0, 0.3]) == (model.resolved_by, world.times)

    run(story())


def test_ready_event_but_pending_read_is_looked_at_again_soon() -> None:
    """After half a second, one and two; then by the schedule."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(*[PENDING] * 7, READY), mailbox=box)
        export = await world.exports.create(AVATAR)
        model, _ = await asyncio.gather(export.wait(), after(0.1, lambda: box.deliver(export_event())))
        assert [0, 0.1, 0.6, 1, 1.6, 3, 3.6, 7] == world.times
        assert "poll" == model.resolved_by

    run(story())


def test_the_third_failed_event_ends_the_wait() -> None:
    """Each of the first two is followed by a poll, which may start a new task; a job that keeps failing ends."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING), mailbox=box, policy=attrs.evolve(POLICY, first=60, cap=60))
        export = await world.exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait())
        for moment in (1, 2, 3):
            await after(1, lambda: box.deliver(export_event("failed", None)))
            assert not waiting.done(), moment
        with pytest.raises(JobFailedError) as caught:
            await waiting
        assert ("webhook", "failed", [0, 1, 2]) == (caught.value.resolved_by, export.status, world.times)

    run(story())


def test_a_failed_event_beside_another_delivery_wakes_a_read() -> None:
    """It may be an older version's: the read decides, and pending means keep waiting."""

    async def story() -> None:
        box = MemoryMailbox()
        await box.deliver(export_event())
        world = World(saying(PENDING, PENDING, READY), mailbox=box)
        export = await world.exports.create(AVATAR)
        model, _ = await asyncio.gather(export.wait(), after(0.3, lambda: box.deliver(export_event("failed", None))))
        assert ("poll", [0, 0.3, 1]) == (model.resolved_by, world.times)

    run(story())


def test_a_failed_event_after_a_new_version_wakes_a_read() -> None:
    """Where this client exported, customized and exported again, a lone failure may be the first version's."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(lambda call: {} if call.method == "PUT" else PENDING, mailbox=box)
        await world.exports.create(AVATAR)
        await world.avatars.set_customization(AVATAR, ExternalAvatarCustomization())
        export = await world.exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait(timeout=0.9))
        await after(0.3, lambda: box.deliver(export_event("failed", None)))
        with pytest.raises(WaitTimeoutError):
            await waiting
        assert not export.done()

    run(story())


def test_a_read_that_says_failed_ends_the_wait() -> None:
    """An ambiguous failed event is confirmed by the API."""

    async def story() -> None:
        box = MemoryMailbox()
        await box.deliver(export_event())
        world = World(saying(PENDING, FAILED), mailbox=box)
        export = await world.exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait())
        await after(0.3, lambda: box.deliver(export_event("failed", None)))
        with pytest.raises(JobFailedError):
            await waiting
        assert [0, 0.3] == world.times

    run(story())


def test_a_storm_of_events_costs_two_reads_a_second() -> None:
    """Ten thousand events in five seconds are coalesced."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING), mailbox=box, latency=0.01)
        export = await world.exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait(timeout=5))
        for _ in range(10_000):
            await box.deliver(export_event())
            await asyncio.sleep(0.0005)
        with pytest.raises(WaitTimeoutError):
            await waiting
        assert 10 + 2 >= world.reads
        assert not world.context.armed

    run(story())


def test_replays_resolve_nothing_twice() -> None:
    """Once resolved, further deliveries cost nothing."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING, READY), mailbox=box)
        export = await world.exports.create(AVATAR)
        model, _ = await asyncio.gather(export.wait(), after(0.3, lambda: box.deliver(export_event())))
        for _ in range(100):
            await box.deliver(export_event())
            await asyncio.sleep(0)
        assert model is await export
        assert 2 == len(world.times)

    run(story())


def test_unauthenticated_hints_are_budgeted() -> None:
    """A key gets one read in five seconds, however many hints come."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING), mailbox=box, authenticated=False, policy=_never())
        export = await world.exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait(timeout=12))
        for _ in range(1000):
            await box.deliver(export_event("failed", None), authenticated=False)
            await asyncio.sleep(0.011)
        with pytest.raises(WaitTimeoutError):
            await waiting
        # `time.monotonic` of the budget is real time, in which all this takes less than five seconds.
        assert 1 <= world.reads - 1 <= 2

    run(story())


def test_an_unauthenticated_hint_is_confirmed_by_a_read() -> None:
    """The hint wakes the read; the read resolves."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING, READY), mailbox=box, authenticated=False, confirm=False)
        export = await world.exports.create(AVATAR)
        model, _ = await asyncio.gather(
            export.wait(), after(0.3, lambda: box.deliver(export_event(), authenticated=False))
        )
        assert ("webhook", [0, 0.3]) == (model.resolved_by, world.times)

    run(story())


def _never() -> object:
    from avaturn_async import PollPolicy

    return PollPolicy(first=1000, cap=1000, jitter=0)


def test_polls_are_slow_only_while_webhooks_are_seen_to_work() -> None:
    """Quick at first, slow after a few results by webhook, quick again after a few by poll."""

    async def first_look(world: World) -> float:
        world.transport.say = saying(PENDING, READY)
        start = asyncio.get_running_loop().time()
        await (await world.exports.create(AVATAR))
        return round(asyncio.get_running_loop().time() - start, 3)

    async def by_webhook(world: World, box: MemoryMailbox) -> None:
        world.transport.say = saying(PENDING, READY)
        export = await world.exports.create(AVATAR)
        await asyncio.gather(export.wait(), after(0.1, lambda: box.deliver(export_event())))

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING), mailbox=box)
        assert 1 == await first_look(world)
        for _ in range(6):
            await by_webhook(world, box)
        assert 15 == await first_look(world)
        looks = [await first_look(world) for _ in range(6)]
        assert (1, sorted(looks, reverse=True)) == (looks[-1], looks)

    run(story())


def render_event(status: str = "ready", url: str | None = URL, render_id: object = RENDER) -> RenderReadyWebhook:
    return RenderReadyWebhook(
        id=render_id,  # type: ignore[arg-type]
        avatar_id=AVATAR,
        user_id="u",
        status=status,  # type: ignore[arg-type]
        render_url=url,
    )


def render_world(box: MemoryMailbox, **more: object) -> World:
    return World(lambda _: {"id": str(RENDER), "status": "pending"}, mailbox=box, **more)  # type: ignore[arg-type]


def test_a_render_is_resolved_by_its_event_alone() -> None:
    """By the render's own id, first delivery wins, and nothing is read."""

    async def story() -> None:
        box = MemoryMailbox()
        world = render_world(box)
        pending = await world.renders.create(AVATAR)
        waiting = asyncio.create_task(pending.wait())
        await box.deliver(render_event(render_id=uuid4()))
        await asyncio.sleep(50)
        assert not pending.done()
        await box.deliver(render_event())
        await box.deliver(render_event(url="https://second.example"))
        render = await waiting
        assert (URL, "webhook", RENDER, AVATAR) == (render.url, render.resolved_by, render.id, render.avatar_id)
        assert [0] == world.times

    run(story())


def test_a_render_event_that_beats_the_response_is_taken() -> None:
    """Its row waits in the mailbox."""

    async def story() -> None:
        box = MemoryMailbox()
        await box.deliver(render_event())
        assert URL == (await (await render_world(box).renders.create(AVATAR))).url

    run(story())


@pytest.mark.parametrize(
    ("event", "error"), [(("failed", None), JobFailedError), (("ready", None), ResponseFormatError)]
)
def test_a_render_that_went_wrong_says_so(event: tuple[str, str | None], error: type[Exception]) -> None:
    """A failed render, and one that is ready without a url."""

    async def story() -> None:
        box = MemoryMailbox()
        pending = await render_world(box).renders.create(AVATAR)
        await box.deliver(render_event(*event))
        with pytest.raises(error):
            await pending

    run(story())


def test_an_unauthenticated_event_does_not_resolve_a_render() -> None:
    """A forged event is not taken; the true one that follows is."""

    async def story() -> None:
        box = MemoryMailbox()
        pending = await render_world(box).renders.create(AVATAR)
        waiting = asyncio.create_task(pending.wait())
        await after(1, lambda: box.deliver(render_event(url="https://forged.example"), authenticated=False))
        await after(1, lambda: box.deliver(render_event()))
        assert URL == (await waiting).url

    run(story())


def test_a_render_resumes_from_the_mailbox() -> None:
    """Its event is found by a token, in whatever order they come."""

    async def story() -> None:
        box = MemoryMailbox()
        world = render_world(box)
        token = (await world.renders.create(AVATAR)).resume_token
        await box.deliver(render_event())
        assert URL == (await render_world(box).renders.resume(token)).url

    run(story())


def avatar_event(status: str | None = "ready") -> AvatarReadyWebhook:
    return AvatarReadyWebhook(avatar_id=AVATAR, status=None if status is None else ScanStatus(status))


@pytest.mark.parametrize("status", ["ready", None])
def test_an_avatar_event_wakes_a_read_of_the_list(status: str | None) -> None:
    """Also one without a status, which the contract only infers."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(
            saying([{"id": str(AVATAR), "status": "processing"}], [{"id": str(AVATAR), "status": "ready"}]),  # type: ignore[arg-type]
            mailbox=box,
        )
        waiting = asyncio.create_task(world.avatars.pending("u", AVATAR).wait())
        await after(0.3, lambda: box.deliver(avatar_event(status)))
        assert "ready" == (await waiting).status
        assert [0, 0.3] == world.times

    run(story())


def test_a_mailbox_that_is_closed_leaves_polling() -> None:
    """An export is polled on; a render, which can't be, raises."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING, PENDING, READY), mailbox=box)
        export = await world.exports.create(AVATAR)
        model, _ = await asyncio.gather(export.wait(), after(0.3, box.aclose))
        assert ("poll", [0, 1, 3]) == (model.resolved_by, world.times)

    run(story())


def test_cancellation_at_every_step_harms_nobody() -> None:
    """Whatever iteration of the loop one awaiter is cancelled at, the other gets its result and nothing is left."""

    async def story(step: int) -> bool:
        box = MemoryMailbox()
        world = World(saying(PENDING, PENDING, READY), mailbox=box, latency=0.01)
        export = await world.exports.create(AVATAR)
        doomed = asyncio.create_task(export.wait(timeout=100))
        other = asyncio.create_task(export.wait())
        sender = asyncio.create_task(after(0.3, lambda: box.deliver(export_event())))
        interrupt_after(step, doomed)
        results = await asyncio.gather(doomed, other, sender, return_exceptions=True)
        assert URL == results[1].url  # type: ignore[union-attr]
        assert not world.context.armed
        return not doomed.cancelled()

    assert run_all_steps(story) > 10


def test_lone_awaiter_cancelled_at_every_step_leaves_nothing() -> None:
    """A cancelled lone wait leaves no timer, place or read, and the pending can be awaited again."""

    async def story(step: int) -> bool:
        box = MemoryMailbox()
        world = World(saying(PENDING, PENDING, READY), mailbox=box, latency=0.01)
        export = await world.exports.create(AVATAR)
        doomed = asyncio.create_task(export.wait())
        interrupt_after(step, doomed)
        await asyncio.gather(doomed, return_exceptions=True)
        assert not world.context.armed
        assert URL == (await export).url
        return not doomed.cancelled()

    assert run_all_steps(story) > 6


def test_create_and_wait_cancelled_at_every_step_leaves_nothing() -> None:
    """Also while the POST is under way, and with a caller's timeout around it."""

    async def story(step: int) -> bool:
        box = MemoryMailbox()
        world = World(saying(PENDING, READY), mailbox=box, latency=0.01)

        async def bounded() -> None:
            async with asyncio.timeout(50):
                await world.exports.create_and_wait(AVATAR)

        doomed = asyncio.create_task(bounded())
        interrupt_after(step, doomed)
        await asyncio.gather(doomed, return_exceptions=True)
        assert not world.context.armed
        return not doomed.cancelled()

    assert run_all_steps(story) > 6


def interrupt_after(steps: int, task: asyncio.Task[Any]) -> None:
    """Cancel `task` between two iterations of the loop, so many iterations from now."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.after_steps(steps, task.cancel)


def run_all_steps(story: Callable[[int], Coroutine[Any, Any, bool]]) -> int:
    """Run `story` for step 0, 1, ... until the step comes after its end; return how many it had."""
    steps = 0
    while not run(story(steps)):
        steps += 1
    return steps


def test_a_webhook_does_not_queue_with_polls() -> None:
    """What it wakes is read at once, however many waits look by their schedule."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING), mailbox=box, latency=5, most_polls=1)
        others = [await world.exports.create(UUID(int=number)) for number in range(3)]
        export = await world.exports.create(AVATAR)
        waits = [asyncio.create_task(each.wait(timeout=40)) for each in others]
        waiting = asyncio.create_task(export.wait())
        await asyncio.sleep(0.5)
        world.transport.say = saying(READY)
        started = asyncio.get_running_loop().time()
        await box.deliver(export_event())
        assert "webhook" == (await waiting).resolved_by
        assert asyncio.get_running_loop().time() - started <= 5.1
        await asyncio.gather(*waits)

    run(story())
