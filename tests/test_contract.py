"""The client and the emulator against the contract: every request, every answer and every event is validated."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, get_args
from uuid import UUID, uuid4

import aiohttp
import attrs
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from avaturn_async import (
    AssetSlot,
    AssetSlots,
    AssetSlotWithColorRGB,
    AssetSlotWithColorRGBA,
    AvatarBody,
    AvaturnClient,
    BoneScale,
    ConflictError,
    CreateOrEditExistingSessionConfig,
    CreateSessionConfig,
    EditExistingSessionConfig,
    ExternalAvatarCustomization,
    GoneError,
    NotFoundError,
    PathSecret,
    Photos,
    ServerError,
    SessionConfig,
    UnprocessableError,
    WebhookReceiver,
)
from avaturn_async.emulator import Emulator, Faults
from avaturn_async.emulator.validation import contract
from avaturn_async.resources.renders import ImageFormat

from .conftest import QUICK
from .contract_proxy import ContractProxy, check

JPEG = b"\xff\xd8\xff\xe0\x00\x02\xff\xda" + bytes(1000) + b"\xff\xd9"
PHOTOS = Photos(JPEG, JPEG, JPEG, body_type="male")
PLAIN = ExternalAvatarCustomization()
SECRET = "a-path-secret-of-ours-0123456789"


@pytest.fixture
async def proxy(emulator: Emulator) -> AsyncIterator[ContractProxy]:
    """Run the proxy, and fail a test in which anything went through that does not follow the contract."""
    async with ContractProxy(emulator.url) as running:
        yield running
        assert [] == running.complaints


@pytest.fixture
async def client(emulator: Emulator, proxy: ContractProxy) -> AsyncIterator[AvaturnClient]:
    """Open a client of the proxy."""
    async with AvaturnClient(emulator.token, base_url=proxy.url, polling=QUICK) as opened:
        yield opened


@pytest.fixture
async def user(client: AvaturnClient) -> str:
    """Make a user."""
    return (await client.users.create()).id


@pytest.fixture
async def avatar(client: AvaturnClient, user: str) -> UUID:
    """Make an avatar that can be exported."""
    return (await (await client.avatars.create_from_photos(user, PHOTOS, customization=PLAIN))).id


def slot(emulator: Emulator, name: str, number: int = 0) -> UUID:
    """Return an asset for a slot."""
    return emulator.catalogue.available(name)[number].id


def test_the_document_is_well_formed() -> None:
    """It is OpenAPI 3.1."""
    assert [] == list(OpenAPIV31SpecValidator(contract()).iter_errors())


async def test_users(client: AvaturnClient, proxy: ContractProxy) -> None:
    """Made, deleted, and deleted again; an id that needs encoding arrives as it is."""
    user = await client.users.create()
    await client.users.delete(user.id)
    await client.users.delete(user.id, missing_ok=True)
    for unknown in (user.id, "a/b c?d", "é"):
        with pytest.raises(NotFoundError):
            await client.users.delete(unknown)
    assert ["create_user", *["delete_user"] * 5] == proxy.operations


@pytest.mark.parametrize(
    "config", [None, CreateSessionConfig(), CreateOrEditExistingSessionConfig(extra={"hint": {"a": [None]}})]
)
async def test_sessions(client: AvaturnClient, proxy: ContractProxy, user: str, config: SessionConfig | None) -> None:
    """With each config, or none; it is nested."""
    session = await client.sessions.create(user, config)
    sent = json.loads(proxy.last("create_session").body)
    expected = {"user_id": user} | ({} if config is None else {"config": {"type": config.type, **config.extra}})
    assert expected == sent
    assert session.url.startswith(proxy.url)


async def test_sessions_of_an_avatar(client: AvaturnClient, proxy: ContractProxy, user: str, avatar: UUID) -> None:
    """The editor opens for one avatar, named by its id."""
    await client.sessions.create(user, EditExistingSessionConfig(avatar_id=avatar))
    expected = {"user_id": user, "config": {"type": "edit_existing", "avatar_id": str(avatar)}}
    assert expected == json.loads(proxy.last("create_session").body)


@pytest.mark.parametrize("everything", [False, True])
async def test_lists(client: AvaturnClient, proxy: ContractProxy, user: str, avatar: UUID, everything: bool) -> None:
    """Of the avatars that are ready, or of all."""
    provisional = await client.avatars.create(user)
    listed = await client.avatars.list(user, include_not_ready=everything)
    assert {avatar, *([provisional.avatar_id] if everything else [])} == {item.id for item in listed}
    expected = {"include_not_ready": "true"} if everything else {}
    assert expected == proxy.last("list_user_avatars").query


@pytest.mark.parametrize("telephoto", [False, True])
@pytest.mark.parametrize("body_type", ["male", "female"])
async def test_uploads(
    client: AvaturnClient, emulator: Emulator, proxy: ContractProxy, user: str, body_type: Any, telephoto: bool
) -> None:
    """Three photos and two words, without the token."""
    made = await client.avatars.create(user)
    await client.avatars.upload(made.upload_url, Photos(JPEG, JPEG, JPEG, body_type=body_type, telephoto=telephoto))
    await emulator.settled()
    assert [made.avatar_id] == [item.id for item in await client.avatars.list(user)]
    assert ["create_user", "create_avatar", "upload", "list_user_avatars"] == proxy.operations


async def test_customizations(client: AvaturnClient, emulator: Emulator, avatar: UUID) -> None:
    """All that can be set is what is read again, and what the contract does not name goes along."""
    everything = ExternalAvatarCustomization(
        assets=AssetSlots(
            clothing=AssetSlot(id=slot(emulator, "clothing"), extra={"pattern": "dots"}),
            hair_and_headwear=AssetSlotWithColorRGB(id=slot(emulator, "hair_and_headwear"), color="#a1b2c3"),
            eyewear=AssetSlotWithColorRGBA(id=slot(emulator, "eyewear"), color="#a1b2c3ff"),
            footwear=AssetSlot(id=slot(emulator, "footwear")),
            extra={"jewellery": {"id": str(uuid4())}},
        ),
        body=AvatarBody("body_1"),
        age="adult",
        metadata={"key": "value"},
        bone_scale=BoneScale(head=10, arms=-2.5, chest=0, extra={"legs": 1}),
        skin_tone_correction=-50,
        extra={"mood": ["calm", None]},
    )
    for wanted in (everything, PLAIN, attrs.evolve(everything, age=None, bone_scale=None, metadata=None)):
        await client.avatars.set_customization(avatar, wanted)
        assert wanted == await client.avatars.get_customization(avatar)


async def test_customizations_that_are_refused(client: AvaturnClient, emulator: Emulator, avatar: UUID) -> None:
    """The contract's 409, 410 and 422 are answers of the right shape, and the errors say what they say."""
    shoes, gone = slot(emulator, "footwear"), emulator.catalogue.retired("clothing")[0].id
    with pytest.raises(ConflictError, match=f"Asset {shoes} added to wrong placement - clothing"):
        await client.avatars.set_customization(
            avatar, attrs.evolve(PLAIN, assets=AssetSlots(clothing=AssetSlot(id=shoes)))
        )
    with pytest.raises(GoneError) as caught:
        await client.avatars.set_customization(
            avatar, attrs.evolve(PLAIN, assets=AssetSlots(clothing=AssetSlot(id=gone)))
        )
    assert (gone,) == caught.value.asset_ids
    with pytest.raises(UnprocessableError, match="answered 422: body") as refused:
        await client.avatars.set_customization(avatar, attrs.evolve(PLAIN, body=AvatarBody("body_99")))
    assert ("body", "body") == refused.value.errors[0].loc[:2]


async def test_exports(client: AvaturnClient, proxy: ContractProxy, avatar: UUID) -> None:
    """Created, read, awaited, downloaded and resumed, by a query and no body."""
    export = await client.exports.create(avatar)
    await export.refresh()
    model = await export
    assert avatar == (await client.exports.resume(export.resume_token)).avatar_id
    assert b"glTF" == b"".join([chunk async for chunk in model.stream()])[:4]
    asked = [exchange for exchange in proxy.exchanges if exchange.operation == "create_export"]
    assert [({"avatar_id": str(avatar)}, b"")] * len(asked) == [(exchange.query, exchange.body) for exchange in asked]
    assert "file" == proxy.operations[-1]


@pytest.mark.parametrize("image_format", get_args(ImageFormat))
@pytest.mark.parametrize("scene", [None, "common/transparent_full_body", "my_own/Scene_2"])
async def test_renders(
    client: AvaturnClient, proxy: ContractProxy, avatar: UUID, image_format: ImageFormat, scene: str | None
) -> None:
    """In each format, of the default scene, a documented one and one's own; by a query and no body."""
    more = () if scene is None else (scene,)
    render = await client.renders.create(avatar, *more, format=image_format)
    assert avatar == render.avatar_id
    sent = proxy.last("render_user_avatar")
    expected = {"avatar_id": str(avatar), "scene": scene or "common/preview", "format": image_format}
    assert (expected, b"") == (sent.query, sent.body)


async def test_deleted_avatars(client: AvaturnClient, user: str, avatar: UUID) -> None:
    """What is gone is a 404 wherever it is asked for."""
    await client.avatars.delete(user, avatar)
    await client.avatars.delete(user, avatar, missing_ok=True)
    for asking in (
        client.avatars.delete(user, avatar),
        client.avatars.get_customization(avatar),
        client.avatars.set_customization(avatar, PLAIN),
        client.exports.create(avatar),
        client.renders.create(avatar),
        client.avatars.list("nobody"),
        client.avatars.create("nobody"),
        client.sessions.create("nobody"),
    ):
        with pytest.raises(NotFoundError):
            await asking


async def test_answers_under_faults(client: AvaturnClient, emulator: Emulator, proxy: ContractProxy) -> None:
    """A 5xx is no answer that the contract explains, whatever its body; the client makes an error of it."""
    emulator.faults = Faults(server_errors=1)
    with pytest.raises(ServerError):
        await client.users.delete("anybody")
    proxy.complaints = [found for found in proxy.complaints if "text/html" not in found]


async def test_events(client: AvaturnClient, emulator: Emulator, proxy: ContractProxy, user: str) -> None:
    """What the emulator tells the receiver is what the contract says, also of a job that failed."""
    receiver = WebhookReceiver(PathSecret(SECRET))
    async with receiver.serve() as server:
        emulator.webhook_url = server.url
        pending = await client.avatars.create_from_photos(user, PHOTOS, customization=PLAIN)
        avatar = (await pending).id
        await client.renders.create(avatar)
        await client.exports.create_and_wait(avatar)
        emulator.faults = Faults(job_failures=1)
        await client.renders.create(avatar)
        await emulator.settled()
        kinds = {"avatar.ready": "AvatarReadyWebhook", "render.ready": "RenderReadyWebhook"}
        kinds["export.ready"] = "ExportReadyWebhook"
        assert set(kinds) == {delivery.event["event"] for delivery in emulator.deliveries}
        for delivery in emulator.deliveries:
            assert (200, []) == (delivery.status, check(delivery.event, kinds[delivery.event["event"]]))


async def test_every_operation_is_asked_for(
    client: AvaturnClient, proxy: ContractProxy, user: str, avatar: UUID
) -> None:
    """The client has a call for each of them, and the proxy knows each by its name."""
    await client.sessions.create(user)
    await client.avatars.get_customization(avatar)
    await client.renders.create(avatar)
    await client.exports.create(avatar)
    await client.avatars.delete(user, avatar)
    await client.users.delete(user)
    operations = {
        operation["operationId"]
        for item in contract()["paths"].values()
        for name, operation in item.items()
        if name in ("get", "put", "post", "delete")
    }
    assert operations | {"upload"} == set(proxy.operations)
    assert 10 == len(operations)


AVATAR = UUID("0b5f8a8e-6f1c-4f0e-9d0a-3f6f2f6f7a10")
CUSTOMIZATION = f"/api/v1/avatars/{AVATAR}/customization"
BROKEN: list[tuple[str, str, dict[str, Any], str]] = [
    ("POST", "/api/v1/users/new", {"json": {}}, "the contract has no body"),
    ("POST", "/api/v1/users/new?dry=1", {}, "the contract has no query parameter"),
    ("POST", "/api/v1/users/new", {"headers": {"Authorization": "Basic x"}}, "Security"),
    ("POST", "/api/v1/users/new", {"headers": {"Content-Type": "text/plain"}}, "a Content-Type without a body"),
    ("POST", "/api/v1/exports/new", {}, "avatar_id"),
    ("POST", "/api/v1/exports/new?avatar_id=x", {}, "avatar_id"),
    ("POST", f"/api/v1/renders/new?avatar_id={AVATAR}&scene=a&format=gif", {}, "format"),
    ("GET", "/api/v1/users/u/avatars?include_not_ready=maybe", {}, "include_not_ready"),
    ("POST", "/api/v1/sessions/new", {"json": {"user_id": 1}}, "user_id"),
    ("POST", "/api/v1/sessions/new", {"json": {"user_id": "u", "config": {"type": "edit_existing"}}}, "'avatar_id' is"),
    ("PUT", CUSTOMIZATION, {"json": {"assets": {}}}, "body"),
    ("PUT", CUSTOMIZATION, {"json": {"assets": {}, "body": "b", "age": None}}, "is not of type"),
    ("GET", "/api/v1/nothing", {}, "not found"),
    ("GET", "/files/x", {}, "the token left the API"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "options", "said"), BROKEN)
async def test_the_proxy_finds_faults(
    emulator: Emulator, proxy: ContractProxy, method: str, path: str, options: dict[str, Any], said: str
) -> None:
    """A request that does not follow the contract is noted: else these tests would prove nothing."""
    headers = {"Authorization": f"Bearer {emulator.token}"}
    skipped = () if "json" in options else ("Content-Type",)
    async with (
        aiohttp.ClientSession(headers=headers, skip_auto_headers=skipped) as session,
        session.request(method, proxy.url + path, **options) as response,
    ):
        await response.read()
    found, proxy.complaints = proxy.complaints, []
    assert said in "\n".join(found)


async def test_the_proxy_looks_into_forms(emulator: Emulator, proxy: ContractProxy) -> None:
    """An upload with a word that is wrong and a photo that is missing is noted."""
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("image-frontal", JPEG, filename="a.jpg", content_type="image/jpeg")
    form.add_field("body-type", "other")
    async with aiohttp.ClientSession() as session, session.post(f"{proxy.url}/uploads/x/y", data=form) as response:
        await response.read()
    found, proxy.complaints = proxy.complaints, []
    assert ["'image-side-1'", "'image-side-2'", "'other'"] == [text.split()[2] for text in sorted(found)]
