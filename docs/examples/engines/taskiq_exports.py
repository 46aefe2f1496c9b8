"""Export avatars with taskiq on Redis streams: async tasks, acknowledged once they are done.

A task exports one avatar and saves its model in a bucket. A worker awaits many tasks at once. Webhooks reach the
awaiting worker through the same Redis.

Start a Redis (``apt install redis-server``), the webhook endpoint, and any number of workers on any machines::

    pip install "avaturn-async[obstore,redis]" taskiq taskiq-redis
    export REDIS_URL=redis://localhost MODELS_URL=s3://models AVATURN_API_TOKEN=... WEBHOOK_SECRET=...
    python taskiq_exports.py webhooks                                 # or your web app, with the same receiver
    taskiq worker --workers=1 --max-async-tasks=256 taskiq_exports:broker
    python taskiq_exports.py enqueue 7f1c... 0b52...                  # or `await export.kiq(avatar_id)`

If a worker dies, its messages stay unacknowledged. Another worker claims a message once it is IDLE_SECONDS old, so that
must be longer than the longest wait, or exports that are under way are started a second time. taskiq-redis looks for
such messages only after it has received a new one; on a quiet stream nothing would be claimed. Hence every worker sends
a message that does nothing, three times in IDLE_SECONDS.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from obstore.store import from_url
from taskiq import SmartRetryMiddleware, TaskiqEvents, TaskiqState
from taskiq_redis import RedisStreamBroker

from avaturn_async import AvaturnClient, AvaturnError, ObjectStoreSink, RedisMailbox, WebhookReceiver

REDIS = os.environ["REDIS_URL"]
IDLE_SECONDS = float(os.environ.get("IDLE_SECONDS", "1200"))
LONGEST_WAIT = IDLE_SECONDS * 0.75

logger = logging.getLogger(__name__)


class TryAgain(Exception):  # noqa: N818 - it is a request
    """Raised for an error that may pass."""


broker = RedisStreamBroker(
    REDIS,
    consumer_id="0",  # also read what was enqueued before the first worker started
    idle_timeout=int(IDLE_SECONDS * 1000),
    unacknowledged_lock_timeout=IDLE_SECONDS,
    xread_count=16,  # a message's idle time begins when it is fetched: fetch few
).with_middlewares(
    SmartRetryMiddleware(default_retry_count=5, default_retry_label=True, types_of_exceptions=[TryAgain])
)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def start(state: TaskiqState) -> None:
    """Open what the tasks of this worker share."""
    state.client = AvaturnClient(webhooks=RedisMailbox(REDIS), wait_timeout=LONGEST_WAIT)
    state.sink = ObjectStoreSink(from_url(os.environ["MODELS_URL"]))
    state.ticking = asyncio.create_task(tick())


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def stop(state: TaskiqState) -> None:
    """Close the client."""
    state.ticking.cancel()
    await state.client.aclose()


@broker.task
async def export(avatar_id: str) -> None:
    """Export an avatar and save its model."""
    try:
        model = await broker.state.client.exports.create_and_wait(avatar_id)
        await model.save(broker.state.sink)
    except AvaturnError as error:
        if error.retryable:
            raise TryAgain(str(error)) from error
        logger.error("%s failed for good: %s", avatar_id, error)  # noqa: TRY400 - a message says it all


@broker.task
async def nothing() -> None:
    """Make the broker look for messages that a dead worker left."""


async def tick() -> None:
    """Send a message that does nothing, again and again."""
    while True:
        await asyncio.sleep(IDLE_SECONDS / 3)
        await nothing.kiq()


async def enqueue(avatar_ids: list[str]) -> None:
    """Enqueue exports."""
    await broker.startup()
    for avatar_id in avatar_ids:
        await export.kiq(avatar_id)
    await broker.shutdown()


async def receive_webhooks() -> None:
    """Put events into the mailbox in which the workers await them."""
    receiver = WebhookReceiver(os.environ["WEBHOOK_SECRET"], mailbox=RedisMailbox(REDIS))
    async with receiver, receiver.serve(port=int(os.environ.get("PORT", "8080"))):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(receive_webhooks() if sys.argv[1] == "webhooks" else enqueue(sys.argv[2:]))
