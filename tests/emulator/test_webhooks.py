"""Webhooks of the contract, their faults, and events that are sent on demand."""

import asyncio
from typing import Any

import pytest

from avaturn_async.emulator import Delivery, Emulator, EmulatorThread, Faults, Timing, jobs

from ..servers import listening
from .kit import AT_ONCE, NEVER, NOBODY, Caller, Receiver


def events(receiver: Receiver, name: str) -> list[dict[str, Any]]:
    """Return the events of one name."""
    return [event for event in receiver.events if event["event"] == name]


async def test_a_scan_an_export_and_a_render_send_events(
    emulator: Emulator, caller: Caller, receiver: Receiver
) -> None:
    """The payloads are the contract's, and their urls work."""
    user = await caller.new_user()
    avatar_id = await caller.dressed(user)
    await caller.export(avatar_id)
    render = await caller.render(avatar_id)
    await emulator.settled()
    common = {"avatar_id": avatar_id, "user_id": user, "status": "ready"}
    (scan,) = events(receiver, "avatar.ready")
    (export,) = events(receiver, "export.ready")
    (image,) = events(receiver, "render.ready")
    assert scan == {"event": "avatar.ready", **common, "session_id": None}
    assert export == {"event": "export.ready", **common, "export_url": export["export_url"]}
    assert image == {"event": "render.ready", **common, "id": render["id"], "render_url": image["render_url"]}
    assert (await caller.fetch(export["export_url"]))[0] == (await caller.fetch(image["render_url"]))[0] == 200
    assert {request.content_type for request in receiver.requests} == {"application/json"}
    assert all("Authorization" not in request.headers for request in receiver.requests)


async def test_failures_send_events_without_urls(emulator: Emulator, caller: Caller, receiver: Receiver) -> None:
    """The status is failed and the url null."""
    avatar_id = await caller.dressed()
    emulator.faults = Faults(job_failures=1)
    await caller.export(avatar_id)
    await caller.render(avatar_id)
    await caller.scanned()
    (export,), (image,) = events(receiver, "export.ready"), events(receiver, "render.ready")
    assert (export["status"], export["export_url"]) == (image["status"], image["render_url"]) == ("failed", None)
    assert [event["status"] for event in events(receiver, "avatar.ready")] == ["ready", "failed"]


async def test_every_version_sends_an_event_of_the_avatar(
    emulator: Emulator, caller: Caller, receiver: Receiver
) -> None:
    """An unfinished export also ends if a newer version exists."""
    avatar_id = await caller.dressed()
    emulator.timing = Timing(export=0.05)
    await caller.export(avatar_id)
    await caller.dress(avatar_id, body="body_1")
    await caller.export(avatar_id)
    await emulator.settled()
    old, new = events(receiver, "export.ready")
    assert old["avatar_id"] == new["avatar_id"] == avatar_id
    assert (await caller.fetch(old["export_url"]))[2] != (await caller.fetch(new["export_url"]))[2]


async def test_a_deleted_avatar_sends_no_events(emulator: Emulator, caller: Caller, receiver: Receiver) -> None:
    """Its jobs end without one."""
    emulator.timing = Timing(scan=1)  # the deletion comes first, also on a busy machine
    user = await caller.new_user()
    avatar = await caller.new_avatar(user)
    await caller.upload(avatar["upload_url"])
    await caller.call("DELETE", f"users/{user}")
    await emulator.settled()
    assert receiver.events == []


@pytest.mark.parametrize("status", [204, 302, 401, 500])
async def test_events_are_sent_once_whatever_the_response(
    emulator: Emulator, caller: Caller, receiver: Receiver, status: int
) -> None:
    """The contract documents no retries; the log has the response."""
    receiver.status = status
    await caller.scanned()
    assert len(receiver.events) == 1
    (delivery,) = emulator.deliveries
    assert (delivery.event, delivery.status, delivery.error) == (receiver.events[0], status, None)
    assert delivery.at > 0


async def test_a_missing_receiver_is_in_the_log(emulator: Emulator, caller: Caller) -> None:
    """The url, which contains a secret, is not."""
    emulator.webhook_url = "http://127.0.0.1:1/secret"
    await caller.scanned()
    (delivery,) = emulator.deliveries
    assert (delivery.status, delivery.error) == (None, "ClientConnectorError")
    assert "secret" not in repr(delivery)


async def test_without_a_url_nothing_is_sent(emulator: Emulator, caller: Caller) -> None:
    """And nothing is logged."""
    await caller.scanned()
    assert not emulator.deliveries


async def test_events_after_the_url_is_removed_are_dropped(
    emulator: Emulator, caller: Caller, receiver: Receiver
) -> None:
    """Delayed ones too."""
    emulator.faults = Faults(webhook_delay=0.05)
    user = await caller.new_avatar()
    await caller.upload(user["upload_url"])
    emulator.webhook_url = None
    await emulator.settled()
    assert receiver.events == []


async def test_loss(emulator: Emulator, caller: Caller, receiver: Receiver) -> None:
    """A lost event is in the log alone."""
    emulator.faults = Faults(webhook_loss=1)
    await caller.scanned()
    assert receiver.events == []
    assert [delivery.error for delivery in emulator.deliveries] == ["lost by a fault"]


async def test_duplicates(emulator: Emulator, caller: Caller, receiver: Receiver) -> None:
    """A duplicate is identical."""
    emulator.faults = Faults(webhook_duplicates=1)
    await caller.scanned()
    first, second = receiver.events
    assert first == second


async def test_delay(emulator: Emulator, caller: Caller, receiver: Receiver) -> None:
    """A delayed event arrives after a later one."""
    avatar_id = await caller.dressed()
    receiver.events.clear()
    emulator.faults = Faults(webhook_delay=3600)
    await caller.exported_by_polling(avatar_id)
    emulator.faults = Faults()
    await caller.render(avatar_id)
    assert [event["event"] for event in await receiver.received(1)] == ["render.ready"]


async def test_a_delay_ends(emulator: Emulator, caller: Caller, receiver: Receiver) -> None:
    """A delayed event arrives, and `settled` awaits it."""
    emulator.faults = Faults(webhook_delay=0.01)
    await caller.scanned()
    assert len(receiver.events) == 1


async def test_a_share_of_events_is_delayed(emulator: Emulator, caller: Caller, receiver: Receiver) -> None:
    """With a share of 0 no event is, or this test would take an hour."""
    emulator.faults = Faults(webhook_delay=3600, webhook_delayed=0)
    await caller.scanned()
    assert len(receiver.events) == 1


async def test_early(emulator: Emulator, caller: Caller, receiver: Receiver) -> None:
    """The event is received before the response, which is pending nevertheless; a repeat is ready."""
    avatar_id = await caller.dressed()
    emulator.timing, emulator.faults = NEVER, Faults(webhook_early=1)
    receiver.events.clear()
    assert await caller.export(avatar_id) == {"status": "pending", "url": None}
    assert [event["event"] for event in receiver.events] == ["export.ready"]
    assert (await caller.export(avatar_id))["status"] == "ready"
    render = await caller.render(avatar_id)
    assert (render["status"], receiver.events[-1]["id"]) == ("pending", render["id"])
    avatar = await caller.new_avatar()
    await caller.upload(avatar["upload_url"])
    assert receiver.events[-1]["avatar_id"] == avatar["avatar_id"]


async def test_early_and_lost(emulator: Emulator, caller: Caller, receiver: Receiver) -> None:
    """An early event can be lost too."""
    emulator.faults = Faults(webhook_early=1, webhook_loss=1)
    await caller.scanned()
    assert (receiver.events, len(emulator.deliveries)) == ([], 1)


async def test_reorder(emulator: Emulator, caller: Caller, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that is held back arrives after a later one."""
    monkeypatch.setattr(jobs, "HOLD", 3600)
    avatar_id = await caller.dressed()
    receiver.events.clear()
    emulator.faults = Faults(webhook_reorder=1)
    await caller.exported_by_polling(avatar_id)
    emulator.faults = Faults()
    await caller.render(avatar_id)
    names = [event["event"] for event in await receiver.received(2)]
    assert names == ["render.ready", "export.ready"]


async def test_no_event_is_held_back_for_ever(
    emulator: Emulator, caller: Caller, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a later event it arrives by itself."""
    monkeypatch.setattr(jobs, "HOLD", 0.01)
    emulator.faults = Faults(webhook_reorder=1)
    await caller.scanned()
    assert len(receiver.events) == 1


async def test_more_events_than_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """All arrive, in order if one connection sends them."""
    monkeypatch.setattr(jobs, "CONNECTIONS", 1)
    async with Emulator(timing=AT_ONCE, models="small") as emulator, Caller(emulator) as caller, Receiver() as receiver:
        avatar_id = await caller.dressed()
        emulator.webhook_url = receiver.url
        renders = [await caller.render(avatar_id) for _ in range(30)]
        await emulator.settled()
        assert [event["id"] for event in receiver.events] == [render["id"] for render in renders]


async def test_events_beyond_the_backlog_are_dropped(
    emulator: Emulator, caller: Caller, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has them with the reason."""
    avatar_id = await caller.dressed()
    receiver.events.clear()
    emulator.deliveries.clear()
    monkeypatch.setattr(jobs, "BACKLOG", 0)
    await caller.render(avatar_id)
    await emulator.settled()
    (delivery,) = emulator.deliveries
    assert (receiver.events, delivery.error) == ([], "dropped: too many events wait to be sent")


async def test_faults_come_from_the_seed() -> None:
    """The same requests meet the same faults, with another seed others."""
    fates = []
    for seed in (1, 1, 2):
        faults = Faults(webhook_loss=0.3, webhook_duplicates=0.3, job_failures=0.3)
        timing = Timing(scan=0, export=0, render=0)
        async with Emulator(seed=seed, timing=timing) as emulator, Caller(emulator) as caller, Receiver() as receiver:
            avatar_id = await caller.dressed()
            emulator.webhook_url, emulator.faults = receiver.url, faults
            ids = []
            for _ in range(20):
                ids.append((await caller.render(avatar_id))["id"])
                await emulator.settled()
            fates.append([(ids.index(event["id"]), event["status"]) for event in receiver.events])
    assert fates[0] == fates[1] != fates[2]


async def test_a_receiver_that_hangs_delays_nothing() -> None:
    """Leaving drops events that were not received."""

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()

    connected = asyncio.Event()
    server = listening(await asyncio.start_server(hang, "127.0.0.1", 0))
    async with server as url, Emulator(timing=Timing(scan=0)) as emulator, Caller(emulator) as caller:
        emulator.webhook_url = url
        await caller.upload((await caller.new_avatar())["upload_url"])
        await connected.wait()
    assert not emulator.deliveries


async def test_an_event_can_be_sent_by_name(emulator: Emulator, caller: Caller, receiver: Receiver) -> None:
    """It is about the avatar's current version, with a url that works, and changes no state."""
    avatar_id, emulator.timing = await caller.dressed(), NEVER
    receiver.events.clear()
    await caller.export(avatar_id)
    emulator.faults = Faults(webhook_loss=1, webhook_delay=3600)
    delivery = await emulator.send("export.ready", avatar_id=avatar_id)
    assert (delivery.event, delivery.status, delivery.error) == (receiver.events[0], 200, None)
    assert delivery == emulator.deliveries[-1]
    assert (delivery.event["avatar_id"], delivery.event["status"]) == (avatar_id, "ready")
    assert (await caller.fetch(delivery.event["export_url"]))[0] == 200
    assert await caller.export(avatar_id) == {"status": "pending", "url": None}
    assert emulator.counts["create_export"] == 2


async def test_every_named_event_is_valid(emulator: Emulator, receiver: Receiver) -> None:
    """Also about an avatar that the emulator does not know, and about a failure."""
    for name, link in (("avatar.ready", "session_id"), ("export.ready", "export_url"), ("render.ready", "render_url")):
        for status in ("ready", "failed"):
            event = (await emulator.send(name, avatar_id=NOBODY, status=status)).event
            assert (event["event"], event["avatar_id"], event["status"]) == (name, NOBODY, status)
            assert (event[link] is None) == (status == "failed" or name == "avatar.ready")
            assert (await emulator.send(event)).event == event
    assert len(receiver.events) == 12


async def test_the_ids_of_a_named_event(emulator: Emulator, receiver: Receiver) -> None:
    """They are given or random."""
    event = (await emulator.send("render.ready", avatar_id=NOBODY, render_id=NOBODY)).event
    assert (event["avatar_id"], event["id"]) == (NOBODY, NOBODY)
    events = [(await emulator.send("export.ready")).event for _ in range(2)]
    assert events[0]["avatar_id"] != events[1]["avatar_id"]


async def test_an_unknown_event_is_sent_as_given(emulator: Emulator, receiver: Receiver) -> None:
    """Avaturn may add events."""
    event = {"event": "user.created", "new": [1]}
    assert (await emulator.send(event)).event == event
    assert receiver.events == [event]


@pytest.mark.parametrize(
    ("event", "options", "message"),
    [
        pytest.param({}, {}, "an event needs a name", id="no-name"),
        pytest.param({"event": 1}, {}, "an event needs a name", id="name-is-no-text"),
        pytest.param({"event": "export.ready"}, {}, "not a valid export.ready: avatar_id: Field required", id="no-id"),
        pytest.param({"event": "avatar.ready", "avatar_id": "x"}, {}, "avatar_id: String should match", id="bad-id"),
        pytest.param("export.done", {}, "'export.done' is not one of avatar.ready, export", id="unknown-name"),
        pytest.param("export.ready", {"avatar_id": "x"}, "badly formed", id="bad-uuid"),
        pytest.param("export.ready", {"render_id": NOBODY}, "render_id belongs to render.ready", id="render-id"),
        pytest.param("export.ready", {"status": "done"}, "status must be 'ready' or 'failed'", id="bad-status"),
    ],
)
async def test_invalid_events_are_not_sent(
    emulator: Emulator, receiver: Receiver, event: Any, options: dict[str, Any], message: str
) -> None:
    """The error names what is wrong."""
    with pytest.raises(ValueError, match=message):
        await emulator.send(event, **options)
    assert receiver.events == []


async def test_an_event_needs_a_webhook_url(emulator: Emulator) -> None:
    """Without one there is nowhere to send it."""
    with pytest.raises(RuntimeError, match="webhook_url"):
        await emulator.send("export.ready")


def test_an_event_can_be_sent_from_another_thread() -> None:
    """The outcome is returned, also where there is no receiver."""
    with EmulatorThread(Emulator(webhook_url="http://127.0.0.1:1/secret")) as emulator:
        delivery = emulator.send("export.ready", avatar_id=NOBODY)
        assert isinstance(delivery, Delivery)
        assert (delivery.status, delivery.error) == (None, "ClientConnectorError")
        assert delivery == emulator.deliveries[-1]
