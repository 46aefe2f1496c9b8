"""Waits that webhooks and polls race for, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID, uuid4

import pytest

from avaturn_async import (
    AvatarReadyWebhook,
    Delivery,
    JobFailedError,
    RenderReadyWebhook,
    ResponseFormatError,
    ScanStatus,
    ServerError,
    WaitTimeoutError,
)
from avaturn_async.webhooks import MemoryMailbox

from .kit import (
    AVATAR,
    FAILED,
    NEVER,
    PENDING,
    READY,
    RENDER,
    URL,
    VirtualLoop,
    World,
    after,
    export_event,
    now,
    run,
    saying,
)

OTHER = UUID(int=7)

# Ready events.


def test_an_event_triggers_a_confirming_poll() -> None:
    """The poll decides, and its url is the one that counts."""

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
    """The mailbox is read before the POST, so an early event resolves with no poll but the confirmation."""

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
    """It belongs to an older version."""

    async def story(confirm: bool) -> None:
        box = MemoryMailbox()
        await box.deliver(export_event(url="https://old.example"))
        world = World(saying(PENDING, READY), mailbox=box, confirm=confirm)
        model = await (await world.exports.create(AVATAR))
        assert (URL, "poll", [0, 1]) == (model.url, model.resolved_by, world.times)

    for confirm in (True, False):
        run(story(confirm))


def test_a_ready_event_that_polls_do_not_confirm_yet() -> None:
    """They are repeated after 0.5, 1 and 2 s, and then by the schedule."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(*[PENDING] * 6, READY), mailbox=box)
        export = await world.exports.create(AVATAR)
        model, _ = await asyncio.gather(export.wait(), after(0.1, lambda: box.deliver(export_event())))
        assert [0, 0.1, 0.6, 1.6, 3.6, 11.6, 19.6] == world.times
        assert "poll" == model.resolved_by

    run(story())


def test_a_confirmation_that_fails_is_repeated_soon() -> None:
    """The event is not forgotten because the API had a bad moment."""

    async def story() -> None:
        box = MemoryMailbox()
        failure = ServerError("503", status_code=503)
        world = World(saying(PENDING, failure, failure, READY), mailbox=box, policy=NEVER)
        export = await world.exports.create(AVATAR)
        model, _ = await asyncio.gather(export.wait(), after(1, lambda: box.deliver(export_event())))
        assert ("webhook", [0, 1, 1.5, 2.5]) == (model.resolved_by, world.times)

    run(story())


def test_an_event_during_a_poll_is_polled_for_afterwards() -> None:
    """That poll may have been answered before the job ended."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING, PENDING, READY), mailbox=box, latency=3, policy=NEVER)
        export = await world.exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait(timeout=500))
        await after(1, lambda: box.deliver(export_event("pending", None)))
        await after(1, lambda: box.deliver(export_event()))
        assert ("webhook", [0, 4, 7]) == ((await waiting).resolved_by, world.times)

    run(story())


def test_without_confirmation_the_event_s_url_is_taken() -> None:
    """Nothing is sent after the create."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING), mailbox=box, confirm=False)
        export = await world.exports.create(AVATAR)
        model, _ = await asyncio.gather(export.wait(), after(0.3, lambda: box.deliver(export_event())))
        assert (URL, "webhook", 0) == (model.url, model.resolved_by, model.polls)
        assert [0] == world.times

    run(story())


@pytest.mark.parametrize("event", [("ready", None), ("failed", None), ("baking", URL)], ids=lambda event: event[0])
def test_without_confirmation_other_events_are_confirmed(event: tuple[str, str | None]) -> None:
    """Those without a url, and those that say something else than ready."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING, READY), mailbox=box, confirm=False)
        export = await world.exports.create(AVATAR)
        model, _ = await asyncio.gather(export.wait(), after(0.3, lambda: box.deliver(export_event(*event))))
        assert (URL, "webhook", [0, 0.3]) == (model.url, model.resolved_by, world.times)

    run(story())


def test_a_resumed_export_confirms_what_the_mailbox_had() -> None:
    """Without a position in its token an event may be from before its creation; later ones are not."""

    async def story() -> None:
        box = MemoryMailbox()
        token = (await World(saying(PENDING)).exports.create(AVATAR)).resume_token
        await box.deliver(export_event(url="https://old.example"))
        world = World(saying(PENDING), mailbox=box, confirm=False, policy=NEVER)
        export = world.exports.resume(token)
        waiting = asyncio.create_task(export.wait())
        await asyncio.sleep(100)
        assert not waiting.done()
        await box.deliver(export_event())
        assert (URL, "webhook") == ((await waiting).url, waiting.result().resolved_by)

    run(story())


@pytest.mark.parametrize("confirm", [True, False])
def test_an_event_of_another_job_settles_nothing(confirm: bool) -> None:
    """It comes from a faulty mailbox."""

    class Faulty(MemoryMailbox):
        def wait(self, key: str, after: str) -> asyncio.Future[Any]:
            return super().wait(f"export:{OTHER}", after)

    async def story() -> None:
        box = Faulty()
        world = World(saying(PENDING), mailbox=box, confirm=confirm, policy=NEVER)
        export = await world.exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait(timeout=500))
        for status in ("ready", "failed"):
            await after(1, lambda status=status: box.deliver(export_event(status, avatar_id=OTHER)))
        with pytest.raises(WaitTimeoutError, match="after 2 webhooks and 1 polls"):
            await waiting
        assert [0, 499] == world.times

    run(story())


# Failed events.


def test_a_poll_that_says_failed_ends_the_wait() -> None:
    """A failed event is confirmed by the API."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING, FAILED), mailbox=box)
        export = await world.exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait())
        await after(0.3, lambda: box.deliver(export_event("failed", None)))
        with pytest.raises(JobFailedError) as caught:
            await waiting
        assert ("webhook", [0, 0.3]) == (caught.value.resolved_by, world.times)

    run(story())


def test_a_failed_event_of_an_older_attempt() -> None:
    """The poll says pending, and the wait goes on by the schedule, without quick polls."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING, PENDING, READY), mailbox=box)
        export = await world.exports.create(AVATAR)
        model, _ = await asyncio.gather(export.wait(), after(0.3, lambda: box.deliver(export_event("failed", None))))
        assert ("poll", [0, 0.3, 2.3]) == (model.resolved_by, world.times)

    run(story())


def test_a_failed_event_ends_quick_polls() -> None:
    """Of a ready event that came before it."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING), mailbox=box, policy=NEVER)
        export = await world.exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait(timeout=50))
        await after(10, lambda: box.deliver(export_event()))
        await after(1, lambda: box.deliver(export_event("failed", None)))
        with pytest.raises(WaitTimeoutError):
            await waiting
        assert [0, 10, 10.5, 11, 49] == world.times

    run(story())


def test_the_third_failed_event_ends_the_wait() -> None:
    """The polls after the first two may have started new tasks; there is no third one."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING), mailbox=box, policy=NEVER)
        export = await world.exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait())
        for moment in (1, 2, 3):
            await after(1, lambda: box.deliver(export_event("failed", None)))
            assert not waiting.done(), moment
        with pytest.raises(JobFailedError) as caught:
            await waiting
        assert ("webhook", "failed", [0, 1, 2]) == (caught.value.resolved_by, export.status, world.times)

    run(story())


def test_failed_events_count_within_one_wait() -> None:
    """Another wait is another chance."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING), mailbox=box, policy=NEVER)
        export = await world.exports.create(AVATAR)
        for _ in range(3):
            waiting = asyncio.create_task(export.wait(timeout=900))
            await after(1, lambda: box.deliver(export_event("failed", None)))
            await after(1, lambda: box.deliver(export_event("failed", None)))
            await after(1, waiting.cancel)
        assert not export.done()
        assert 1 + 6 == len(world.times)

    run(story())


def test_a_burst_of_failed_events_is_one() -> None:
    """A sender that repeats itself does not end the wait."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING, PENDING, READY), mailbox=box)
        export = await world.exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait())
        await asyncio.sleep(0)
        for _ in range(10):
            await box.deliver(export_event("failed", None))
        assert URL == (await waiting).url

    run(story())


def test_failed_events_during_polls() -> None:
    """Each gets a poll of its own, although the poll for the one before is on its way; the third ends the wait."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING), mailbox=box, latency=1, policy=NEVER)
        export = await world.exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait())
        await after(1, lambda: box.deliver(export_event("failed", None)))
        await after(0.5, lambda: box.deliver(export_event("failed", None)))
        await after(1, lambda: box.deliver(export_event("failed", None)))
        with pytest.raises(JobFailedError):
            await waiting
        assert [0, 2, 3, 4] == world.times

    run(story())


# Many events.


def test_a_storm_of_events_costs_two_polls_a_second() -> None:
    """Ten thousand in five seconds coalesce."""

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
        assert 10 + 1 >= world.polls
        assert not world.context.active

    run(story())


def test_replays_resolve_nothing_twice() -> None:
    """Once the outcome is known, further deliveries cost nothing."""

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


def test_a_webhook_does_not_queue_with_scheduled_polls() -> None:
    """Its poll is sent at once, although others, one of the same job included, wait for their turn."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING), mailbox=box, latency=5, most_polls=1)
        others = [await world.exports.create(UUID(int=number)) for number in range(8)]
        export = await world.exports.create(AVATAR)
        waits = [asyncio.create_task(each.wait(timeout=60)) for each in others]
        waiting = asyncio.create_task(export.wait())
        await asyncio.sleep(1.5)  # by now it waits for its turn
        world.transport.script = saying(READY)
        start = now()
        await box.deliver(export_event())
        assert "webhook" == (await waiting).resolved_by
        assert 5.0 == pytest.approx(now() - start)
        await asyncio.gather(*waits)

    run(story())


def test_polls_are_slow_only_while_webhooks_work() -> None:
    """Quick at first, slow after a few results by webhook, quick again after a few by poll."""

    async def first_poll(world: World) -> float:
        world.transport.script = saying(PENDING, READY)
        start = now()
        await (await world.exports.create(AVATAR))
        return round(now() - start, 3)

    async def by_webhook(world: World, box: MemoryMailbox) -> None:
        world.transport.script = saying(PENDING, READY)
        export = await world.exports.create(AVATAR)
        await asyncio.gather(export.wait(), after(0.1, lambda: box.deliver(export_event())))

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING), mailbox=box)
        assert 1 == await first_poll(world)
        for _ in range(6):
            await by_webhook(world, box)
        assert 15 == await first_poll(world)
        polls = [await first_poll(world) for _ in range(6)]
        assert (1, sorted(polls, reverse=True)) == (polls[-1], polls)

    run(story())


# Unauthenticated events.


def test_unauthenticated_events_are_limited() -> None:
    """A job gets one poll in five seconds, however many come, and a failed one counts for nothing."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING), mailbox=box, authenticated=False, policy=NEVER)
        export = await world.exports.create(AVATAR)
        waiting = asyncio.create_task(export.wait(timeout=30))
        for _ in range(1150):
            await box.deliver(export_event("failed", None), authenticated=False)
            await asyncio.sleep(0.01)
        with pytest.raises(WaitTimeoutError):
            await waiting
        assert [0, 0, 5, 10, 29] == [round(moment, 1) for moment in world.times]

    run(story())


def test_an_unauthenticated_event_is_confirmed_by_a_poll() -> None:
    """Also where authenticated ones are taken without."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING, READY), mailbox=box, authenticated=False, confirm=False)
        export = await world.exports.create(AVATAR)
        model, _ = await asyncio.gather(
            export.wait(), after(0.3, lambda: box.deliver(export_event(), authenticated=False))
        )
        assert ("webhook", [0, 0.3]) == (model.resolved_by, world.times)

    run(story())


def test_forged_events_for_many_jobs_are_limited_together() -> None:
    """Ten polls a second for all jobs of a client."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(PENDING), mailbox=box, authenticated=False, policy=NEVER)
        avatars = [UUID(int=number) for number in range(100)]
        exports = [await world.exports.create(avatar) for avatar in avatars]
        waits = [asyncio.create_task(export.wait(timeout=500)) for export in exports]
        await asyncio.sleep(1)
        for avatar in avatars:
            await box.deliver(export_event(avatar_id=avatar), authenticated=False)
        await asyncio.sleep(0.5)
        assert 10 == len(world.times) - len(avatars)
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)

    run(story())


# Renders.


def render_event(
    status: str = "ready", url: str | None = URL, render_id: UUID = RENDER, avatar_id: UUID = AVATAR
) -> RenderReadyWebhook:
    """Return the event of a render."""
    facts: dict[str, Any] = {"id": render_id, "avatar_id": avatar_id, "user_id": "u"}
    return RenderReadyWebhook(status=status, render_url=url, **facts)  # type: ignore[arg-type]


def render_world(box: MemoryMailbox, **more: Any) -> World:
    """Return a client whose renders are pending."""
    return World(lambda _: {"id": str(RENDER), "status": "pending"}, mailbox=box, **more)


def test_a_render_is_resolved_by_its_event_alone() -> None:
    """By the render's own id, by the first delivery, and without a poll."""

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
    """It waits in the mailbox."""

    async def story() -> None:
        box = MemoryMailbox()
        await box.deliver(render_event())
        assert URL == (await (await render_world(box).renders.create(AVATAR))).url

    run(story())


def test_a_render_without_an_event_times_out() -> None:
    """And says that no webhook came."""

    async def story() -> None:
        pending = await render_world(MemoryMailbox()).renders.create(AVATAR)
        with pytest.raises(WaitTimeoutError, match="last seen pending after 0 webhooks and 0 polls"):
            await pending.wait(timeout=5)

    run(story())


@pytest.mark.parametrize(
    ("event", "error"),
    [(("failed", None), JobFailedError), (("ready", None), ResponseFormatError)],
    ids=["failed", "no url"],
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


@pytest.mark.parametrize("wrong", ["unauthenticated", "avatar", "status"])
def test_a_render_is_not_resolved_by_another_event(wrong: str) -> None:
    """A forged one, one of another avatar and one with an unknown status; the true one that follows is taken."""

    async def story() -> None:
        box = Rewriting()
        pending = await render_world(box).renders.create(AVATAR)
        waiting = asyncio.create_task(pending.wait())
        avatar, status = OTHER if wrong == "avatar" else AVATAR, "baking" if wrong == "status" else "ready"
        event = render_event(status, "https://forged.example", avatar_id=avatar)
        await after(1, lambda: box.deliver(event, authenticated=wrong != "unauthenticated"))
        await after(1, lambda: box.deliver(render_event()))
        assert URL == (await waiting).url

    class Rewriting(MemoryMailbox):
        """A mailbox that keeps the last event of a render instead of the first."""

        async def deliver(self, event: Any, *, authenticated: bool = True) -> None:
            if wrong != "unauthenticated" and event.render_url == URL:
                self.second.set_result(Delivery("second", event))
            else:
                await super().deliver(event, authenticated=authenticated)

        def wait(self, key: str, after: str) -> asyncio.Future[Any]:
            if wrong != "unauthenticated" and after:
                self.second = asyncio.get_running_loop().create_future()
                return self.second
            return super().wait(key, after)

    run(story())


def test_a_render_resumes_from_the_mailbox() -> None:
    """By a token or by the ids that were stored."""

    async def story() -> None:
        box = MemoryMailbox()
        world = render_world(box)
        token = (await world.renders.create(AVATAR)).resume_token
        await box.deliver(render_event())
        other = render_world(box)
        assert URL == (await other.renders.resume(token)).url
        assert URL == (await other.renders.pending(str(AVATAR), str(RENDER))).url
        assert [] == other.times

    run(story())


# Scans.


def avatar_event(status: str | None = "ready", user_id: str | None = None) -> AvatarReadyWebhook:
    """Return the event of a scan."""
    return AvatarReadyWebhook(avatar_id=AVATAR, user_id=user_id, status=None if status is None else ScanStatus(status))


def listing(status: str) -> list[Any]:
    """Return the list of a user's avatars."""
    return [{"id": str(AVATAR), "status": status}]


@pytest.mark.parametrize("status", ["ready", None, "failed", "odd"])
@pytest.mark.parametrize("confirm", [True, False])
def test_an_avatar_event_triggers_a_poll_of_the_list(status: str | None, confirm: bool) -> None:
    """Also one without a status, which the contract only infers, and a failed one."""

    async def story() -> None:
        box = MemoryMailbox()
        answers = saying(listing("processing"), listing("failed" if status == "failed" else "ready"))
        world = World(answers, mailbox=box, confirm=confirm)
        waiting = asyncio.create_task(world.avatars.pending("u", AVATAR).wait())
        await after(0.6, lambda: box.deliver(avatar_event(status)))
        if status == "failed":
            with pytest.raises(JobFailedError):
                await waiting
        else:
            assert "ready" == (await waiting).status
        assert [0, 0.6] == world.times

    run(story())


def test_failed_events_of_a_scan_are_always_polled_for() -> None:
    """Reading the list starts nothing, so the third one ends the wait only after a poll."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(listing("processing")), mailbox=box, policy=NEVER)
        waiting = asyncio.create_task(world.avatars.pending("u", AVATAR).wait())
        for _ in range(3):
            await after(1, lambda: box.deliver(avatar_event("failed")))
        with pytest.raises(JobFailedError):
            await waiting
        assert [0, 1, 2, 3] == world.times

    run(story())


@pytest.mark.parametrize("confirm", [True, False])
def test_an_event_of_another_user_settles_nothing(confirm: bool) -> None:
    """One that names the user, or none, does."""

    async def story() -> None:
        box = MemoryMailbox()
        world = World(saying(listing("processing")), mailbox=box, confirm=confirm, policy=NEVER)
        avatar = world.avatars.pending("u", AVATAR)
        waiting = asyncio.create_task(avatar.wait())
        await after(1, lambda: box.deliver(avatar_event("ready", "somebody else")))
        await asyncio.sleep(10)
        assert ([0], False) == (world.times, waiting.done())
        world.transport.script = saying(listing("ready"))
        await box.deliver(avatar_event("ready", "u"))
        assert "ready" == (await waiting).status

    run(story())


# Cancellation at every step.


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
        assert not world.context.active
        return not doomed.cancelled()

    assert run_all_steps(story) > 10


def test_a_lone_awaiter_cancelled_at_every_step_leaves_nothing() -> None:
    """And the job can be awaited again."""

    async def story(step: int) -> bool:
        box = MemoryMailbox()
        world = World(saying(PENDING, PENDING, READY), mailbox=box, latency=0.01)
        export = await world.exports.create(AVATAR)
        doomed = asyncio.create_task(export.wait())
        interrupt_after(step, doomed)
        await asyncio.gather(doomed, return_exceptions=True)
        assert not world.context.active
        assert URL == (await export).url
        return not doomed.cancelled()

    assert run_all_steps(story) > 6


def test_create_and_wait_cancelled_at_every_step_leaves_nothing() -> None:
    """Also while the POST is on its way, and with a caller's timeout around it."""

    async def story(step: int) -> bool:
        box = MemoryMailbox()
        world = World(saying(PENDING, READY), mailbox=box, latency=0.01)

        async def bounded() -> None:
            async with asyncio.timeout(50):
                await world.exports.create_and_wait(AVATAR)

        doomed = asyncio.create_task(bounded())
        interrupt_after(step, doomed)
        await asyncio.gather(doomed, return_exceptions=True)
        assert not world.context.active
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
