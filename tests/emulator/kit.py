"""A bare caller of the emulator's API and a receiver of its webhooks, with nothing of the client in them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Self

import aiohttp
from aiohttp import web

from avaturn_async.emulator import Emulator, Timing

JPEG = b"\xff\xd8\xff\xe0" + bytes(1000)
AT_ONCE = Timing(scan=0, export=0, render=0)
NEVER = Timing(scan=3600, export=3600, render=3600)
NOBODY = "00000000-0000-4000-8000-000000000000"


def photos(**changes: Any) -> aiohttp.FormData:
    """Make the form of a photo upload; a field given as None is left out."""
    fields = {"image-frontal": JPEG, "image-side-1": JPEG, "image-side-2": JPEG, "body-type": "male"}
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in (fields | {name.replace("_", "-"): value for name, value in changes.items()}).items():
        if isinstance(value, bytes):
            form.add_field(name, value, filename=f"{name}.jpg", content_type="image/jpeg")
        elif value is not None:
            form.add_field(name, value)
    return form


async def halted_photos(gate: asyncio.Event) -> AsyncIterator[bytes]:
    """Send a photo upload, of which the second half waits at a gate; its boundary is `x`."""
    fields = ("image-frontal", "image-side-1", "image-side-2")
    parts = [f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + JPEG for name in fields]
    yield b"\r\n".join(parts)
    await gate.wait()
    yield b'\r\n--x\r\nContent-Disposition: form-data; name="body-type"\r\n\r\nmale\r\n--x--\r\n'


class Caller:
    """Calls an emulator with its token, or for files and uploads without."""

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
        """Call an operation that is to go well."""
        status, body = await self.answer(method, path, **options)
        assert status in (200, 202), body
        return body

    async def new_user(self) -> str:
        """Make a user."""
        return (await self.call("POST", "users/new"))["id"]

    async def new_avatar(self, user_id: str | None = None) -> dict[str, str]:
        """Make a provisional avatar."""
        return await self.call("POST", "avatars/new", json={"user_id": user_id or await self.new_user()})

    async def upload(self, url: str, **changes: Any) -> tuple[int, Any]:
        """Post photos."""
        async with self.anonymous.post(url, data=photos(**changes)) as response:
            return response.status, await response.json()

    async def upload_behind(self, gate: asyncio.Event, url: str) -> int:
        """Post photos, to the end when a gate opens, and return the status."""
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        async with self.anonymous.post(url, data=halted_photos(gate), headers=headers) as response:
            return response.status

    async def scanned(self, user_id: str | None = None) -> str:
        """Make an avatar whose scan is ready."""
        avatar = await self.new_avatar(user_id)
        assert (await self.upload(avatar["upload_url"]))[0] == 200
        await self.emulator.settled()
        return avatar["avatar_id"]

    async def dressed(self, user_id: str | None = None) -> str:
        """Make an avatar that can be exported."""
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
        """Export to the end and return the url."""
        await self.export(avatar_id)
        await self.emulator.settled()
        return (await self.export(avatar_id))["url"]

    async def exported_by_polling(self, avatar_id: str) -> None:
        """Export, and ask until it is ready, whatever becomes of the event."""
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
    """Remembers the webhooks that it receives, and answers with `status`."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.requests: list[web.BaseRequest] = []
        self.status = 200
        self.url = ""
        self._runner = web.ServerRunner(web.Server(self._receive), shutdown_timeout=0.1)
        self._arrived = asyncio.Condition()

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/hooks"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

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
