"""The ten operations."""

import re
import sys
from uuid import UUID

import aiohttp
import pytest

from avaturn_async.emulator import Emulator, Faults
from avaturn_async.emulator.validation import contract

from .kit import NEVER, NOBODY, Caller

OPERATIONS = [
    pytest.param(method, path, operation["operationId"], id=operation["operationId"])
    for path, item in contract()["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
]


@pytest.mark.parametrize(("method", "path", "operation_id"), OPERATIONS)
async def test_every_operation_of_the_contract_exists(
    emulator: Emulator, method: str, path: str, operation_id: str
) -> None:
    """Each path leads to its operation and requires the token."""
    async with aiohttp.request(method, emulator.url + path.replace("{", "").replace("}", "")) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert await response.json() == {"detail": "Invalid or missing token"}
    assert emulator.counts == {operation_id: 1}


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", "Basic {}", "bearer {}", "Bearer {}x", "Bearer \xff"])
async def test_only_the_token_is_accepted(emulator: Emulator, given: str) -> None:
    """Anything but the bearer token is a 401."""
    headers = {"Authorization": given.format(emulator.token)}
    async with aiohttp.request("POST", f"{emulator.url}/api/v1/users/new", headers=headers) as response:
        assert response.status == 401


def test_the_token_is_derived_from_the_seed_unless_given() -> None:
    """It is not shown."""
    assert Emulator(seed=1).token == Emulator(seed=1).token != Emulator(seed=2).token
    assert Emulator(token="mine").token == "mine"
    assert "mine" not in repr(Emulator(token="mine"))


async def test_users_are_opaque_strings(caller: Caller) -> None:
    """A user's id is 32 characters of base32, and unique."""
    users = {await caller.new_user() for _ in range(10)}
    assert len(users) == 10
    assert all(re.fullmatch("[A-Z2-7]{32}", user) for user in users)


async def test_identifiers_come_from_the_seed() -> None:
    """Two emulators of one seed give the same identifiers."""
    seen = []
    for _ in range(2):
        async with Emulator(seed=7) as emulator, Caller(emulator) as caller:
            user = await caller.new_user()
            seen.append((user, (await caller.new_avatar(user))["avatar_id"]))
    assert seen[0] == seen[1]


async def test_deleting_a_user_deletes_its_avatars(caller: Caller) -> None:
    """Both are answered 404 afterwards."""
    user = await caller.new_user()
    avatar_id = await caller.dressed(user)
    assert await caller.call("DELETE", f"users/{user}") is None
    assert await caller.answer("DELETE", f"users/{user}") == (404, {"detail": "User not found"})
    assert (await caller.answer("GET", f"users/{user}/avatars"))[0] == 404
    assert (await caller.answer("GET", f"avatars/{avatar_id}/customization"))[0] == 404
    assert (await caller.answer("POST", "avatars/new", json={"user_id": user}))[0] == 404


async def test_an_avatar_is_deleted_by_its_owner(caller: Caller) -> None:
    """Deleting needs the right user, happens once, and leaves the others."""
    user, other = await caller.new_user(), await caller.new_user()
    avatar_id, kept = await caller.scanned(user), await caller.scanned(user)
    assert (await caller.answer("DELETE", f"users/{other}/avatars/{avatar_id}"))[0] == 404
    assert await caller.call("DELETE", f"users/{user}/avatars/{avatar_id}") is None
    assert (await caller.answer("DELETE", f"users/{user}/avatars/{avatar_id}"))[0] == 404
    assert await caller.call("GET", f"users/{user}/avatars") == [{"id": kept, "status": "ready"}]


async def test_an_avatar_goes_from_pending_over_processing_to_ready(emulator: Emulator, caller: Caller) -> None:
    """The list shows avatars that are not ready only when asked to."""
    emulator.timing = NEVER
    user = await caller.new_user()
    avatar = await caller.new_avatar(user)
    listing = f"users/{user}/avatars"
    everything = {"include_not_ready": "true"}
    assert await caller.call("GET", listing) == []
    assert (await caller.call("GET", listing, params=everything))[0]["status"] == "pending"
    await caller.upload(avatar["upload_url"])
    assert await caller.call("GET", listing, params={"include_not_ready": "false"}) == []
    assert (await caller.call("GET", listing, params=everything))[0]["status"] == "processing"


async def test_a_failed_scan_shows_in_the_list(emulator: Emulator, caller: Caller) -> None:
    """The avatar of a failed scan is failed, and can't be exported."""
    emulator.faults = Faults(job_failures=1)
    user = await caller.new_user()
    avatar_id = await caller.scanned(user)
    found = await caller.call("GET", f"users/{user}/avatars", params={"include_not_ready": "true"})
    assert found == [{"id": avatar_id, "status": "failed"}]
    status, body = await caller.answer("POST", "exports/new", params={"avatar_id": avatar_id})
    assert (status, body) == (409, {"detail": f"Avatar {avatar_id} is not ready, but failed"})


async def test_a_customization_comes_back_with_nulls_and_unknown_fields(caller: Caller) -> None:
    """Omitted fields are null, unknown fields are kept."""
    avatar_id = await caller.scanned()
    given = {"assets": {}, "body": "body_1", "metadata": {"a": "b"}, "skin_tone_correction": -5, "new": [1]}
    status, body = await caller.answer("PUT", f"avatars/{avatar_id}/customization", json=given)
    assert (status, body) == (202, None)
    slots = dict.fromkeys(["clothing", "hair_and_headwear", "eyewear", "footwear"])
    expected = {**given, "assets": slots, "age": None, "bone_scale": None}
    assert await caller.call("GET", f"avatars/{avatar_id}/customization") == expected


async def test_an_avatar_without_a_customization_has_no_export_or_render(caller: Caller) -> None:
    """What the contract leaves undefined is a 404 or a 409 until the customization is set."""
    avatar_id = await caller.scanned()
    assert (await caller.answer("GET", f"avatars/{avatar_id}/customization"))[0] == 404
    for path in ("exports/new", "renders/new"):
        query = {"avatar_id": avatar_id, "scene": "common/preview"}
        status, body = await caller.answer("POST", path, params=query)
        assert (status, body["detail"].split(" by ")[1]) == (409, "direct upload and has no customization yet")
    await caller.dress(avatar_id)
    assert (await caller.export(avatar_id))["status"] == "pending"


async def test_an_avatar_can_not_be_customized_before_its_scan(caller: Caller) -> None:
    """A customization of an avatar that is not ready is a 409."""
    avatar = await caller.new_avatar()
    path = f"avatars/{avatar['avatar_id']}/customization"
    status, body = await caller.answer("PUT", path, json={"assets": {}, "body": "body_0"})
    assert (status, body) == (409, {"detail": f"Avatar {avatar['avatar_id']} is not ready, but pending"})


async def test_an_export_is_started_once_for_a_version(emulator: Emulator, caller: Caller) -> None:
    """Repeats return the state of the one task."""
    avatar_id = await caller.dressed()
    emulator.timing = NEVER
    assert await caller.export(avatar_id) == {"status": "pending", "url": None}
    assert await caller.export(avatar_id) == {"status": "pending", "url": None}
    assert emulator.counts["create_export"] == 2


async def test_every_repeat_returns_a_new_url(caller: Caller) -> None:
    """The urls differ and lead to the same bytes."""
    avatar_id = await caller.dressed()
    urls = {await caller.exported(avatar_id), (await caller.export(avatar_id))["url"]}
    assert len(urls) == 2
    files = [await caller.fetch(url) for url in urls]
    assert files[0][2] == files[1][2]
    assert files[0][1]["ETag"] == files[1][1]["ETag"]


async def test_a_new_customization_makes_a_new_version(caller: Caller) -> None:
    """A different customization needs a new export, the same one does not."""
    avatar_id = await caller.dressed()
    first = await caller.exported(avatar_id)
    await caller.dress(avatar_id)
    assert (await caller.export(avatar_id))["status"] == "ready"
    await caller.dress(avatar_id, body="body_1")
    assert await caller.export(avatar_id) == {"status": "pending", "url": None}
    second = await caller.exported(avatar_id)
    assert (await caller.fetch(first))[2] != (await caller.fetch(second))[2]


@pytest.mark.parametrize(("restart", "expected"), [(False, "failed"), (True, "pending")])
async def test_a_failed_export_stays_failed_unless_it_is_restarted(
    emulator: Emulator, caller: Caller, restart: bool, expected: str
) -> None:
    """What a repeat returns after a failure is a setting."""
    avatar_id = await caller.dressed()
    emulator.faults = Faults(job_failures=1, restart_failed=restart)
    await caller.export(avatar_id)
    await emulator.settled()
    assert await caller.export(avatar_id) == {"status": expected, "url": None}


async def test_every_render_is_a_new_task(caller: Caller) -> None:
    """Renders are pending and have different ids."""
    avatar_id = await caller.dressed()
    first, second = await caller.render(avatar_id), await caller.render(avatar_id)
    assert first == {"id": first["id"], "status": "pending", "render_url": None}
    assert UUID(first["id"]) != UUID(second["id"])


@pytest.mark.parametrize("path", ["renders/new", "exports/new"])
async def test_models_and_images_without_pillow_say_what_to_install(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """The response names the extra."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    query = {"avatar_id": NOBODY} | ({"scene": "s"} if path == "renders/new" else {})
    status, body = await caller.answer("POST", path, params=query)
    assert status == 501
    assert 'pip install "avaturn-async[emulator]"' in body["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "users/new", "POST"), ("DELETE", "users/new", "POST"), ("POST", "users/x", "DELETE")],
)
async def test_another_method_is_405(caller: Caller, method: str, path: str, allowed: str) -> None:
    """A 405 names the allowed method."""
    async with caller.session.request(method, f"{caller.emulator.url}/api/v1/{path}") as response:
        assert (response.status, response.headers["Allow"]) == (405, allowed)
        assert await response.json() == {"detail": "Method Not Allowed"}


async def test_another_path_is_404(caller: Caller) -> None:
    """With and without the token."""
    assert await caller.answer("GET", "elsewhere") == (404, {"detail": "Not Found"})
    assert (await caller.fetch(f"{caller.emulator.url}/api/v1/elsewhere"))[0] == 404


async def test_a_body_that_is_too_large_is_413(caller: Caller) -> None:
    """JSON has at most 256 KiB."""
    status, _ = await caller.answer("POST", "avatars/new", json={"user_id": "x" * 256 * 1024})
    assert status == 413
