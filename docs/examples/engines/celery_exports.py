"""Export avatars with Celery: sync tasks, of which none waits for an export.

A task requests the export of an avatar. If it is ready it saves the model in a bucket; otherwise it just ends. The
webhook of the finished export enqueues the task again. Exports that are not saved yet are in a sorted set in Redis,
with the time of the last try: `sweep` enqueues those again whose webhook was lost or whose worker died.

Start a Redis (``apt install redis-server``), the webhook endpoint, one beat, and any number of workers::

    pip install "avaturn-async[obstore,redis]" celery
    export REDIS_URL=redis://localhost MODELS_URL=s3://models AVATURN_API_TOKEN=... WEBHOOK_SECRET=...
    python celery_exports.py webhooks                                 # or your web app, with the same receiver
    celery -A celery_exports beat
    celery -A celery_exports worker --concurrency=8
    python celery_exports.py enqueue 7f1c... 0b52...

If a worker dies, the tasks that it ran are gone, as Celery acknowledges a task when it starts. After OVERDUE_SECONDS
the sweep enqueues their avatars again. OVERDUE_SECONDS should be longer than an export takes, and than tasks wait in
the queue: otherwise avatars are tried in vain, at one request each.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from functools import cache

from celery import Celery
from celery.signals import worker_process_shutdown
from celery.utils.log import get_task_logger
from obstore.store import from_url
from redis import Redis

from avaturn_async import AvaturnClient, AvaturnError, ExportReadyWebhook, ObjectStoreSink, WebhookReceiver

REDIS = os.environ["REDIS_URL"]
OVERDUE_SECONDS = float(os.environ.get("OVERDUE_SECONDS", "600"))
UNSAVED = "avaturn-exports-unsaved"

logger = get_task_logger(__name__)
database = Redis.from_url(REDIS, decode_responses=True)
app = Celery("celery_exports", broker=REDIS)
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=1,  # a worker that dies keeps few tasks from the others
    broker_connection_retry_on_startup=True,
    beat_schedule={"sweep": {"task": "sweep", "schedule": OVERDUE_SECONDS / 4}},
)


@cache
def runner() -> asyncio.Runner:
    """Return the event loop of this worker process."""
    return asyncio.Runner()


@cache
def client() -> AvaturnClient:
    """Return the client of this worker process, which is used on its loop alone."""
    return AvaturnClient()


@cache
def sink() -> ObjectStoreSink:
    """Return the bucket; credentials come from the environment."""
    return ObjectStoreSink(from_url(os.environ["MODELS_URL"]))


@worker_process_shutdown.connect
def close(**_: object) -> None:
    """Close the client."""
    runner().run(client().aclose())
    runner().close()


async def save_if_ready(avatar_id: str) -> bool:
    """Request an export, and save the model if it is ready."""
    pending = await client().exports.create(avatar_id)
    if pending.done():
        await pending.result().save(sink())
    return pending.done()


@app.task(name="export")
def export(avatar_id: str) -> None:
    """Save the model of an avatar if its export is ready; the first call starts the export."""
    if not database.zadd(UNSAVED, {avatar_id: time.time()}, xx=True, ch=True):
        return  # saved already, or an avatar of somebody else: webhooks come for the whole project
    try:
        if runner().run(save_if_ready(avatar_id)):
            database.zrem(UNSAVED, avatar_id)
    except AvaturnError as error:
        logger.warning("%s: %s", avatar_id, error)
        if not error.retryable:
            database.zrem(UNSAVED, avatar_id)


@app.task(name="sweep")
def sweep() -> None:
    """Enqueue the exports again that are overdue."""
    now = time.time()
    for avatar_id in database.zrange(UNSAVED, 0, now - OVERDUE_SECONDS, byscore=True):
        database.zadd(UNSAVED, {avatar_id: now})
        export.delay(avatar_id)


def enqueue(avatar_ids: list[str]) -> None:
    """Enqueue exports."""
    for avatar_id in avatar_ids:
        database.zadd(UNSAVED, {avatar_id: time.time()})
        export.delay(avatar_id)


async def receive_webhooks() -> None:
    """Enqueue the save of each export that is ready."""
    receiver = WebhookReceiver(os.environ["WEBHOOK_SECRET"])

    @receiver.on("export.ready")
    async def on_ready(event: ExportReadyWebhook) -> None:
        await asyncio.to_thread(export.delay, str(event.avatar_id))

    async with receiver, receiver.serve(port=int(os.environ.get("PORT", "8080"))):
        await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "webhooks":
        asyncio.run(receive_webhooks())
    else:
        enqueue(sys.argv[2:])
