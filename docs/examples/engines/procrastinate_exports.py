"""Export avatars with Procrastinate: a queue in your Postgres, with async tasks.

A job exports one avatar and saves its model in a bucket. A worker awaits many jobs at once. Webhooks reach the
awaiting worker through the same Postgres.

Start a Postgres (``apt install postgresql``), the webhook endpoint, and any number of workers on any machines::

    pip install "avaturn-async[obstore,postgres]" procrastinate
    export DATABASE_URL=postgresql://localhost/shop MODELS_URL=s3://models AVATURN_API_TOKEN=... WEBHOOK_SECRET=...
    procrastinate --app=procrastinate_exports.app schema --apply      # once
    python procrastinate_exports.py webhooks                          # or your web app, with the same receiver
    procrastinate --app=procrastinate_exports.app worker --concurrency=256
    python procrastinate_exports.py enqueue 7f1c... 0b52...           # or `await export.defer_async(avatar_id=...)`

If a worker dies, its jobs stay in the state "doing". Procrastinate does not restart them by itself: the periodic task
below retries those whose worker has sent no heartbeat for STALLED_AFTER seconds. A model whose save was interrupted is
saved again; the sink shows nothing of an unfinished save.
"""

from __future__ import annotations

import asyncio
import os
import sys
from functools import cache

from obstore.store import from_url
from procrastinate import App, BaseRetryStrategy, PsycopgConnector, RetryDecision
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import Job

from avaturn_async import AvaturnClient, AvaturnError, ObjectStoreSink, PostgresMailbox, WebhookReceiver

DATABASE = os.environ["DATABASE_URL"]
STALLED_AFTER = float(os.environ.get("STALLED_AFTER", "30"))
STALLED_CRON = os.environ.get("STALLED_CRON", "* * * * *")  # each minute; a sixth field is seconds

app = App(
    connector=PsycopgConnector(conninfo=DATABASE),
    import_paths=["procrastinate_exports"],
    worker_defaults={"update_heartbeat_interval": STALLED_AFTER / 3, "stalled_worker_timeout": STALLED_AFTER},
)


class RetryTransient(BaseRetryStrategy):
    """Retry errors that may pass, up to five times."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Decide by `AvaturnError.retryable`."""
        if isinstance(exception, AvaturnError) and exception.retryable and job.attempts < 5:
            return RetryDecision(retry_in={"seconds": 5 * (job.attempts + 1)})
        return None


@cache
def client() -> AvaturnClient:
    """Return the client of this worker."""
    return AvaturnClient(webhooks=PostgresMailbox(DATABASE))


@cache
def sink() -> ObjectStoreSink:
    """Return the bucket; credentials come from the environment."""
    return ObjectStoreSink(from_url(os.environ["MODELS_URL"]))


@app.task(name="export", retry=RetryTransient())
async def export(avatar_id: str) -> None:
    """Export an avatar and save its model."""
    model = await client().exports.create_and_wait(avatar_id)
    await model.save(sink())


@app.periodic(cron=STALLED_CRON)
@app.task(name="retry_stalled", queueing_lock="retry_stalled", pass_context=True)
async def retry_stalled(context: object, timestamp: int) -> None:
    """Retry the jobs of workers that died."""
    for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_AFTER):
        await app.job_manager.retry_job(job)


async def enqueue(avatar_ids: list[str]) -> None:
    """Enqueue exports; an avatar that waits in the queue already is not enqueued again."""
    async with app.open_async():
        for avatar_id in avatar_ids:
            try:
                await export.configure(queueing_lock=avatar_id).defer_async(avatar_id=avatar_id)
            except AlreadyEnqueued:
                print(avatar_id, "is in the queue already")


async def receive_webhooks() -> None:
    """Put events into the mailbox in which the workers await them."""
    receiver = WebhookReceiver(os.environ["WEBHOOK_SECRET"], mailbox=PostgresMailbox(DATABASE))
    async with receiver, receiver.serve(port=int(os.environ.get("PORT", "8080"))):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(receive_webhooks() if sys.argv[1] == "webhooks" else enqueue(sys.argv[2:]))
