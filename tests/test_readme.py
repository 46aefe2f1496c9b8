"""Every Python example of the README, run unchanged against the emulator, and twice in the same folder."""

from __future__ import annotations

import ast
import asyncio
import re
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import metadata
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import uvicorn
from aiohttp import web

from avaturn_async import AvaturnClient, ExternalAvatarCustomization, Photos
from avaturn_async.emulator import EmulatorThread
from avaturn_async.emulator.images import photo

from .webhooks.redis.server import Server

README = Path(__file__).parents[1] / "README.md"
SECRET = "a-path-secret-for-the-readme"
BLOCKS = dict(re.findall(r"<!-- example: (\w+) -->\n```python\n(.*?)```", README.read_text(), re.DOTALL))
COMMANDS = ['python -m pip install ".[cli]" && avaturn demo', "python -m pip install nox && nox"]


@pytest.fixture
def avaturn(avaturn_emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> EmulatorThread:
    """Run an emulator that the examples find by the environment, in a folder of its own with the photos in it."""
    monkeypatch.setenv("AVATURN_API_TOKEN", avaturn_emulator.token)
    monkeypatch.setenv("AVATURN_BASE_URL", avaturn_emulator.url)
    monkeypatch.setenv("AVATURN_WEBHOOK_SECRET", SECRET)
    monkeypatch.chdir(tmp_path)
    for name, view in (("frontal", "frontal"), ("left", "side-1"), ("right", "side-2")):
        (tmp_path / f"{name}.jpg").write_bytes(photo(seed=1, view=view))  # type: ignore[arg-type]
    return avaturn_emulator


@pytest.fixture
def avatar(avaturn: EmulatorThread) -> str:
    """Make an avatar that can be exported."""
    return asyncio.run(_new_avatar(avaturn))


async def _new_avatar(avaturn: EmulatorThread) -> str:
    async with AvaturnClient(avaturn.token, base_url=avaturn.url) as client:
        user = await client.users.create()
        photos = Photos("frontal.jpg", "left.jpg", "right.jpg", body_type="male")
        scan = await client.avatars.create_from_photos(user.id, photos, customization=ExternalAvatarCustomization())
        await asyncio.to_thread(avaturn.settled)
        return str((await scan).id)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Give a function that runs an example as a module, with command line arguments."""
    module = ModuleType("readme_example")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def run_it(name: str, *arguments: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        exec(compile(BLOCKS[name], f"README.md: {name}", "exec"), vars(module))
        return vars(module)

    return run_it


def test_every_example_is_run() -> None:
    """Each block of Python has a name, and a test of that name."""
    assert len(BLOCKS) == README.read_text().count("```python")
    tests = {name.removeprefix("test_the_").removesuffix("_example") for name in globals() if name.endswith("_example")}
    assert set(BLOCKS) == tests | {"testing", "testing_app"}


def test_the_two_commands() -> None:
    """They are the README's only commands of a shell, word for word."""
    assert COMMANDS == re.findall(r"```console\n(.*?)\n```", README.read_text(), re.DOTALL)


@pytest.mark.parametrize("name", BLOCKS)
def test_examples_are_in_our_own_style(name: str) -> None:
    """They fit the width of a page, and what they import they use."""
    assert max(map(len, BLOCKS[name].splitlines())) <= 120
    tree = ast.parse(BLOCKS[name])
    imported = {
        alias.asname or alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert set() == imported - {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def test_links_work_on_a_package_index() -> None:
    """A relative link leads nowhere on PyPI, so there is none; files that are named exist."""
    assert [] == re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text())
    named = re.findall(r"`([\w/]+\.(?:json|md))`", README.read_text())
    assert {"avaturn_async/emulator/openapi.json", "benchmarks/RESULTS.md"} == set(named)
    assert [] == [name for name in named if not (README.parent / name).exists()]


def test_the_extras_exist() -> None:
    """The table names all of them."""
    table = README.read_text().partition("| extra | for |")[2].partition("\n\n")[0]
    extras = set(re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines() if "`" in line)))
    assert set(metadata("avaturn-async").get_all("Provides-Extra") or ()) == extras


def test_the_export_example(run: Callable[..., Any], avatar: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The model is on disk, and the line says so."""
    run("export", avatar)
    run("export", avatar)
    content = Path("avatar.glb").read_bytes()
    assert b"glTF" == content[:4]
    assert [f"avatar.glb {len(content)}"] * 2 == capsys.readouterr().out.splitlines()


def test_the_photos_example(run: Callable[..., Any], avaturn: EmulatorThread) -> None:
    """From three files to a model."""
    for runs in (1, 2):
        run("photos")
        assert b"glTF" == Path("avatar.glb").read_bytes()[:4]
        assert runs == avaturn.counts["set_customization"]


def test_the_customize_example(run: Callable[..., Any], avatar: str, avaturn: EmulatorThread) -> None:
    """It is read once and written once more."""
    run("customize", avatar)
    assert (1, 2) == (avaturn.counts["get_customization"], avaturn.counts["set_customization"])


def test_the_resume_example(run: Callable[..., Any], avatar: str) -> None:
    """The second client resumes what the first one started, also for an avatar that was exported before."""
    run("resume", avatar)
    run("resume", avatar)
    assert b"glTF" == Path("avatar.glb").read_bytes()[:4]


def test_the_serve_example(
    run: Callable[..., Any], avatar: str, avaturn: EmulatorThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image comes by webhook."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("PORT", str(port))
    avaturn.webhook_url = f"http://127.0.0.1:{port}/avaturn/{SECRET}"
    run("serve", avatar)
    run("serve", avatar)
    assert b"\x89PNG" == Path("avatar.png").read_bytes()[:4]


def test_the_batch_example(
    run: Callable[..., Any], avatar: str, avaturn: EmulatorThread, capsys: pytest.CaptureFixture[str]
) -> None:
    """One avatar is exported, one that is not there is told, and a second run starts nothing anew for the first."""
    unknown = str(uuid4())
    Path("ids.txt").write_text(f"{avatar}\n{unknown}\n")
    run("batch")
    assert b"glTF" == Path("models", f"{avatar}.glb").read_bytes()[:4]
    asked = avaturn.counts["create_export"]
    Path("ids.txt").write_text(avatar)
    run("batch")
    assert asked == avaturn.counts["create_export"]
    out, err = capsys.readouterr()
    assert err.startswith(f"failed: {unknown} POST /api/v1/exports/new answered 404")
    assert "1 done, 1 failed, 0 pending" in out


def test_the_emulator_example(run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    """It needs nothing but itself."""
    run("emulator")
    assert "Counter({'create_user': " in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["auto", "strict"])
@pytest.mark.parametrize(("name", "tests"), [("testing", 2), ("testing_app", 1)])
def test_the_testing_examples(pytester: pytest.Pytester, name: str, tests: int, mode: str) -> None:
    """They are test modules that pass, in both modes of pytest-asyncio."""
    pytester.makepyfile(BLOCKS[name])
    options = ["-W", "error", "-o", f"asyncio_mode={mode}", "-o", "asyncio_default_fixture_loop_scope=function"]
    for _ in range(2):
        pytester.runpytest_inprocess(*options).assert_outcomes(passed=tests)


def test_the_save_example(run: Callable[..., Any], avatar: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The model is in the bucket, here a folder."""
    Path("bucket").mkdir()
    for _ in range(2):
        run("save", avatar, Path("bucket").absolute().as_uri())
    content = Path("bucket", "models", f"{avatar}.glb").read_bytes()
    assert b"glTF" == content[:4]
    assert [f"{avatar}.glb {len(content)}"] * 2 == capsys.readouterr().out.splitlines()


def test_the_aiohttp_example(run: Callable[..., Any], avatar: str, avaturn: EmulatorThread) -> None:
    """An export that is asked for over HTTP is resolved by a webhook that comes over HTTP."""
    app = run("aiohttp")["app"]
    asyncio.run(_ask_for_a_model(_aiohttp_server(app), avatar, avaturn))


def test_the_fastapi_example(
    run: Callable[..., Any], avatar: str, avaturn: EmulatorThread, capsys: pytest.CaptureFixture[str]
) -> None:
    """So it is here; and the callback is called for an avatar that nobody awaits."""
    app = run("fastapi")["app"]
    asyncio.run(_ask_for_a_model(_uvicorn_server(app), avatar, avaturn))
    assert "ready: " in capsys.readouterr().out


def test_the_workers_example(
    run: Callable[..., Any],
    avatar: str,
    avaturn: EmulatorThread,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """So it is with a mailbox in Redis, in which the event then stands."""
    with Server(tmp_path_factory.mktemp("redis")) as redis:
        monkeypatch.setenv("REDIS_URL", redis.url)
        app = run("workers")["app"]
        asyncio.run(_ask_for_a_model(_uvicorn_server(app), avatar, avaturn, missing=500))
        with redis.admin() as admin:
            assert admin.exists(f"avaturn:export:{avatar}")


async def _ask_for_a_model(serving: Any, avatar: str, avaturn: EmulatorThread, *, missing: int = 404) -> None:
    async with serving as url, aiohttp.ClientSession() as session:
        avaturn.webhook_url = f"{url}/avaturn/{SECRET}"
        for _ in range(2):
            async with session.post(f"{url}/models/{avatar}") as response:
                answer = await response.json()
                assert answer["url"].startswith(avaturn.url)
        async with session.post(f"{url}/models/{uuid4()}") as response:
            assert missing == response.status
        await _new_avatar(avaturn)
    assert answer["resolved_by"] in ("create", "webhook", "poll")
    assert {200} == {delivery.status for delivery in avaturn.deliveries if delivery.event["event"] == "export.ready"}


@asynccontextmanager
async def _aiohttp_server(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _uvicorn_server(app: Any) -> AsyncIterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=5))
    with listening, server.capture_signals():
        task = asyncio.create_task(server._serve([listening]))
        try:
            while not server.started and not task.done():
                await asyncio.sleep(0)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
