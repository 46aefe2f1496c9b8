"""The client against a server that is not ours: Prism serves the contract and refuses what does not follow it."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from threading import Thread
from typing import IO, Any
from uuid import UUID

import aiohttp
import pytest

from avaturn_async import (
    AssetSlot,
    AssetSlots,
    AssetSlotWithColorRGB,
    AssetSlotWithColorRGBA,
    AvaturnClient,
    BoneScale,
    CreateOrEditExistingSessionConfig,
    CreateSessionConfig,
    EditExistingSessionConfig,
    ExternalAvatarCustomization,
    RenderStatus,
)
from avaturn_async.emulator.validation import contract
from avaturn_async.http import codec

pytestmark = pytest.mark.npm

CLI = "@stoplight/prism-cli/dist/index.js"
LISTENING = re.compile(rb"Prism is listening on (http://127\.0\.0\.1:\d+)")
TOKEN = "any-token"
USER = "TGTLFCCRG67V6ERUMDTK3JNI5AYGF6XF"
AVATAR = UUID("0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00")
LOOK = ExternalAvatarCustomization(
    assets=AssetSlots(
        clothing=AssetSlot(id=AVATAR, extra={"pattern": "dots"}),
        hair_and_headwear=AssetSlotWithColorRGB(id=AVATAR, color="#a1b2c3"),
        eyewear=AssetSlotWithColorRGBA(id=AVATAR, color="#a1b2c3ff"),
        footwear=AssetSlot(id=AVATAR),
    ),
    age="adult",
    metadata={"key": "value"},
    bone_scale=BoneScale(head=1, arms=-2.5, chest=0),
    skin_tone_correction=3,
    extra={"mood": "calm"},
)


def prism() -> Path:
    """Find Prism's command, or skip the test: fail it if AVATURN_REQUIRE_NPM is 1."""
    stop = pytest.fail if os.environ.get("AVATURN_REQUIRE_NPM") == "1" else pytest.skip
    if shutil.which("node") is None:
        stop("node is not installed")
    modules = os.environ.get("AVATURN_NODE_MODULES")
    if not modules or not (Path(modules) / CLI).is_file():
        stop("the npm package @stoplight/prism-cli is not in the folder AVATURN_NODE_MODULES")
    return Path(str(modules), CLI).resolve()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the contract to all tests, and end the server by its id."""
    document = tmp_path_factory.mktemp("prism") / "openapi.json"
    document.write_text(json.dumps(_with_example()))
    command = ["node", str(prism()), "mock", "--host", "127.0.0.1", "--port", "0", "--errors", str(document)]
    environment = {**os.environ, "NO_COLOR": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as process:
        assert process.stdout is not None
        draining = Thread(target=process.stdout.read)
        try:
            url = _url_of(process.stdout)
            draining.start()
            yield url
        finally:
            process.kill()
            if draining.ident is not None:
                draining.join()


def _with_example() -> dict[str, Any]:
    """Return the contract with an example of a customization: Prism makes up colours that are none."""
    document = copy.deepcopy(contract())
    path = document["paths"]["/api/v1/avatars/{id}/customization"]
    path["get"]["responses"]["200"]["content"]["application/json"]["example"] = codec.unstructure(LOOK)
    return document


def _url_of(output: IO[bytes]) -> str:
    said = b""
    for line in output:
        said += line
        if found := LISTENING.search(line):
            return found[1].decode()
    pytest.fail(f"Prism did not start: {said.decode(errors='replace')}")


@pytest.fixture
async def client(server: str) -> AsyncIterator[AvaturnClient]:
    """Open a client of Prism."""
    async with AvaturnClient(TOKEN, base_url=server) as opened:
        yield opened


async def test_all_ten_calls_are_accepted(client: AvaturnClient) -> None:
    """Prism answers a request that the contract does not allow with an error; there is none."""
    assert "TGTLFCCRG67V6ERUMDTK3JNI5AYGF6XF" == (await client.users.create()).id
    for config in (
        None,
        CreateSessionConfig(),
        CreateOrEditExistingSessionConfig(),
        EditExistingSessionConfig(avatar_id=AVATAR),
    ):
        assert isinstance((await client.sessions.create(USER, config)).id, UUID)
    for everything in (False, True):
        assert 1 == len(await client.avatars.list(USER, include_not_ready=everything))
    assert isinstance((await client.avatars.create(USER)).avatar_id, UUID)
    assert LOOK == await client.avatars.get_customization(AVATAR)
    await client.avatars.set_customization(AVATAR, LOOK)
    assert RenderStatus.PENDING == (await client.renders.create(AVATAR)).status
    assert RenderStatus.PENDING == (await client.exports.create(AVATAR)).status
    await client.avatars.delete(USER, AVATAR)
    await client.users.delete(USER)


@pytest.mark.parametrize("image_format", ["jpg", "png", "webp"])
async def test_formats_of_renders_are_accepted(client: AvaturnClient, image_format: str) -> None:
    """Each that the contract names."""
    render = await client.renders.create(AVATAR, "common/city_full_body", format=image_format)  # type: ignore[arg-type]
    assert AVATAR == render.avatar_id


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/api/v1/users/new", {}),
        ("POST", "/api/v1/exports/new", {"Authorization": f"Bearer {TOKEN}"}),
        ("POST", "/api/v1/exports/new?avatar_id=x", {"Authorization": f"Bearer {TOKEN}"}),
        ("PUT", f"/api/v1/avatars/{AVATAR}/customization", {"Authorization": f"Bearer {TOKEN}"}),
    ],
)
async def test_prism_refuses_what_the_contract_does_not_allow(
    server: str, method: str, path: str, headers: dict[str, str]
) -> None:
    """Else its consent would prove nothing."""
    async with aiohttp.ClientSession() as session, session.request(method, server + path, headers=headers) as answer:
        assert 400 <= answer.status < 500, await answer.text()
