"""A process of an app, for tests: it receives webhooks, or waits for exports and renders."""

from __future__ import annotations

import asyncio
import json
import sys

from avaturn_async import AvaturnClient, PollPolicy, RedisMailbox, WebhookReceiver

POLLING = PollPolicy(first=2, factor=1.5, cap=5, first_with_webhooks=5)
NEVER = PollPolicy(first=3600, cap=3600, first_with_webhooks=3600)


async def read_line(reader: asyncio.StreamReader) -> bytes:
    """Return the next line of the parent's input, or nothing at its end."""
    return (await reader.readline()).strip()


async def stdin() -> asyncio.StreamReader:
    """Open the input from the parent process."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def say(*words: object) -> None:
    """Write a line to the parent process."""
    print(*words, flush=True)


async def receive(mailbox: RedisMailbox, secret: str) -> None:
    """Serve webhooks until the parent closes the input."""
    async with WebhookReceiver(secret, mailbox=mailbox) as receiver, receiver.serve() as server:
        say(server.url)
        await read_line(await stdin())


async def wait(mailbox: RedisMailbox, base_url: str, api_token: str, polls: str = "polls") -> None:
    """Wait for the job of each token or avatar id in the input, and write how it ended."""
    polling = POLLING if polls == "polls" else NEVER
    async with AvaturnClient(api_token, base_url=base_url, webhooks=mailbox, polling=polling) as client:

        async def one(number: int, kind: str, token: str) -> None:
            if kind == "create":
                model = await client.exports.create_and_wait(token)
            else:
                model = await getattr(client, kind).resume(token).wait()
            say(number, model.resolved_by, model.url.count(str(model.avatar_id)))

        reader, waits = await stdin(), set()
        while line := await read_line(reader):
            waits.add(asyncio.create_task(one(*json.loads(line))))
        for left in waits:
            left.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def main(role: str, redis: str, *arguments: str) -> None:
    """Run as a receiver or as a waiter."""
    mailbox = RedisMailbox(redis)
    await {"receive": receive, "wait": wait}[role](mailbox, *arguments)  # type: ignore[operator]
    await mailbox.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
