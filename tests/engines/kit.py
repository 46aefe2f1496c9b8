"""Runs the example of an engine: its server, its processes, avatars to export, and a bucket for the models."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Self

import attrs
import obstore

from avaturn_async.emulator import Emulator, Faults, Timing
from tests.batch.kit import Recorder, avatars, exported, is_model
from tests.chaos.kit import SEED
from tests.downloads.kit import S3
from tests.webhooks.postgres.server import Server as Postgres
from tests.webhooks.redis.server import Server as Redis
from tests.webhooks.stores import free_port

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples" / "engines"
SECRET = "a-webhook-secret-of-the-tests"
BIN = Path(sys.executable).parent


@contextmanager
def postgres(folder: Path) -> Iterator[dict[str, str]]:
    """Run a Postgres."""
    with Postgres() as server:
        yield {"DATABASE_URL": server.dsn()}


@contextmanager
def redis(folder: Path) -> Iterator[dict[str, str]]:
    """Run a Redis."""
    with Redis(folder) as server:
        yield {"REDIS_URL": server.url}


@contextmanager
def temporal(folder: Path) -> Iterator[dict[str, str]]:
    """Run Temporal's development server."""
    port = free_port()
    command = [BIN / "temporal", "server", "start-dev", "--headless", "--port", str(port), "--log-level", "error"]
    with (folder / "temporal.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        await_port(port, process)
        yield {"TEMPORAL_ADDRESS": f"127.0.0.1:{port}"}
    finally:
        process.kill()
        process.wait()


def await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when `process` accepts connections at `port`."""
    deadline = time.monotonic() + 60
    while True:
        with closing(socket.socket()) as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        assert process.poll() is None, f"{process.args} ended"
        assert time.monotonic() < deadline, f"{process.args} does not listen"
        time.sleep(0.05)  # no event says that it listens


@attrs.frozen(kw_only=True)
class Engine:
    """The example of an engine.

    Attributes:
        name: the name of its file.
        server: runs its server and gives the environment variables that name it.
        worker: the command of a worker, after ``python``.
        others: the commands of processes of which there is one.
        setup: a command to run once.
        settings: environment variables; the time after which work of a dead worker is taken up is ``{recovery}``.
    """

    name: str
    server: Callable[[Path], AbstractContextManager[dict[str, str]]]
    worker: str
    webhooks: bool = True
    others: tuple[str, ...] = ()
    setup: str | None = None
    settings: dict[str, str] = attrs.field(factory=dict)


ENGINES = [
    Engine(
        name="postgres_rows",
        server=postgres,
        worker="postgres_rows.py worker",
        webhooks=False,
        settings={"LEASE_SECONDS": "{recovery}"},
    ),
    Engine(
        name="procrastinate_exports",
        server=postgres,
        worker="-m procrastinate --app=procrastinate_exports.app worker --concurrency=64",
        setup="-m procrastinate --app=procrastinate_exports.app schema --apply",
        settings={"STALLED_AFTER": "{recovery}", "STALLED_CRON": "* * * * * */2"},
    ),
    Engine(
        name="taskiq_exports",
        server=redis,
        worker="-m taskiq worker --workers=1 --max-async-tasks=64 taskiq_exports:broker",
        settings={"IDLE_SECONDS": "{recovery}"},
    ),
    Engine(
        name="celery_exports",
        server=redis,
        worker="-m celery -A celery_exports worker --concurrency=2 --without-mingle --without-gossip",
        others=("-m celery -A celery_exports beat --schedule {folder}/beat",),
        settings={"OVERDUE_SECONDS": "{recovery}"},
    ),
    Engine(
        name="temporal_exports",
        server=temporal,
        worker="temporal_exports.py worker",
        settings={"SAVE_SECONDS": "{recovery}", "FALLBACK_SECONDS": "{recovery}"},
    ),
]


@attrs.frozen
class Result:
    """What a run did.

    Attributes:
        seconds: from the first worker's start to the last model.
        saved: the models in the bucket that are whole.
        posts: requests to exports/new, per export.
        duplicates: saves beyond one for each model.
        kills: workers killed.
    """

    seconds: float
    saved: int
    posts: float
    duplicates: int
    kills: int


class Processes:
    """Processes of an example, each in a session of its own, so that one can be killed with its children."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, command: str) -> subprocess.Popen[bytes]:
        """Start a command of Python."""
        words = command.format(folder=self._folder).split()
        with (self._folder / f"{len(list(self._folder.iterdir()))}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *words],
                cwd=EXAMPLES,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill it and its children, as if its machine were gone."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._running.remove(process)

    def run(self, command: str) -> None:
        """Run a command to its end."""
        process = self.start(command)
        assert 0 == process.wait(120), self.logs()
        self._running.remove(process)

    def logs(self) -> str:
        """Return the end of all that was printed."""
        return "\n".join(f"{path.name}: {path.read_text()[-3000:]}" for path in sorted(self._folder.glob("*.log")))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in list(self._running):
            self.kill(process)


async def run_engine(
    engine: Engine, folder: Path, *, count: int, workers: int, kills: Callable[[float, int], int], recovery: float
) -> Result:
    """Export `count` avatars with `workers` workers while the API fails and workers are killed and replaced.

    `kills` returns how many kills there should have been by now, given the seconds and the number of saves so far.
    """
    print(f"seed {SEED}")
    with ExitStack() as stack:
        s3 = stack.enter_context(S3())
        store = s3.store()
        timing = Timing(scan=0, export=3 if count > 500 else 0.5, jitter=2 if count > 500 else 0.5)
        async with avatars(count, seed=SEED, timing=timing) as (avaturn, _, ids):
            environment = stack.enter_context(engine.server(folder))
            port = free_port()
            environment |= {name: value.format(recovery=recovery) for name, value in engine.settings.items()}
            environment |= bucket(s3) | api(avaturn) | {"WEBHOOK_SECRET": SECRET, "PORT": str(port)}
            processes = stack.enter_context(Processes(folder, os.environ | environment))
            run = Run(engine, processes, avaturn, s3)
            await asyncio.to_thread(run.start, port, ids)
            seconds, killed = await run.finish(count, workers, kills)
            saved = sum(is_model(bytes(obstore.get(store, f"{each}.glb").bytes())) for each in ids)
            return Result(
                seconds=seconds,
                saved=saved,
                posts=len(exported(run.recorder.requests)) / count,
                duplicates=len(run.saves()) - count,
                kills=killed,
            )


def bucket(s3: S3) -> dict[str, str]:
    """Return the environment variables by which obstore finds the bucket."""
    return {
        "MODELS_URL": "s3://bucket",
        "AWS_ENDPOINT_URL": s3.url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }


def api(avaturn: Emulator) -> dict[str, str]:
    """Return the environment variables by which clients find the API."""
    return {"AVATURN_BASE_URL": avaturn.url, "AVATURN_API_TOKEN": avaturn.token, "PYTHONPATH": str(ROOT)}


class Run:
    """A run of an engine."""

    def __init__(self, engine: Engine, processes: Processes, avaturn: Emulator, s3: S3) -> None:
        self.recorder = Recorder(avaturn)
        self._engine = engine
        self._processes = processes
        self._avaturn = avaturn
        self._s3 = s3
        self._random = random.Random(SEED)

    def start(self, port: int, ids: list[object]) -> None:
        """Start all but the workers, and enqueue the exports."""
        if self._engine.setup is not None:
            self._processes.run(self._engine.setup)
        if self._engine.webhooks:
            await_port(port, self._processes.start(f"{self._engine.name}.py webhooks"))
            self._avaturn.webhook_url = f"http://127.0.0.1:{port}/avaturn/{SECRET}"
        for command in self._engine.others:
            self._processes.start(command)
        self._processes.run(f"{self._engine.name}.py enqueue {' '.join(map(str, ids))}")
        self._avaturn.faults = Faults(server_errors=0.05)

    async def finish(self, count: int, workers: int, kills: Callable[[float, int], int]) -> tuple[float, int]:
        """Run and kill workers until all models are saved; return the seconds and the number of kills."""
        running = [self._processes.start(self._engine.worker) for _ in range(workers)]
        began, killed = time.monotonic(), 0
        while (done := len(set(self.saves()))) < count:
            assert self.recorder.requests is not None  # drains the emulator's log
            assert time.monotonic() - began < 300, f"{done} of {count} saved\n{self._processes.logs()}"
            if killed < kills(time.monotonic() - began, done):
                victim = self._random.randrange(workers)
                self._processes.kill(running[victim])
                running[victim] = self._processes.start(self._engine.worker)
                killed += 1
            await asyncio.sleep(0.05)
        return time.monotonic() - began, killed

    def saves(self) -> list[str]:
        """Return the name of each model that was put into the bucket, once for each time."""
        return [key for method, key, _ in list(self._s3.requests) if method == "PUT" and key.endswith(".glb")]
