"""Every example of the pages, run unchanged against the emulator, and twice in the same folder."""

from __future__ import annotations

import ast
import asyncio
import gc
import json
import logging
import re
import shlex
import socket
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import uvicorn
from aiohttp import web
from django.conf import settings
from typer.testing import CliRunner
from werkzeug.serving import make_server
from yarl import URL

from avaturn_async import AvaturnClient
from avaturn_async.cli import app as command_line
from avaturn_async.emulator import EmulatorThread
from avaturn_async.emulator.glb.model import build_glb

from ..servers import listening, running
from ..webhooks.redis.server import Server
from .kit import EXAMPLES, PHOTO_FILES, SECRET

Run = Callable[..., dict[str, Any]]
#: Examples that are test modules, with the number of their tests.
TEST_MODULES = {"testing": 2, "testing_app": 1, "mailbox": 25}
#: Examples that `test_first_hour` runs.
FIRST_HOUR = {"emulator_command", "first", "app", "test_app"}


def test_every_example_is_run() -> None:
    """Each example has a test of its name."""
    tests = {name.removeprefix("test_the_").removesuffix("_example") for name in globals() if name.endswith("_example")}
    assert set(EXAMPLES) == tests | set(TEST_MODULES) | FIRST_HOUR | {"litestar", "starlette"}


@pytest.mark.parametrize("name", sorted(name for name in EXAMPLES if not name.endswith(("command", "commands"))))
def test_examples_are_in_our_own_style(name: str) -> None:
    """Lines fit the width of a page, and an example uses what it imports."""
    assert max(map(len, EXAMPLES[name].splitlines())) <= 120
    tree = ast.parse(EXAMPLES[name])
    imported = {
        alias.asname or alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert set() == imported - {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


# Scripts.


def test_the_excerpt_example(avatar: str) -> None:
    """It downloads a model; code around it is left out."""
    code = compile(EXAMPLES["excerpt"], "excerpt", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    Path("avatar.glb").unlink(missing_ok=True)
    asyncio.run(eval(code, {"AvaturnClient": AvaturnClient, "avatar_id": avatar}))
    assert is_model("avatar.glb")


def test_the_export_example(run: Run, avatar: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The model is on disk, and its name and size are printed."""
    run("export", avatar)
    run("export", avatar)
    assert is_model("avatar.glb")
    assert [f"avatar.glb {Path('avatar.glb').stat().st_size}"] * 2 == capsys.readouterr().out.splitlines()


def test_the_resume_example(run: Run, avatar: str) -> None:
    """The second client resumes what the first one started, also for an avatar that was exported before."""
    run("resume", avatar)
    run("resume", avatar)
    assert is_model("avatar.glb")


def test_the_photos_example(run: Run, avaturn: EmulatorThread) -> None:
    """Three files become a model."""
    for runs in (1, 2):
        run("photos")
        assert is_model("avatar.glb")
        assert runs == avaturn.counts["set_customization"]


def test_the_customize_example(run: Run, avatar: str, avaturn: EmulatorThread) -> None:
    """It reads the customization and writes it back."""
    for runs in (1, 2):
        run("customize", avatar)
        assert (runs, runs + 1) == (avaturn.counts["get_customization"], avaturn.counts["set_customization"])


def test_the_session_example(run: Run, avaturn: EmulatorThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """The avatar that a user makes in the editor is exported."""
    opened: list[threading.Thread] = []

    def open_link(*words: str, flush: bool) -> None:
        opened.append(threading.Thread(target=finish_session, args=(avaturn, words[1], len(avaturn.requests))))
        opened[-1].start()

    for _ in range(2):
        monkeypatch.setattr("builtins.print", open_link)
        run("session")
        opened[-1].join()
        assert is_model("avatar.glb")


def finish_session(avaturn: EmulatorThread, link: str, seen: int) -> None:
    """Do what a user does in the editor, once the wait has read which avatars the user has."""

    async def finish() -> None:
        async with aiohttp.ClientSession() as session:
            while "list_user_avatars" not in (record.operation for record in tuple(avaturn.requests)[seen:]):
                async with session.get(link) as response:
                    await response.read()
            async with session.post(link) as response:
                assert 200 == response.status

    asyncio.run(finish())


def test_the_serve_example(
    run: Run, avatar: str, avaturn: EmulatorThread, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    """A webhook brings the image."""
    monkeypatch.setenv("PORT", str(unused_tcp_port))
    avaturn.webhook_url = f"http://127.0.0.1:{unused_tcp_port}/avaturn/{SECRET}"
    run("serve", avatar)
    run("serve", avatar)
    assert b"\x89PNG" == Path("avatar.png").read_bytes()[:4]


def test_the_batch_example(run: Run, avatar: str, avaturn: EmulatorThread, capsys: pytest.CaptureFixture[str]) -> None:
    """One avatar is exported, an unknown one fails, and a second run starts nothing anew for the first."""
    unknown = str(uuid4())
    Path("ids.txt").write_text(f"{avatar}\n{unknown}\n")
    run("batch")
    assert is_model(f"models/{avatar}.glb")
    requests = avaturn.counts["create_export"]
    Path("ids.txt").write_text(avatar)
    run("batch")
    assert requests == avaturn.counts["create_export"]
    out, err = capsys.readouterr()
    assert err.startswith(f"failed: {unknown} POST /api/v1/exports/new answered 404")
    assert "1 done, 1 failed, 0 pending" in out


def test_the_report_example(run: Run, avatar: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The table has a line for each avatar, in the order of the ids."""
    Path("ids.txt").write_text(f"{uuid4()} {avatar}")
    for _ in range(2):
        run("report")
        out, err = capsys.readouterr()
        assert ["avatar_id", "False", "True"] == [line.split(",")[i] for i, line in enumerate_columns(out)]
        assert "1 succeeded 1 failed\n" == err


def enumerate_columns(table: str) -> list[tuple[int, str]]:
    """Return the lines of a table: the first with the column of its id, the others with that of their success."""
    return list(zip([0, 1, 1], table.splitlines(), strict=True))


def test_the_save_example(run: Run, avatar: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The model is in the bucket, here a folder."""
    Path("bucket").mkdir()
    for _ in range(2):
        run("save", avatar, Path("bucket").absolute().as_uri())
    file = Path("bucket", "models", f"{avatar}.glb")
    assert is_model(file)
    assert [f"{avatar}.glb {file.stat().st_size}"] * 2 == capsys.readouterr().out.splitlines()


def test_the_sink_example(run: Run, avatar: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The model is in a table."""
    for _ in range(2):
        database = run("sink", avatar)["sqlite3"].connect("models.db")
        [(name, content)] = database.execute("SELECT name, content FROM models").fetchall()
        database.close()
        assert (f"{avatar}.glb", b"glTF") == (name, content[:4])
        assert f"name='{avatar}.glb', size={len(content)}" in capsys.readouterr().out


def test_the_glb_example(run: Run, avatar: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A model is checked against a budget: that of the emulator keeps it, a T1 does not."""
    run("export", avatar)
    capsys.readouterr()
    for _ in range(2):
        run("glb")
        assert "" == capsys.readouterr().out
    Path("avatar.glb").write_bytes(build_glb(seed=1, body="T1", models="small"))
    run("glb")
    assert 2 == len(capsys.readouterr().out.splitlines())


def test_the_errors_example(run: Run, avatar: str, avaturn: EmulatorThread, capsys: pytest.CaptureFixture[str]) -> None:
    """Each end of a wait is told apart."""
    for _ in range(2):
        run("errors", avatar)
        run("errors", str(uuid4()))
        first, second = capsys.readouterr().out.splitlines()
        assert first.startswith(avaturn.url)
        assert "there is no such avatar" == second


def test_the_configuration_example(run: Run, avaturn: EmulatorThread, capsys: pytest.CaptureFixture[str]) -> None:
    """The options are accepted."""
    run("configuration")
    run("configuration")
    assert ["[]", "[]"] == capsys.readouterr().out.splitlines()


def test_the_emulator_example(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """It needs nothing but itself."""
    run("emulator")
    run("emulator")
    assert 2 == capsys.readouterr().out.count("Counter({'create_user': ")


def test_the_logging_example(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The logger of the package gets its level."""
    logger = logging.getLogger("avaturn_async")
    monkeypatch.setattr(logging, "basicConfig", lambda level: None)
    before = logger.level
    try:
        run("logging")
        run("logging")
        assert logging.INFO == logger.level
    finally:
        logger.setLevel(before)


def test_the_observer_example(run: Run, avatar: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints how the wait ended."""
    run("observer", avatar)
    run("observer", avatar)
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"export of avatar {avatar}: resolved by (poll|create) after \d polls", first)
    assert f"export of avatar {avatar}: resolved by create after 0 polls" == second


def test_the_otel_example(run: Run, avaturn: EmulatorThread) -> None:
    """The client and the receiver are made."""
    run("otel")
    assert run("otel")["client"].base_url == avaturn.url


def test_the_sentry_example(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It masks the path secret, and nothing else."""
    options: dict[str, Any] = {}
    monkeypatch.setattr("sentry_sdk.init", options.update)
    run("sentry")
    run("sentry")
    for edit in (options["before_send"], options["before_send_transaction"]):
        path = "https://a.example/x/avaturn/"
        masked = edit({"request": {"url": f"{path}secret", "data": {}}, "transaction": f"{path}secret"}, {})
        assert {"request": {"url": f"{path}***"}, "transaction": f"{path}***"} == masked
        for other in ({}, {"request": {"url": "https://a.example/other"}}):
            assert other == edit(other, {})


# Test modules.


@pytest.mark.parametrize("mode", ["auto", "strict"])
@pytest.mark.parametrize("name", sorted(TEST_MODULES))
def test_examples_that_are_tests(pytester: pytest.Pytester, name: str, mode: str) -> None:
    """They pass, in both modes of pytest-asyncio."""
    pytester.makepyfile(EXAMPLES[name])
    options = ["-W", "error", "-o", f"asyncio_mode={mode}", "-o", "asyncio_default_fixture_loop_scope=function"]
    for _ in range(2):
        pytester.runpytest_inprocess(*options).assert_outcomes(passed=TEST_MODULES[name])


def test_the_faults_command_example(pytester: pytest.Pytester) -> None:
    """The options of the command line reach the emulator, and a suite passes under faults."""
    pytester.makepyfile(EXAMPLES["testing_app"] + "    assert avaturn_emulator.faults.webhook_loss == 0.3\n")
    python, *command = shlex.split(EXAMPLES["faults_command"])
    assert ["python", "-m", "pytest"] == [python, *command[:2]]
    options = ["-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"]
    for _ in range(2):
        pytester.runpytest_inprocess(*command[2:], *options).assert_outcomes(passed=1)


# Command lines.


def run_commands(name: str, **words: str) -> list[str]:
    """Run each line of an example, with words replaced, and return what it prints."""
    output = []
    for line in EXAMPLES[name].splitlines():
        command, *arguments = (words.get(word, word) for word in shlex.split(line))
        assert "avaturn" == command
        result = CliRunner().invoke(command_line, arguments)
        assert 0 == result.exit_code, result.output
        output.append(result.output)
    return output


def test_the_batch_command_example(avatar: str) -> None:
    """A second run of the same command goes on from the journal of the first."""
    Path("ids.txt").write_text(avatar)
    for _ in range(2):
        run_commands("batch_command")
        assert is_model(f"models/{avatar}.glb")


def test_the_cli_commands_example(avatar: str) -> None:
    """Users and avatars are listed, and a model is exported."""
    user = CliRunner().invoke(command_line, ["users", "create"]).stdout.strip()
    for _ in range(2):
        *_, session, checks = run_commands("cli_commands", AVATAR=avatar, USER=user)
        assert "url" in json.loads(session)
        assert " ok " in checks
        assert is_model("avatar.glb")
        assert is_model(f"models/{avatar}.glb")


def test_the_trigger_command_example(run: Run, avaturn: EmulatorThread) -> None:
    """The event reaches a callback of an app."""
    with wsgi_server(run("flask")["app"]) as url:
        words = EXAMPLES["trigger_command"].split()
        receiver = {words[-1]: f"{url}/avaturn/{SECRET}"}
        for _ in range(2):
            [printed] = run_commands("trigger_command", **receiver)
            assert "ready: " in printed  # by the callback, as the app runs in this process


# Apps.


def test_the_handle_example(run: Run, avaturn: EmulatorThread, capsys: pytest.CaptureFixture[str]) -> None:
    """An event with a name that the contract does not have is accepted."""
    run("handle")
    run("handle")
    assert ["(202, b'unknown event')"] * 2 == capsys.readouterr().out.splitlines()


def test_the_lambda_example(run: Run, avaturn: EmulatorThread, capsys: pytest.CaptureFixture[str]) -> None:
    """An event of a function url is answered, and its callback has run by then."""
    body = f'{{"event": "avatar.ready", "avatar_id": "{uuid4()}", "user_id": "ann"}}'
    request = {"method": "POST", "path": f"/avaturn/{SECRET}"}
    event = {"version": "2.0", "rawPath": request["path"], "requestContext": {"http": request}, "body": body}
    for _ in range(2):
        assert 200 == run("lambda")["handler"](event, None)["statusCode"]
        assert capsys.readouterr().out.startswith("ready: ")


@contextmanager
def wsgi_server(app: Any) -> Iterator[str]:
    """Serve a WSGI app from threads, and give its url."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_flask_example(
    run: Run, avaturn: EmulatorThread, new_avatar: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Webhooks reach the receiver beside the app."""
    with wsgi_server(run("flask")["app"]) as url:
        avaturn.webhook_url = f"{url}/avaturn/{SECRET}"
        made = {new_avatar(), new_avatar()}
    printed = capsys.readouterr().out.splitlines()
    assert {f"ready: {each}" for each in made} <= set(printed)


def test_the_django_example(run: Run, avaturn: EmulatorThread, new_avatar: Callable[[], str]) -> None:
    """It does the same beside a project."""
    if not settings.configured:  # by another test of this process
        settings.configure(ROOT_URLCONF="tests.webhooks.test_wsgi", ALLOWED_HOSTS=["*"], SECRET_KEY="x")
    for _ in range(2):
        with wsgi_server(run("django")["application"]) as url:
            avaturn.webhook_url = f"{url}/avaturn/{SECRET}"
            new_avatar()
    assert {200} == {delivery.status for delivery in avaturn.deliveries}


@pytest.mark.parametrize("name", ["starlette", "litestar"])
def test_mounted_receivers(run: Run, avaturn: EmulatorThread, new_avatar: Callable[[], str], name: str) -> None:
    """A webhook reaches the receiver in other ASGI frameworks."""

    async def receive() -> None:
        async with uvicorn_server(run(name)["app"]) as url:
            avaturn.webhook_url = f"{url}/avaturn/{SECRET}"
            await asyncio.to_thread(new_avatar)

    for _ in range(2):
        asyncio.run(receive())
    assert {200} == {delivery.status for delivery in avaturn.deliveries}


def test_the_aiohttp_example(run: Run, avatar: str, new_avatar: Callable[[], str], avaturn: EmulatorThread) -> None:
    """An export that is requested over HTTP is resolved by a webhook that comes over HTTP."""
    app = run("aiohttp")["app"]
    asyncio.run(request_a_model(running(web.AppRunner(app)), avatar, new_avatar, avaturn))


def test_the_fastapi_example(
    run: Run,
    avatar: str,
    new_avatar: Callable[[], str],
    avaturn: EmulatorThread,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It does the same, and its callback is called for an avatar that nobody awaits."""
    app = run("fastapi")["app"]
    asyncio.run(request_a_model(uvicorn_server(app), avatar, new_avatar, avaturn))
    assert "ready: " in capsys.readouterr().out


def test_the_workers_example(
    run: Run,
    avatar: str,
    new_avatar: Callable[[], str],
    avaturn: EmulatorThread,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """It does the same with a mailbox in Redis, where the event is then stored."""
    with Server(tmp_path_factory.mktemp("redis")) as redis:
        monkeypatch.setenv("REDIS_URL", redis.url)
        app = run("workers")["app"]
        asyncio.run(request_a_model(uvicorn_server(app), avatar, new_avatar, avaturn, missing=500))
        with redis.admin() as admin:
            assert admin.exists(f"avaturn:export:{avatar}")


async def request_a_model(
    serving: Any, avatar: str, new_avatar: Callable[[], str], avaturn: EmulatorThread, *, missing: int = 404
) -> None:
    """Request a model twice, and that of an unknown avatar; then have a webhook sent that nobody awaits."""
    async with serving as url, aiohttp.ClientSession() as session:
        avaturn.webhook_url = f"{url}/avaturn/{SECRET}"
        for _ in range(2):
            async with session.post(f"{url}/models/{avatar}") as response:
                answer = await response.json()
                assert answer["url"].startswith(avaturn.url)
        async with session.post(f"{url}/models/{uuid4()}") as response:
            assert missing == response.status
        await asyncio.to_thread(new_avatar)
    assert answer["resolved_by"] in ("create", "webhook", "poll")
    assert {200} == {delivery.status for delivery in avaturn.deliveries if delivery.event["event"] == "export.ready"}


@asynccontextmanager
async def uvicorn_server(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI app, and give its url."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=5))
    with listening:
        task = asyncio.create_task(server.serve([listening]))
        try:
            while not server.started and not task.done():
                await asyncio.sleep(0)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


def is_model(path: str | Path) -> bool:
    """Say whether a file is a GLB model."""
    return Path(path).read_bytes()[:4] == b"glTF"


# A web app that uploads photos.


def photo_form(size: int) -> tuple[bytes, bytes]:
    """Return the request of a browser that sends three photos of a size, and the end of it."""
    photo = b"\xff\xd8\xff\xda" + bytes(size - 6) + b"\xff\xd9"
    head = 'Content-Disposition: form-data; name="{0}"; filename="{0}.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    parts = [b"--x\r\n" + head.format(name).encode() + photo + b"\r\n" for name in ("frontal", "left", "right")]
    body = b"".join(parts) + b"--x--\r\n"
    lines = ["POST /users/u/avatars HTTP/1.1", "Host: app", f"Content-Length: {len(body)}"]
    lines += ["Content-Type: multipart/form-data; boundary=x", "", ""]
    return "\r\n".join(lines).encode(), body


class Provider:
    """An API with one avatar, whose photos are read slowly."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.received = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"POST /photos"):
                await self.take(reader)
            else:
                text = json.dumps({"avatar_id": str(uuid4()), "upload_url": f"{self.url}/photos"})
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
                await reader.read()
        writer.transport.abort()

    async def take(self, reader: asyncio.StreamReader) -> None:
        """Read the form to the end of the connection."""
        try:
            while piece := await reader.read(2**16):
                self.received += len(piece)
                await asyncio.sleep(0.02)
        finally:
            self.ended.set()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[str]:
        """Listen; yield the url."""
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        async with listening(await asyncio.start_server(self.talk, sock=listener)) as self.url:
            yield self.url


@pytest.mark.slow
async def test_closing_the_tab_ends_an_upload(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider's connection ends long before it has all photos, and their memory is free again."""
    provider = Provider()
    monkeypatch.setenv("AVATURN_API_TOKEN", "token")
    async with provider.run() as url:
        monkeypatch.setenv("AVATURN_BASE_URL", url)
        async with uvicorn_server(run("upload_page")["app"]) as app:
            head, body = photo_form(12_000_000)
            tracemalloc.start()
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", URL(app).port)
                writer.write(head)
                for start in range(0, len(body), 2**20):
                    writer.write(body[start : start + 2**20])
                    await writer.drain()
                await reader.readuntil(b" of 36")  # progress
                writer.transport.abort()
                await provider.ended.wait()
                del reader, writer
                gc.collect()
                assert tracemalloc.get_traced_memory()[0] < 6_000_000
            finally:
                tracemalloc.stop()
    assert provider.received < 30_000_000


async def test_the_upload_page_example(run: Run, avaturn: EmulatorThread) -> None:
    """Photos become an avatar, and the browser sees how far they are."""
    form = aiohttp.FormData()
    for field, file in zip(("frontal", "left", "right"), PHOTO_FILES, strict=True):
        form.add_field(field, Path(file).read_bytes(), filename=file)
    async with AvaturnClient() as client:
        user = await client.users.create()
    async with uvicorn_server(run("upload_page")["app"]) as url, aiohttp.ClientSession() as session:
        async with session.post(f"{url}/users/{user.id}/avatars", data=form) as response:
            *progress, uploaded, made = (await response.text()).splitlines()
    assert all(re.fullmatch(r"\d+ of \d+ bytes", line) for line in progress)
    assert "processing" == uploaded
    assert re.fullmatch(r"avatar [0-9a-f-]{36}", made)


async def test_the_upload_page_says_what_failed(run: Run, avaturn: EmulatorThread) -> None:
    """A file that is no photo ends the answer with the reason."""
    form = aiohttp.FormData()
    for field in ("frontal", "left", "right"):
        form.add_field(field, b"no photo", filename="notes.txt")
    async with AvaturnClient() as client:
        user = await client.users.create()
    async with uvicorn_server(run("upload_page")["app"]) as url, aiohttp.ClientSession() as session:
        async with session.post(f"{url}/users/{user.id}/avatars", data=form) as response:
            last = (await response.text()).splitlines()[-1]
    assert last.startswith("failed: Photos.frontal ")
    assert "is not a JPEG" in last
