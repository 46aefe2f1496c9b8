"""The client against the emulator, on real sockets."""

from __future__ import annotations

import asyncio
import gc
import logging
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web

from avaturn_async import (
    AssetSlot,
    AssetSlots,
    AuthenticationError,
    AvaturnClient,
    AvaturnError,
    ClientClosedError,
    ConfigurationError,
    ConflictError,
    CreateSessionConfig,
    DownloadError,
    EditExistingSessionConfig,
    ExternalAvatarCustomization,
    GoneError,
    JobFailedError,
    NotFoundError,
    OutcomeUnknownError,
    Photos,
    PollPolicy,
    RequestTimeoutError,
    ResponseFormatError,
    RetryPolicy,
    ServerError,
    UnprocessableError,
    WrongLoopError,
)
from avaturn_async.emulator import Emulator, Faults, Timing
from avaturn_async.emulator.images import photo
from avaturn_async.resources import Exports

from .leaks import leaks
from .servers import running

QUICK = PollPolicy(first=0.05, factor=1.5, cap=0.3)
TIMING = Timing(scan=0.05, export=0.05, render=0.05)
#: Made here, as the emulator reads a file to make its first image.
IMAGES = [photo(seed=1, view="frontal"), photo(seed=1, view="side-1"), photo(seed=1, view="side-2")]


def photos() -> Photos:
    """Return three valid photos."""
    return Photos(*IMAGES, body_type="female")


async def ready_avatar(client: AvaturnClient) -> tuple[str, Any]:
    """Make a user with an avatar that can be exported."""
    user = await client.users.create()
    avatar = await client.avatars.create_from_photos(user.id, photos(), customization=ExternalAvatarCustomization())
    return user.id, (await avatar).id


async def test_from_photos_to_a_model_on_disk(tmp_path: Path) -> None:
    """The whole story: photos, scan, customization, export, download."""
    async with (
        Emulator(timing=TIMING, models="small") as avaturn,
        AvaturnClient(avaturn.token, base_url=avaturn.url, polling=QUICK) as client,
    ):
        _, avatar_id = await ready_avatar(client)
        model = await client.exports.create_and_wait(avatar_id, timeout=20)
        got = await model.download(tmp_path / "avatar.glb")
        content = (tmp_path / "avatar.glb").read_bytes()
        assert (b"glTF", len(content)) == (content[:4], got.size)
        assert content == b"".join([chunk async for chunk in model.stream()])
        assert ["avatar.glb"] == [path.name for path in tmp_path.iterdir()]


async def test_an_expired_url_is_asked_for_anew(tmp_path: Path) -> None:
    """A download that is refused re-reads the export for a fresh url."""
    async with (
        Emulator(timing=TIMING, models="small") as avaturn,
        AvaturnClient(avaturn.token, base_url=avaturn.url, polling=QUICK) as client,
    ):
        _, avatar_id = await ready_avatar(client)
        model = await client.exports.create_and_wait(avatar_id)
        avaturn.expire_urls()
        assert (await model.download(tmp_path / "avatar.glb")).size > 1000


async def test_a_url_that_is_refused_for_good_says_so(tmp_path: Path) -> None:
    """The API says ready, the url answers 403: an error that says both, and no file."""
    async with (
        Emulator(timing=TIMING, models="small") as avaturn,
        AvaturnClient(avaturn.token, base_url=avaturn.url, polling=QUICK) as client,
    ):
        _, avatar_id = await ready_avatar(client)
        avaturn.timing = Timing(export=0.05, url_ttl=0)
        model = await client.exports.create_and_wait(avatar_id)
        with pytest.raises(DownloadError, match="403"):
            await model.download(tmp_path / "avatar.glb")
        assert [] == list(tmp_path.iterdir())


async def test_a_new_customization_makes_a_new_export() -> None:
    """An export belongs to one version of an avatar."""
    async with (
        Emulator(timing=TIMING, models="small") as avaturn,
        AvaturnClient(avaturn.token, base_url=avaturn.url, polling=QUICK) as client,
    ):
        _, avatar_id = await ready_avatar(client)
        first = await client.exports.create_and_wait(avatar_id)
        assert (await client.exports.create(avatar_id)).done()
        await client.avatars.set_customization(avatar_id, ExternalAvatarCustomization(skin_tone_correction=5))
        second = await client.exports.create(avatar_id)
        assert not second.done()
        assert first.url.split("?")[0] != (await second).url.split("?")[0]


async def test_read_change_write_of_a_customization_erases_nothing() -> None:
    """What was set is read back the same."""
    async with (
        Emulator(timing=TIMING, models="small") as avaturn,
        AvaturnClient(avaturn.token, base_url=avaturn.url, polling=QUICK) as client,
    ):
        _, avatar_id = await ready_avatar(client)
        wanted = ExternalAvatarCustomization(age="adult", metadata={"a": "b"}, skin_tone_correction=-3.5)
        await client.avatars.set_customization(avatar_id, wanted)
        assert wanted == await client.avatars.get_customization(avatar_id)


async def test_assets_that_do_not_fit_or_are_gone() -> None:
    """409 and 410 come back as their errors, with the ids."""
    async with (
        Emulator(timing=TIMING, models="small") as avaturn,
        AvaturnClient(avaturn.token, base_url=avaturn.url, polling=QUICK) as client,
    ):
        _, avatar_id = await ready_avatar(client)
        gone = uuid4()
        with pytest.raises(GoneError) as caught:
            await client.avatars.set_customization(
                avatar_id, ExternalAvatarCustomization(assets=AssetSlots(clothing=AssetSlot(id=gone)))
            )
        assert (gone,) == caught.value.asset_ids
        shoes = next(asset for asset in avaturn.catalogue.assets if asset.slot == "footwear" and not asset.retired)
        with pytest.raises(ConflictError, match="wrong placement"):
            await client.avatars.set_customization(
                avatar_id, ExternalAvatarCustomization(assets=AssetSlots(clothing=AssetSlot(id=shoes.id)))
            )


async def test_sessions_and_lists() -> None:
    """Every session config is accepted, and lists show what they should."""
    async with (
        Emulator(timing=TIMING, models="small") as avaturn,
        AvaturnClient(avaturn.token, base_url=avaturn.url, polling=QUICK) as client,
    ):
        user_id, avatar_id = await ready_avatar(client)
        for config in (None, CreateSessionConfig(), EditExistingSessionConfig(avatar_id=avatar_id)):
            assert (await client.sessions.create(user_id, config)).url.startswith(avaturn.url)
        made = await client.avatars.create(user_id)
        assert [avatar_id] == [item.id for item in await client.avatars.list(user_id)]
        listed = await client.avatars.list(user_id, include_not_ready=True)
        assert {avatar_id, made.avatar_id} == {item.id for item in listed}
        await client.avatars.upload(made.upload_url, photos())
        assert "ready" == (await client.avatars.pending(user_id, made.avatar_id)).status


async def test_deleting() -> None:
    """Deleting twice is a 404, or nothing with missing_ok."""
    async with (
        Emulator(timing=TIMING, models="small") as avaturn,
        AvaturnClient(avaturn.token, base_url=avaturn.url, polling=QUICK) as client,
    ):
        user_id, avatar_id = await ready_avatar(client)
        await client.avatars.delete(user_id, avatar_id)
        await client.avatars.delete(user_id, avatar_id, missing_ok=True)
        with pytest.raises(NotFoundError):
            await client.avatars.delete(user_id, avatar_id)
        await client.users.delete(user_id)
        await client.users.delete(user_id, missing_ok=True)
        with pytest.raises(NotFoundError):
            await client.users.delete(user_id)


async def test_an_upload_that_fails_says_where_to_go_on() -> None:
    """The error has the avatar and the url, and a second upload there succeeds."""
    async with (
        Emulator(timing=TIMING, models="small") as avaturn,
        AvaturnClient(avaturn.token, base_url=avaturn.url, polling=QUICK) as client,
    ):
        user = await client.users.create()
        made = await client.avatars.create(user.id)
        with pytest.raises(AvaturnError) as caught:
            await client.avatars.upload(made.upload_url + "x", photos())
        assert made.upload_url + "x" == caught.value.upload_url
        assert made.upload_url not in str(caught.value)


async def test_a_failed_scan_and_a_failed_export() -> None:
    """Jobs that fail end their waits."""
    async with (
        Emulator(timing=TIMING, models="small") as avaturn,
        AvaturnClient(avaturn.token, base_url=avaturn.url, polling=QUICK) as client,
    ):
        _, avatar_id = await ready_avatar(client)
        avaturn.faults = Faults(job_failures=1)
        with pytest.raises(JobFailedError) as caught:
            await client.exports.create_and_wait(avatar_id)
        assert str(avatar_id) in str(caught.value)
        user = await client.users.create()
        with pytest.raises(JobFailedError):
            await (await client.avatars.create_from_photos(user.id, photos()))


async def test_a_resumed_avatar_still_sets_its_customization() -> None:
    """The token carries the customization, so another process sets it."""
    async with (
        Emulator(timing=TIMING, models="small") as avaturn,
        AvaturnClient(avaturn.token, base_url=avaturn.url, polling=QUICK) as client,
    ):
        user = await client.users.create()
        wanted = ExternalAvatarCustomization(metadata={"who": "me"})
        token = (await client.avatars.create_from_photos(user.id, photos(), customization=wanted)).resume_token
        assert avaturn.token not in token
        async with AvaturnClient(avaturn.token, base_url=avaturn.url, polling=QUICK) as other:
            item = await other.avatars.resume(token)
            assert wanted == await other.avatars.get_customization(item.id)


async def test_wrong_token() -> None:
    """A 401 is an AuthenticationError from every call, and it is not retried."""
    async with Emulator() as avaturn, AvaturnClient("wrong", base_url=avaturn.url) as client:
        with pytest.raises(AuthenticationError):
            await client.users.create()
        assert 1 == len(avaturn.requests)


async def test_bad_input_is_refused_before_any_request(tmp_path: Path) -> None:
    """Each with its typed error and a sentence."""
    (tmp_path / "text.jpg").write_text("no photo")
    good = photo(seed=1, view="frontal")
    async with Emulator() as avaturn, AvaturnClient(avaturn.token, base_url=avaturn.url) as client:
        with pytest.raises(ValueError, match="avatar_id must be a UUID"):
            await client.exports.create("nonsense")
        with pytest.raises(TypeError, match="avatar_id"):
            await client.renders.create(7)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="format must be one of jpg, png, webp"):
            await client.renders.create(uuid4(), format="gif")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="scene"):
            await client.renders.create(uuid4(), "")
        with pytest.raises(ValueError, match=r"side_1 .*text\.jpg.* is not a JPEG"):
            await client.avatars.create_from_photos("u", Photos(good, tmp_path / "text.jpg", good, body_type="male"))
        with pytest.raises(FileNotFoundError, match=r"Photos\.side_2 can't be read"):
            await client.avatars.create_from_photos("u", Photos(good, good, tmp_path / "none.jpg", body_type="male"))
        with pytest.raises(ValueError, match="user_id"):
            await client.users.delete("..")
        with pytest.raises(TypeError, match="customization"):
            await client.avatars.set_customization(uuid4(), {})  # type: ignore[arg-type]
        assert 0 == len(avaturn.requests)


async def test_422_names_what_was_wrong() -> None:
    """The API's findings are in the error."""
    async with (
        Emulator(timing=TIMING, models="small") as avaturn,
        AvaturnClient(avaturn.token, base_url=avaturn.url, polling=QUICK) as client,
    ):
        _, avatar_id = await ready_avatar(client)
        with pytest.raises(UnprocessableError) as caught:
            await client.avatars.set_customization(avatar_id, ExternalAvatarCustomization(body="nobody"))  # type: ignore[arg-type]
        assert ("body", "body") == (caught.value.errors[0].loc[0], caught.value.errors[0].loc[-1])


def test_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token, an insecure url; the environment is used; constructing needs no loop."""
    monkeypatch.delenv("AVATURN_API_TOKEN", raising=False)
    monkeypatch.delenv("AVATURN_BASE_URL", raising=False)
    with pytest.raises(ConfigurationError, match="AVATURN_API_TOKEN"):
        AvaturnClient()
    with pytest.raises(ConfigurationError, match="in the clear"):
        AvaturnClient("sesame", base_url="http://api.example")
    assert "http://api.example" == AvaturnClient("t", base_url="http://api.example/", allow_http=True).base_url
    monkeypatch.setenv("AVATURN_API_TOKEN", "sesame")
    assert "https://api.avaturn.me" == AvaturnClient().base_url
    monkeypatch.setenv("AVATURN_BASE_URL", "https://other.example/root/")
    client = AvaturnClient()
    assert "https://other.example/root" == client.base_url
    assert "sesame" not in repr(client)


SESAME = "sesame-open-0123456789"


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "http://api.example"},
        {"base_url": f"https://user:{SESAME}@api.example"},
        {"base_url": f"https://api.example?key={SESAME}"},
        {"max_connections": 0},
        {"webhooks": 7},
        {"headers": {"X-Gate": f"{SESAME}\n"}},
        {"headers": {"Authorization": SESAME}},
        {"proxy": f"socks5://user:{SESAME}@proxy.example"},
        {"timeouts": "5"},
        {"retry": 3},
        {"polling": 3},
        {"rate_limit": 3},
        {"wait_timeout": "no"},
        {"wait_timeout": float("nan")},
    ],
    ids=str,
)
def test_no_refused_setting_shows_a_secret(wrong: dict[str, Any]) -> None:
    """Neither the token nor what other settings may hold."""
    with pytest.raises((ConfigurationError, TypeError, ValueError)) as caught:
        AvaturnClient(SESAME, **wrong)
    assert [] == leaks(caught.value, SESAME)


class Wrapped:
    """A secret of another library, such as pydantic's SecretStr."""

    def __repr__(self) -> str:
        return f"Wrapped({SESAME!r})"

    __str__ = __repr__


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (Wrapped(), "the API token must be a str, not Wrapped"),
        (SESAME.encode(), "the API token must be a str, not bytes"),
        (7, "the API token must be a str, not int"),
        (f"{SESAME}\n", "the API token contains a character"),
        ("", "no API token: pass"),
        (None, "no API token: pass"),
    ],
    ids=["wrapped", "bytes", "int", "line end", "empty", "none"],
)
def test_tokens_that_are_refused(token: Any, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At construction, and without showing them."""
    monkeypatch.delenv("AVATURN_API_TOKEN", raising=False)
    with pytest.raises(ConfigurationError, match=said) as caught:
        AvaturnClient(token)
    assert [] == leaks(caught.value, SESAME)


async def test_a_number_is_the_total_timeout() -> None:
    """Of each attempt, in seconds."""
    async with Emulator(faults=Faults(slow=5)) as avaturn:
        async with AvaturnClient(avaturn.token, base_url=avaturn.url, timeouts=0.05) as client:
            with pytest.raises(OutcomeUnknownError, match=r"within 0\.05 s"):
                await client.users.create()
            with pytest.raises(RequestTimeoutError, match=r"within 0\.1 s"):
                await client.with_options(timeouts=0.1, retry=RetryPolicy(attempts=1)).avatars.list("u")
    with pytest.raises(ValueError, match="'total' must be > 0"):
        AvaturnClient("t", timeouts=0)


async def test_a_view_has_other_options_and_the_same_life() -> None:
    """It shares connections and pending state; closing it closes the client."""
    seen: list[str | None] = []

    async def note(request: web.Request) -> web.Response:
        seen.append(request.headers.get("X-Gate"))
        return web.json_response({"status": "pending"}, status=503 if len(seen) == 1 else 200)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", note)
    async with running(web.AppRunner(app, handler_cancellation=True)) as url:
        client = AvaturnClient("t", base_url=url, polling=QUICK, headers={"X-Gate": "1"})
        view = client.with_options(retry=RetryPolicy(attempts=1), headers={"X-Gate": "2"})
        with pytest.raises(ServerError):
            await view.exports.create(uuid4())
        export = await view.exports.create(uuid4())
        await export.refresh()
        assert ["2"] * 3 == seen
        waiting = asyncio.create_task(export.wait())
        await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises(ClientClosedError):
            await waiting
        with pytest.raises(ClientClosedError):
            await view.exports.create(uuid4())
    with pytest.raises(ConfigurationError, match="header"):
        client.with_options(headers={"Host": "x"})


def test_a_client_can_be_specified_for_mocks() -> None:
    """Its resources are properties of the class, and their methods are known."""
    mock = create_autospec(AvaturnClient)
    for name in ("users", "sessions", "avatars", "renders", "exports"):
        assert hasattr(mock, name)
    exports = create_autospec(Exports, instance=True)
    with pytest.raises(TypeError):
        exports.create()


def test_a_client_belongs_to_one_loop() -> None:
    """Use from another loop says so, instead of hanging."""
    client = AvaturnClient("t", base_url="http://127.0.0.1:9")

    async def use() -> None:
        with pytest.raises(AvaturnError):
            await client.users.create()

    async def misuse() -> None:
        with pytest.raises(WrongLoopError):
            await client.users.create()

    with asyncio.Runner() as runner:
        runner.run(use())
        asyncio.run(misuse())
        runner.run(client.aclose())


async def test_a_closed_client_says_so() -> None:
    """Calls after aclose raise ClientClosedError; closing twice does nothing."""
    async with Emulator() as avaturn:
        client = AvaturnClient(avaturn.token, base_url=avaturn.url)
        await client.users.create()
        await client.aclose()
        await client.aclose()
        with pytest.raises(ClientClosedError):
            await client.users.create()


async def test_closing_ends_open_waits() -> None:
    """Whoever awaits when the client is closed gets ClientClosedError at once."""
    async with Emulator(timing=Timing(scan=0.05, export=1000)) as avaturn:
        client = AvaturnClient(avaturn.token, base_url=avaturn.url, polling=QUICK)
        _, avatar_id = await ready_avatar(client)
        export = await client.exports.create(avatar_id)
        waits = [asyncio.create_task(export.wait()) for _ in range(5)]
        await export.refresh()
        await client.aclose()
        errors = await asyncio.gather(*waits, return_exceptions=True)
        assert [ClientClosedError] * 5 == [type(error) for error in errors]


async def test_a_borrowed_session_is_never_closed() -> None:
    """It is used for calls and left open."""
    async with Emulator() as avaturn, aiohttp.ClientSession() as session:
        async with AvaturnClient(avaturn.token, base_url=avaturn.url, session=session) as client:
            await client.users.create()
        assert not session.closed


def test_nothing_is_left_unclosed_when_the_loop_ends(caplog: pytest.LogCaptureFixture) -> None:
    """A program that ends while it waits leaves no warning and no task exception."""

    async def program(avaturn: Emulator) -> None:
        async with AvaturnClient(avaturn.token, base_url=avaturn.url, polling=QUICK) as client:
            _, avatar_id = await ready_avatar(client)
            async with asyncio.timeout(0.2):
                await client.exports.create_and_wait(avatar_id)

    async def story() -> None:
        async with Emulator(timing=Timing(scan=0.05, export=1000)) as avaturn:
            await program(avaturn)

    with caplog.at_level(logging.WARNING), pytest.raises(TimeoutError):
        asyncio.run(story())
    gc.collect()
    assert [] == [record for record in caplog.records if record.name == "asyncio"]


@pytest.mark.parametrize("path", ["users.create", "exports.create", "renders.create", "avatars.list", "avatars.delete"])
async def test_no_error_shows_the_token(path: str) -> None:
    """Not in its text, chain, or the locals of any frame."""
    resource, method = path.split(".")
    arguments = {"create": [uuid4()] if resource != "users" else [], "list": ["u"], "delete": ["u", uuid4()]}[method]
    async with Emulator(token="other") as avaturn, AvaturnClient(SESAME, base_url=avaturn.url) as client:
        with pytest.raises(AuthenticationError) as caught:
            await getattr(getattr(client, resource), method)(*arguments)
    assert [] == leaks(caught.value, SESAME, everywhere=False)


ANSWERS = {
    "cut": b'{"url": "https://files.example/?sig=sesame-open-0123456789',
    "html": b"<html>sesame-open-0123456789</html>",
    "other shape": b'{"status": {"url": "https://files.example/?sig=sesame-open-0123456789"}}',
    "other type": b'["https://files.example/?sig=sesame-open-0123456789"]',
    "other id": b'{"id": ["sesame-open-0123456789"], "avatar_id": "sesame-open-0123456789", "upload_url": []}',
    "surrogate": b'{"id": "sesame-open-0123456789\\ud800"}',
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize(
    "path", ["users.create", "sessions.create", "avatars.create", "avatars.list", "renders.create", "exports.create"]
)
async def test_a_2xx_that_can_not_be_read_is_not_quoted(answer: bytes, path: str) -> None:
    """It may hold a signed link, wherever it breaks the contract."""
    resource, method = path.split(".")

    async def respond(request: web.Request) -> web.Response:
        return web.Response(body=answer)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", respond)
    arguments = [] if path == "users.create" else [str(uuid4())]
    async with (
        running(web.AppRunner(app, handler_cancellation=True)) as url,
        AvaturnClient("t", base_url=url) as client,
    ):
        with pytest.raises(ResponseFormatError) as caught:
            await getattr(getattr(client, resource), method)(*arguments)
    assert [] == leaks(caught.value, SESAME)


async def test_most_connections_are_left_to_calls() -> None:
    """Of those that there are: also of a borrowed session's, and at least one is for looks."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=10)) as session:
        looks = [
            AvaturnClient("token", session=session)._context.most_polls,
            AvaturnClient("token")._context.most_polls,
            AvaturnClient("token", max_connections=1)._context.most_polls,
        ]
    assert [3, 33, 1] == looks
