"""A bare caller of the emulator's API and a receiver of its webhooks, with nothing of the client in them."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Self

import aiohttp
from aiohttp import web

from avaturn_async.emulator import Emulator, Timing

from ..servers import running

JPEG = b"\xff\xd8\xff\xe0" + bytes(1000)
AT_ONCE = Timing(scan=0, export=0, render=0)
NEVER = Timing(scan=3600, export=3600, render=3600)
NOBODY = "00000000-0000-4000-8000-000000000000"


def photos(**changes: Any) -> aiohttp.FormData:
    """Return the form of a photo upload; a field given as None is omitted."""
    fields = {"image-frontal": JPEG, "image-side-1": JPEG, "image-side-2": JPEG, "body-type": "male"}
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in (fields | {name.replace("_", "-"): value for name, value in changes.items()}).items():
        if isinstance(value, bytes):
            form.add_field(name, value, filename=f"{name}.jpg", content_type="image/jpeg")
        elif value is not None:
            form.add_field(name, value)
    return form


async def halted_photos(gate: asyncio.Event) -> AsyncIterator[bytes]:
    """Send a photo upload with the boundary `x`, and its second half once a gate opens."""
    fields = ("image-frontal", "image-side-1", "image-side-2")
    parts = [f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + JPEG for name in fields]
    yield b"\r\n".join(parts)
    await gate.wait()
    yield b'\r\n--x\r\nContent-Disposition: form-data; name="body-type"\r\n\r\nmale\r\n--x--\r\n'


async def large_photos(size: int) -> AsyncIterator[bytes]:
    """Send a photo upload with the boundary `x` and three photos of this many bytes, in pieces."""
    for name in ("image-frontal", "image-side-1", "image-side-2"):
        yield f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + JPEG[:4]
        for start in range(4, size, 64_000):
            yield bytes(min(64_000, size - start))
        yield b"\r\n"
    yield b'--x\r\nContent-Disposition: form-data; name="body-type"\r\n\r\nmale\r\n--x--\r\n'


def free_port() -> int:
    """Return a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def raw_request(emulator: Emulator, host: str | None, port: int | None = None) -> tuple[int, Any]:
    """Create a user with this Host header, or by HTTP/1.0 without one, and return status and JSON."""
    port = port or int(emulator.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    version = "HTTP/1.0" if host is None else f"HTTP/1.1\r\nHost: {host.format(port=port)}"
    token = f"Authorization: Bearer {emulator.token}"
    writer.write(f"POST /api/v1/users/new {version}\r\n{token}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


class Caller:
    """A caller of an emulator, with its token for operations, without for files and uploads."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator

    async def __aenter__(self) -> Self:
        self.anonymous = aiohttp.ClientSession()
        self.session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {self.emulator.token}"})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()
        await self.anonymous.close()

    async def answer(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Call an operation and return status and JSON."""
        async with self.session.request(method, f"{self.emulator.url}/api/v1/{path}", **options) as response:
            return response.status, await response.json()

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """Call an operation that must succeed, and return its JSON."""
        status, body = await self.answer(method, path, **options)
        assert status in (200, 202), body
        return body

    async def new_user(self) -> str:
        """Create a user."""
        return (await self.call("POST", "users/new"))["id"]

    async def new_avatar(self, user_id: str | None = None) -> dict[str, str]:
        """Create an avatar that awaits its photos."""
        return await self.call("POST", "avatars/new", json={"user_id": user_id or await self.new_user()})

    async def upload(self, url: str, **changes: Any) -> tuple[int, Any]:
        """Post photos."""
        async with self.anonymous.post(url, data=photos(**changes)) as response:
            return response.status, await response.json()

    async def upload_behind(self, gate: asyncio.Event, url: str) -> int:
        """Post photos, the second half once a gate opens, and return the status."""
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        async with self.anonymous.post(url, data=halted_photos(gate), headers=headers) as response:
            return response.status

    async def scanned(self, user_id: str | None = None) -> str:
        """Create an avatar whose scan is ready."""
        avatar = await self.new_avatar(user_id)
        assert (await self.upload(avatar["upload_url"]))[0] == 200
        await self.emulator.settled()
        return avatar["avatar_id"]

    async def dressed(self, user_id: str | None = None) -> str:
        """Create an avatar that can be exported."""
        avatar_id = await self.scanned(user_id)
        await self.dress(avatar_id)
        return avatar_id

    async def dress(self, avatar_id: str, **changes: Any) -> None:
        """Set a customization."""
        outfit = self.emulator.catalogue.outfit() | changes
        await self.call("PUT", f"avatars/{avatar_id}/customization", json=outfit)

    async def export(self, avatar_id: str) -> dict[str, Any]:
        """Start or repeat an export."""
        return await self.call("POST", "exports/new", params={"avatar_id": avatar_id})

    async def exported(self, avatar_id: str) -> str:
        """Export, wait until it is ready, and return the url."""
        await self.export(avatar_id)
        await self.emulator.settled()
        return (await self.export(avatar_id))["url"]

    async def exported_by_polling(self, avatar_id: str) -> None:
        """Export, and poll until it is ready."""
        while (await self.export(avatar_id))["status"] != "ready":
            pass

    async def render(self, avatar_id: str, scene: str = "common/preview", **options: str) -> dict[str, Any]:
        """Start a render."""
        return await self.call("POST", "renders/new", params={"avatar_id": avatar_id, "scene": scene, **options})

    async def fetch(self, url: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
        """Download and return status, headers and bytes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.anonymous.request(method, url, headers=named) as response:
            return response.status, response.headers, await response.read()


class Receiver:
    """A receiver that remembers its webhooks and answers with `status`."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.requests: list[web.BaseRequest] = []
        self.status = 200
        self.url = ""
        self._runner = web.ServerRunner(web.Server(self._receive), shutdown_timeout=0.1)
        self._stack = AsyncExitStack()
        self._arrived = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self.url = f"{await self._stack.enter_async_context(running(self._runner))}/hooks"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def received(self, count: int) -> list[dict[str, Any]]:
        """Wait until this many events have arrived and return them all."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.events) >= count)
        return self.events

    async def _receive(self, request: web.BaseRequest) -> web.Response:
        self.requests.append(request)
        self.events.append(await request.json())
        async with self._arrived:
            self._arrived.notify_all()
        return web.Response(status=self.status)
