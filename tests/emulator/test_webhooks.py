"""Webhooks as the contract has them, and what can go wrong with them."""

import asyncio
from typing import Any

import pytest

from avaturn_async.emulator import Emulator, Faults, Timing, hooks

from .kit import NEVER, Caller, Receiver


def events(receiver: Receiver, name: str) -> list[dict[str, Any]]:
    """Return the events of one name."""
    return [event for event in receiver.events if event["event"] == name]


async def test_a_scan_an_export_and_a_render_are_told(emulator: Emulator, caller: Caller, receiver: Receiver) -> None:
    """The payloads are the contract's; the urls in them work."""
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


async def test_failures_are_told_without_urls(emulator: Emulator, caller: Caller, receiver: Receiver) -> None:
    """The status is failed and the url null."""
    avatar_id = await caller.dressed()
    emulator.faults = Faults(job_failures=1)
    await caller.export(avatar_id)
    await caller.render(avatar_id)
    await caller.scanned()
    (export,), (image,) = events(receiver, "export.ready"), events(receiver, "render.ready")
    assert (export["status"], export["export_url"]) == (image["status"], image["render_url"]) == ("failed", None)
    assert [event["status"] for event in events(receiver, "avatar.ready")] == ["ready", "failed"]


async def test_every_version_is_told_under_the_avatars_id(
    emulator: Emulator, caller: Caller, receiver: Receiver
) -> None:
    """An export under way ends also when its version is no more the newest."""
    avatar_id = await caller.dressed()
    emulator.timing = Timing(export=0.05)
    await caller.export(avatar_id)
    await caller.dress(avatar_id, body="body_1")
    await caller.export(avatar_id)
    await emulator.settled()
    old, new = events(receiver, "export.ready")
    assert old["avatar_id"] == new["avatar_id"] == avatar_id
    assert (await caller.fetch(old["export_url"]))[2] != (await caller.fetch(new["export_url"]))[2]


async def test_what_is_deleted_is_not_told(emulator: Emulator, caller: Caller, receiver: Receiver) -> None:
    """The jobs of a deleted avatar end in silence."""
    emulator.timing = Timing(scan=0.05)
    user = await caller.new_user()
    avatar = await caller.new_avatar(user)
    await caller.upload(avatar["upload_url"])
    await caller.call("DELETE", f"users/{user}")
    await emulator.settled()
    assert receiver.events == []


@pytest.mark.parametrize("status", [204, 302, 401, 500])
async def test_events_are_sent_once_whatever_is_answered(
    emulator: Emulator, caller: Caller, receiver: Receiver, status: int
) -> None:
    """The contract documents no retries; the answer is in the log."""
    receiver.status = status
    await caller.scanned()
    assert len(receiver.events) == 1
    (delivery,) = emulator.deliveries
    assert (delivery.event, delivery.status, delivery.error) == (receiver.events[0], status, None)
    assert delivery.at > 0


async def test_a_receiver_that_is_not_there_is_in_the_log(emulator: Emulator, caller: Caller) -> None:
    """Nothing else comes of it; the url, which may hold a secret, is not in the log."""
    emulator.webhook_url = "http://127.0.0.1:1/secret"
    await caller.scanned()
    (delivery,) = emulator.deliveries
    assert (delivery.status, delivery.error) == (None, "ClientConnectorError")
    assert "secret" not in repr(delivery)


async def test_without_a_url_nothing_is_sent(emulator: Emulator, caller: Caller) -> None:
    """Neither is anything logged."""
    await caller.scanned()
    assert not emulator.deliveries


async def test_events_after_the_url_is_taken_away_are_dropped(
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
    """A lost event is only in the log."""
    emulator.faults = Faults(webhook_loss=1)
    await caller.scanned()
    assert receiver.events == []
    assert [delivery.error for delivery in emulator.deliveries] == ["lost by a fault"]


async def test_duplicates(emulator: Emulator, caller: Caller, receiver: Receiver) -> None:
    """A doubled event arrives twice, the same."""
    emulator.faults = Faults(webhook_duplicates=1)
    await caller.scanned()
    first, second = receiver.events
    assert first == second


async def test_delay(emulator: Emulator, caller: Caller, receiver: Receiver) -> None:
    """A delayed event is overtaken by what happened later."""
    avatar_id = await caller.dressed()
    receiver.events.clear()
    emulator.faults = Faults(webhook_delay=3600)
    await caller.exported_by_polling(avatar_id)
    emulator.faults = Faults()
    await caller.render(avatar_id)
    assert [event["event"] for event in await receiver.received(1)] == ["render.ready"]


async def test_a_delay_ends(emulator: Emulator, caller: Caller, receiver: Receiver) -> None:
    """A delayed event arrives, and is waited for by `settled`."""
    emulator.faults = Faults(webhook_delay=0.01)
    await caller.scanned()
    assert len(receiver.events) == 1


async def test_a_share_of_events_is_delayed(emulator: Emulator, caller: Caller, receiver: Receiver) -> None:
    """With a share of none, no event is: this test would take an hour."""
    emulator.faults = Faults(webhook_delay=3600, webhook_delayed=0)
    await caller.scanned()
    assert len(receiver.events) == 1


async def test_early(emulator: Emulator, caller: Caller, receiver: Receiver) -> None:
    """The event is received before the answer, which is pending all the same; a repeat is ready."""
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
    """An event that is early can be lost as well."""
    emulator.faults = Faults(webhook_early=1, webhook_loss=1)
    await caller.scanned()
    assert (receiver.events, len(emulator.deliveries)) == ([], 1)


async def test_reorder(emulator: Emulator, caller: Caller, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that is held back comes after a later one."""
    monkeypatch.setattr(hooks, "HOLD", 3600)
    avatar_id = await caller.dressed()
    receiver.events.clear()
    emulator.faults = Faults(webhook_reorder=1)
    await caller.exported_by_polling(avatar_id)
    emulator.faults = Faults()
    await caller.render(avatar_id)
    names = [event["event"] for event in await receiver.received(2)]
    assert names == ["render.ready", "export.ready"]


async def test_nothing_is_held_for_ever(
    emulator: Emulator, caller: Caller, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a later event the one held back comes by itself."""
    monkeypatch.setattr(hooks, "HOLD", 0.01)
    emulator.faults = Faults(webhook_reorder=1)
    await caller.scanned()
    assert len(receiver.events) == 1


async def test_an_event_that_comes_as_the_last_sender_ends(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is sent, though no place was free a moment ago."""
    monkeypatch.setattr(hooks, "CONNECTIONS", 1)
    sending = emulator._run.hooks  # type: ignore[union-attr]
    sent: list[int] = []

    async def send(event: dict[str, int]) -> None:
        sent.append(event["number"])
        if len(sent) == 1:
            asyncio.get_running_loop().call_soon(sending._enqueue, (2, {"number": 2}))

    monkeypatch.setattr(sending, "_send", send)
    sending._enqueue((1, {"number": 1}))
    await emulator.settled()
    assert [1, 2] == sent


async def test_more_events_than_connections(
    emulator: Emulator, caller: Caller, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All arrive, in order where one connection sends them."""
    monkeypatch.setattr(hooks, "CONNECTIONS", 1)
    avatar_id = await caller.dressed()
    receiver.events.clear()
    renders = [await caller.render(avatar_id) for _ in range(30)]
    await emulator.settled()
    assert [event["id"] for event in receiver.events] == [render["id"] for render in renders]


async def test_faults_come_from_the_seed() -> None:
    """The same requests meet the same faults; another seed has others."""
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


async def test_a_receiver_that_hangs_holds_up_nothing(caller: Caller, emulator: Emulator) -> None:
    """Leaving drops what was not received."""

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()

    connected = asyncio.Event()
    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server, Emulator(timing=Timing(scan=0)) as other, Caller(other) as own:
        other.webhook_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await own.upload((await own.new_avatar())["upload_url"])
        await connected.wait()
    assert not other.deliveries
