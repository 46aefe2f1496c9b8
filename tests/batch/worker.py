"""Run a batch with a journal, in a process that is going to be killed; print a line for each outcome."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from avaturn_async import AvaturnClient, PollPolicy


async def main(folder: Path) -> None:
    """Export what is listed in `folder`."""
    ids = (folder / "ids").read_text().split()
    async with (
        AvaturnClient(polling=PollPolicy(first=0.1, cap=0.3)) as client,
        client.exports.batch(
            ids, download_to=folder / "models", journal=folder / "journal.db", max_pending=16
        ) as batch,
    ):
        async for outcome in batch:
            print(outcome.avatar_id, outcome.error or "", flush=True)


try:
    asyncio.run(main(Path(sys.argv[1])))
finally:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the work has ended; what coverage does at exit is not interrupted
