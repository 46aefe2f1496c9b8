"""The app of the studio: a visitor makes an avatar in the editor and sees its model. `run.py` runs it.

What is known of a visit is in Redis and at Avaturn; no worker keeps a part of it. Each connection to a visit's events
continues from there. A reload, a second tab and a killed worker are one case: the page connects again, to any worker.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from redis.asyncio import Redis

from avaturn_async import (
    AvatarReadyWebhook,
    AvaturnClient,
    AvaturnError,
    RedisMailbox,
    ScanStatus,
    WebhookReceiver,
    glb,
)

HERE = Path(__file__).parent
DAY = 86_400  # seconds that a visit is kept
EDITING = 3600  # seconds that a visitor has for the editor
MODELS = Path(os.environ.get("STUDIO_MODELS", "models"))  # a folder that all workers share
MODELS.mkdir(parents=True, exist_ok=True)

#: The viewer is the only thing that the page loads from another host; its hash is checked. A local copy replaces it.
VIEWER = "https://cdn.jsdelivr.net/npm/@google/model-viewer@4.4.0/dist/model-viewer.min.js"
INTEGRITY = "sha384-wjsPzEO+lXOf7d9csIDfAQpPt2OKuUU3m0K9qsdKIuzX4N8czSF6hdh23eAbZa3p"
LOCAL_VIEWER = os.environ.get("STUDIO_VIEWER")

SCRIPT = 'src="/viewer.js"' if LOCAL_VIEWER else f'src="{VIEWER}" integrity="{INTEGRITY}" crossorigin="anonymous"'
PAGE = (HERE / "page.html").read_text().replace("{viewer}", f'<script type="module" {SCRIPT}></script>')
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        f"script-src 'self' 'wasm-unsafe-eval' {'' if LOCAL_VIEWER else VIEWER}; style-src 'self' 'unsafe-inline'; "
        "connect-src 'self' blob: data:; img-src 'self' blob: data:; worker-src blob:"
    ),
    "Referrer-Policy": "no-referrer",  # the address of a visit is all that it takes to see it
    "Cache-Control": "no-store",
}


def is_worth_logging(record: logging.LogRecord) -> bool:
    """Leave out tracebacks of streams that are cut off when the server stops: their pages connect again."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


logging.getLogger("uvicorn.error").addFilter(is_worth_logging)

redis = Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
mailbox = RedisMailbox(os.environ["REDIS_URL"])
receiver = WebhookReceiver(os.environ["AVATURN_WEBHOOK_SECRET"], mailbox=mailbox)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open one client for all requests of this worker."""
    async with receiver, AvaturnClient(webhooks=receiver) as client:
        app.state.avaturn = client
        yield
    await mailbox.aclose()
    await redis.aclose()


app = FastAPI(lifespan=lifespan)
app.mount("/avaturn", receiver.asgi)
app.mount("/static", StaticFiles(directory=HERE / "static"))


@receiver.on(AvatarReadyWebhook)
async def avatar_is_ready(event: AvatarReadyWebhook) -> None:
    """Note the avatar in a stream of its user, for the worker that the page is connected to."""
    if event.user_id and event.status in (None, ScanStatus.READY):
        await redis.xadd(f"studio:made:{event.user_id}", {"avatar_id": str(event.avatar_id)})
        await redis.expire(f"studio:made:{event.user_id}", DAY)


@app.get("/")
async def start() -> HTMLResponse:
    """Serve the page to a new visitor."""
    return HTMLResponse(PAGE, headers=HEADERS)


@app.post("/visits")
async def visit() -> RedirectResponse:
    """Open a session of the editor for a new user, and go to the page of the visit."""
    client: AvaturnClient = app.state.avaturn
    user = await client.users.create()
    session = await client.sessions.create(user.id)
    made = client.sessions.pending(session)
    await made.refresh()  # notes that the user has no avatar yet, so that any later one is of this session
    visit_id = secrets.token_urlsafe(16)
    fields = {"user_id": user.id, "url": session.url, "session": made.resume_token}
    await redis.hset(f"studio:visit:{visit_id}", mapping=fields)
    await redis.expire(f"studio:visit:{visit_id}", DAY)
    return RedirectResponse(f"/visits/{visit_id}", status_code=303)


@app.get("/visits/{visit_id}")
async def page(visit_id: str) -> HTMLResponse:
    """Serve the page of a visit."""
    await read(visit_id)
    return HTMLResponse(PAGE, headers=HEADERS)


@app.get("/visits/{visit_id}/events")
async def events(visit_id: str) -> StreamingResponse:
    """Send the states of a visit as they change (server-sent events)."""
    visit = await read(visit_id)
    return StreamingResponse(stream(visit_id, visit), media_type="text/event-stream", headers=HEADERS)


@app.get("/visits/{visit_id}/model.glb")
async def model(visit_id: str) -> FileResponse:
    """Serve the model of a visit."""
    file = MODELS / f"{(await read(visit_id)).get('avatar_id')}.glb"
    if not await asyncio.to_thread(file.exists):
        raise HTTPException(404)
    return FileResponse(file, media_type="model/gltf-binary", filename="avatar.glb")


@app.get("/viewer.js")
async def viewer() -> FileResponse:
    """Serve the local copy of the viewer."""
    if LOCAL_VIEWER is None:
        raise HTTPException(404)
    return FileResponse(LOCAL_VIEWER, media_type="text/javascript")


async def read(visit_id: str) -> dict[str, str]:
    """Return what is known of a visit."""
    visit: dict[str, str] = await redis.hgetall(f"studio:visit:{visit_id}")
    if not visit:
        raise HTTPException(404, "this visit has expired")
    return visit


async def stream(visit_id: str, visit: dict[str, str]) -> AsyncIterator[str]:
    """Write states as server-sent events. If the stream ends before the last state, the page connects again."""
    yield "retry: 1000\n\n"
    try:
        async for state in states(visit_id, visit):
            yield f"data: {json.dumps(state)}\n\n"
    except AvaturnError as error:
        if not error.retryable or isinstance(error, TimeoutError):
            yield f"data: {json.dumps({'state': 'failed', 'message': str(error)})}\n\n"


async def states(visit_id: str, visit: dict[str, str]) -> AsyncIterator[dict[str, Any]]:
    """Await the avatar and its export, and say how far they are."""
    client: AvaturnClient = app.state.avaturn
    if (avatar_id := visit.get("avatar_id")) is None:
        yield {"state": "editor", "url": visit["url"]}
        avatar_id = await made_avatar(client, visit)
        await redis.hset(f"studio:visit:{visit_id}", "avatar_id", avatar_id)
    yield {"state": "export"}
    export = await client.exports.create_and_wait(avatar_id)
    file = MODELS / f"{avatar_id}.glb"
    if not await asyncio.to_thread(file.exists):
        await export.download(file, overwrite=True)
    report = await asyncio.to_thread(glb.inspect, file)
    facts = {
        "Body type": report.body_type,
        "Size": f"{report.size / 1e6:.1f} MB",
        "Triangles": f"{report.triangles:,}",
        "Textures": len(report.textures),
        "Joints": report.joints,
        "Expressions": f"{len(report.arkit.found)} of ARKit, {len(report.visemes.found)} visemes",
        "Export": f"{export.waited:.1f} s, resolved by {export.resolved_by}",
    }
    yield {"state": "ready", "model": f"/visits/{visit_id}/model.glb", "facts": facts}


async def made_avatar(client: AvaturnClient, visit: dict[str, str]) -> str:
    """Return the avatar that the visitor makes: from its webhook or, if that is lost, from a poll."""
    polled = asyncio.create_task(client.sessions.resume(visit["session"]).wait(timeout=EDITING))
    reported = asyncio.create_task(reported_avatar(visit["user_id"]))
    try:
        await asyncio.wait({polled, reported}, return_when=asyncio.FIRST_COMPLETED)
        if reported.done() and reported.exception() is None:
            return reported.result()
        return str((await polled).id)
    finally:
        polled.cancel()
        reported.cancel()


async def reported_avatar(user_id: str) -> str:
    """Return the avatar that a webhook reported, on whichever worker it arrived; wait for it if need be."""
    key = f"studio:made:{user_id}"
    while not (found := await redis.xread({key: "0"}, count=1, block=3000)):  # less than redis-py's timeout, 5 s
        pass
    [(_, [(_, fields)])] = found.items() if isinstance(found, dict) else found
    return str(fields["avatar_id"])
