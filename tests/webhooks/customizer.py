"""A process that resumes a scan with a customization, for tests: several of them do so at the same time."""

from __future__ import annotations

import asyncio
import sys

from avaturn_async import AvaturnClient, PollPolicy, PostgresMailbox, RedisMailbox

POLLING = PollPolicy(first=0.1, factor=1, cap=0.1, first_with_webhooks=0.1)


async def main(kind: str, url: str, base_url: str, api_token: str, resume_token: str) -> None:
    """Wait for a line, and then for the scan."""
    mailbox = RedisMailbox(url) if kind == "redis" else PostgresMailbox(url)
    async with AvaturnClient(api_token, base_url=base_url, webhooks=mailbox, polling=POLLING) as client:
        scan = client.avatars.resume(resume_token)
        print("there", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await scan
        print("done", flush=True)
    await mailbox.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
