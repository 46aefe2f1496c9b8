"""A Postgres and a PgBouncer for tests, which can be killed, paused and restarted."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from ..stores import free_port, need

BIN = "usr/lib/postgresql/*/bin"
#: Postgres and PgBouncer refuse to run as root; the packages bring this user.
USER: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def need_postgres(program: str) -> str:
    """Return the path of a program of Postgres."""
    return need(program, "AVATURN_REQUIRE_POSTGRES", folder=BIN)


def _is_dead(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


class Daemon:
    """A process with a temporary folder that it may write to."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="avaturn-"))
        if USER:
            shutil.chown(self.folder, USER["user"], USER["group"])
        self._process: subprocess.Popen[bytes] | None = None

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **USER)

    def _spawn(self, *command: str) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **USER)
        deadline = time.monotonic() + 60
        while subprocess.run(
            [need_postgres("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
        ).returncode:
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.01)  # no event says that a server accepts connections

    def kill(self) -> None:
        """Kill all of its processes, as the kernel would, and return when they are gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)  # so that it has no further children
            processes = self._signal_all(signal.SIGKILL)
            self._process.wait()
            while not all(map(_is_dead, processes)):  # Postgres does not start while a child has its shared memory
                time.sleep(0.001)
            self._process = None

    def _signal_all(self, number: signal.Signals) -> list[psutil.Process]:
        assert self._process is not None
        process = psutil.Process(self._process.pid)
        processes = [*process.children(recursive=True), process]
        for each in processes:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(number)
        return processes

    def pause(self) -> None:
        """Stop it in the middle: its sockets stay open and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder)


class Server(Daemon):
    """A Postgres without fsync: its data survives its own crash, not that of the machine."""

    def __init__(self) -> None:
        initdb = need_postgres("initdb")
        super().__init__()
        self._run(initdb, "-D", "data", "--no-sync", "-A", "trust", "-E", "UTF8", "--locale", "C", "-U", "postgres")

    def dsn(self, user: str = "postgres", password: str = "") -> str:
        """Return the url of its database."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and return when it answers."""
        options = ["listen_addresses=127.0.0.1", f"port={self.port}", f"unix_socket_directories={self.folder}"]
        options += ["fsync=off", "shared_buffers=16MB", "max_connections=60", "autovacuum=off"]
        self._spawn(need_postgres("postgres"), "-D", "data", *(f"--{each}" for each in options))

    def start_if_killed(self) -> None:
        """Start it again if a test left it dead."""
        if self._process is None:
            self.start()

    async def restart(self) -> None:
        """Start it again, off the loop."""
        await asyncio.to_thread(self.start)

    def sql(self, statement: str, **variables: str) -> list[str]:
        """Run SQL over a connection of its own; ``:'name'`` stands for a variable. Return lines of values."""
        command = [need_postgres("psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-XAqt"]
        for name, value in variables.items():
            command += ["-v", f"{name}={value}"]
        done = subprocess.run(
            [*command, "-v", "ON_ERROR_STOP=1"],
            input=statement,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PGOPTIONS": "-c client_min_messages=warning"},
        )
        assert (0, "") == (done.returncode, done.stderr)
        return done.stdout.splitlines()

    def connections(self) -> int:
        """Return how many clients are connected, besides this one."""
        return int(self.sql("SELECT count(*) - 1 FROM pg_stat_activity WHERE backend_type = 'client backend'")[0])

    def disconnect_listeners(self) -> int:
        """Terminate the backends of all clients: Postgres does not tell which of them listen."""
        return len(
            self.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        )

    def __enter__(self) -> Self:
        self.start()
        return self


class PgBouncer(Daemon):
    """A PgBouncer in transaction mode in front of a server."""

    def __init__(self, server: Server, mode: str = "transaction") -> None:
        self._program = need("pgbouncer", "AVATURN_REQUIRE_POSTGRES", folder="usr/sbin")
        super().__init__()
        lines = ["[databases]", f"* = host=127.0.0.1 port={server.port}", "[pgbouncer]"]
        lines += ["listen_addr = 127.0.0.1", f"listen_port = {self.port}", f"unix_socket_dir = {self.folder}"]
        lines += ["auth_type = any", f"pool_mode = {mode}", "default_pool_size = 3"]
        (self.folder / "pgbouncer.ini").write_text("\n".join(lines).replace("* = host", "* = user=postgres host"))
        self.dsn = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Self:
        self._spawn(self._program, "pgbouncer.ini")
        return self
