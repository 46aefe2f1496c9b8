"""Run the studio with two workers, and what they need: ``python run.py``.

Without AVATURN_API_TOKEN it runs an emulator of Avaturn, and without REDIS_URL a Redis (``apt install redis-server``),
which end with the studio. STUDIO_HOST and STUDIO_PORT say where it listens, STUDIO_MODELS where models are kept, and
STUDIO_VIEWER names a local copy of model-viewer.min.js.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import uvicorn

from avaturn_async.emulator import Emulator, EmulatorThread, Timing


@contextmanager
def redis() -> Iterator[str]:
    """Run a Redis without persistence, at a socket in a folder of its own, and give its url."""
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("the studio needs a Redis: install redis-server, or set REDIS_URL")
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder, "redis.sock")
        command = [program, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", folder]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - a fixed command
        try:
            yield f"unix://{socket}"
        finally:
            server.terminate()
            server.wait()


def main() -> None:
    """Run everything until Ctrl-C."""
    host, port = os.environ.get("STUDIO_HOST", "127.0.0.1"), int(os.environ.get("STUDIO_PORT", "8000"))
    secret = os.environ.setdefault("AVATURN_WEBHOOK_SECRET", secrets.token_urlsafe(16))
    with ExitStack() as stack:
        if "REDIS_URL" not in os.environ:
            os.environ["REDIS_URL"] = stack.enter_context(redis())
        if "AVATURN_API_TOKEN" not in os.environ:
            webhook_url = f"http://127.0.0.1:{port}/avaturn/{secret}"
            emulator = Emulator(webhook_url=webhook_url, timing=Timing(scan=2, export=4))
            avaturn = stack.enter_context(EmulatorThread(emulator))
            os.environ |= {"AVATURN_BASE_URL": avaturn.url, "AVATURN_API_TOKEN": avaturn.token}
        print(f"The studio is at http://{host}:{port}/ until Ctrl-C.", flush=True)
        uvicorn.run(
            "app:app",
            app_dir=str(Path(__file__).parent),
            host=host,
            port=port,
            workers=2,
            log_level="warning",
            timeout_graceful_shutdown=2,  # pages that are connected would keep a worker for ever
        )


if __name__ == "__main__":
    main()
