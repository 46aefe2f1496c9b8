"""A redis-server for one test, which can be killed, paused and restarted."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from redis import Redis
from redis.exceptions import ConnectionError as NoServer

from ..stores import free_port, need

#: What makes clients of the tests' own read no files on the event loop.
QUIET: dict[str, Any] = {"driver_info": None} if redis.VERSION >= (8,) else {}


def need_redis(program: str) -> str:
    """Return the path of a program of Redis."""
    return need(program, "AVATURN_REQUIRE_REDIS")


class Server:
    """A redis-server without persistence."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [need_redis("redis-server"), "--port", str(self.port), "--save", "", "--appendonly", "no"]
        self._command += ["--bind", "127.0.0.1", "--dir", str(folder), *options]
        self._log = folder / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **login: Any) -> None:
        """Start it, empty, and return when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        with self.admin(**login) as admin:
            while True:
                try:
                    admin.ping()
                    return
                except NoServer:
                    assert self._process.poll() is None, self._log.read_text()
                    assert time.monotonic() < deadline, self._log.read_text()
                    time.sleep(0.01)  # no event says that a server accepts connections

    def kill(self) -> None:
        """Kill it, as the kernel would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop it in the middle: its sockets stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def restart(self) -> None:
        """Start it again, off the loop."""
        await asyncio.to_thread(self.start)

    def admin(self, **login: Any) -> Redis:
        """Open a synchronous connection for the test itself."""
        return Redis(port=self.port, decode_responses=True, **login)

    def subscribers(self) -> list[str]:
        """Return the ids of the connections that subscribed."""
        with self.admin() as admin:
            return [str(each["id"]) for each in admin.client_list(_type="pubsub")]

    def disconnect_listeners(self) -> int:
        """Close every connection that subscribed, and return how many there were."""
        with self.admin() as admin:
            return int(admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub"))

    def connections(self) -> int:
        """Return how many clients are connected, besides this one."""
        with self.admin() as admin:
            return len(admin.client_list()) - 1

    def calls(self, command: str) -> int:
        """Return how often a command was called."""
        with self.admin() as admin:
            return int(admin.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()


class SentinelServer(Server):
    """A Sentinel with a quorum of one."""

    NAME = "ours"

    def __init__(self, folder: Path, master: Server) -> None:
        super().__init__(folder)
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {folder}"]
        lines += [f"sentinel monitor {self.NAME} 127.0.0.1 {master.port} 1"]
        # A Sentinel pings and reconnects once a second: with less, it takes a new master for dead before it asked it.
        lines += [f"sentinel down-after-milliseconds {self.NAME} 1500", f"sentinel failover-timeout {self.NAME} 5000"]
        config = folder / "sentinel.conf"
        config.write_text("\n".join(lines))
        self._command = [need_redis("redis-server"), str(config), "--sentinel"]
