"""The app in docs/examples/studio, with two workers and Redis, in headless Chromium."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from PIL import Image
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from avaturn_async.cli import view
from avaturn_async.emulator import Emulator, EmulatorThread, Faults, Timing

from ..npm import chromium, node_modules
from ..webhooks.redis.server import need_redis
from ..webhooks.stores import free_port
from .kit import DOCS, PAGES, SECRET

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

STUDIO = DOCS / "examples" / "studio"
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
FLAGS = ["--no-sandbox", "--disable-quic", "--no-first-run", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
FLAGS += ["--disable-gpu-watchdog"]  # which would end the WebGL context of a busy machine without a GPU
SECONDS = 1000.0  # of Playwright's milliseconds
PATIENCE = 60 * SECONDS
expect.set_options(timeout=PATIENCE)


class Studio:
    """A running studio: its url, and the process that started its workers."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self.process = process

    def kill_workers(self) -> None:
        """Kill both workers, as the kernel would."""
        killed = [
            each for each in psutil.Process(self.process.pid).children() if "spawn_main" in " ".join(each.cmdline())
        ]
        assert 2 == len(killed)
        for worker in killed:
            worker.kill()


@contextmanager
def studio(folder: Path, port: int, **environment: str) -> Iterator[Studio]:
    """Run the studio by its one command, until both workers are gone again."""
    need_redis("redis-server")
    cleared = {name: value for name, value in os.environ.items() if not name.startswith(("AVATURN_", "REDIS_"))}
    env = {**cleared, "STUDIO_PORT": str(port), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    with (folder / "studio.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(STUDIO / "run.py")], cwd=folder, env=env, stdout=log, stderr=log
        )
    try:
        running = Studio(port, process)
        while not answers(running.url):
            assert process.poll() is None, (folder / "studio.log").read_text()
            time.sleep(0.05)  # no event says that a server accepts connections
        yield running
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert "Traceback" not in (folder / "studio.log").read_text()


def answers(url: str) -> bool:
    """Say whether a server answers."""
    try:
        with urllib.request.urlopen(url):
            return True
    except urllib.error.URLError:
        return False


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Run Chromium without a window."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """Open a window that the viewer's host does not answer."""
    context = await browser.new_context(viewport=WIDE)  # type: ignore[arg-type]
    await context.route("https://**", lambda route: route.abort())
    yield context
    await context.close()


@pytest.fixture(scope="module")
def account() -> Iterator[EmulatorThread]:
    """Run an emulator for all tests of this module that need to control one."""
    with EmulatorThread(Emulator(models="small")) as avaturn:
        yield avaturn


@pytest.fixture(scope="module")
def connected(account: EmulatorThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """Run a studio that uses that emulator."""
    port = free_port()
    account.webhook_url = f"http://127.0.0.1:{port}/avaturn/{SECRET}"
    env = {"AVATURN_BASE_URL": account.url, "AVATURN_API_TOKEN": account.token, "AVATURN_WEBHOOK_SECRET": SECRET}
    with studio(tmp_path_factory.mktemp("studio"), port, **env) as running:
        yield running


@pytest.fixture
def avaturn(account: EmulatorThread) -> EmulatorThread:
    """Return the emulator, without faults, and with jobs that take some time."""
    account.faults, account.timing = Faults(), Timing(scan=0.2, export=1.5)
    return account


async def begin(context: BrowserContext, url: str) -> Page:
    """Begin a visit, and return its page once the editor's link is shown."""
    page = await context.new_page()
    await page.goto(url)
    await page.get_by_role("button", name="Make an avatar").click()
    await expect(page.get_by_role("link", name="Open the editor")).to_be_visible()
    return page


async def finish_editor(page: Page) -> None:
    """Open the editor in another tab, finish its session and close it."""
    async with page.expect_popup() as opened:
        await page.get_by_role("link", name="Open the editor").click()
    editor = await opened.value
    await editor.get_by_role("button", name="Finish the session").click()
    await expect(editor.get_by_text("The session is finished")).to_be_visible()
    await editor.close()


async def expect_model(page: Page) -> None:
    """Check that a page comes to show a model, its figures and a link to it."""
    await expect(page.locator("#visit > #status")).to_contain_text("Here is your model")
    await expect(page.get_by_role("row", name="Body type T2")).to_be_visible()
    response = await page.request.get(await page.get_by_role("link", name="Download").evaluate("link => link.href"))
    assert b"glTF" == (await response.body())[:4]


async def press_tab_until(page: Page, label: str) -> None:
    """Move the focus by keyboard to the element with this text or tag."""
    script = "[document.activeElement.textContent.trim(), document.activeElement.tagName.toLowerCase()]"
    for _ in range(15):
        await page.keyboard.press("Tab")
        if label in await page.evaluate(script):
            return
    pytest.fail(f"{label} can't be reached by keyboard")


async def test_visit_by_keyboard(context: BrowserContext, tmp_path: Path) -> None:
    """The one command without an account is enough; from the first page to the model, no mouse is needed."""
    with studio(tmp_path, free_port()) as running:
        page = await context.new_page()
        hosts: set[str] = set()
        context.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        await page.goto(running.url)
        await press_tab_until(page, "Make an avatar")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("link", name="Open the editor")).to_be_visible()
        assert {running.url.split("/")[2], "cdn.jsdelivr.net"} == hosts
        assert "cdn.jsdelivr.net" in PAGES["studio.md"]
        assert "python docs/examples/studio/run.py\n" in PAGES["studio.md"]
        await press_tab_until(page, "Open the editor")
        async with page.expect_popup() as opened:
            await page.keyboard.press("Enter")
        editor = await opened.value
        await press_tab_until(editor, "Finish the session")
        await editor.keyboard.press("Enter")
        await expect(editor.get_by_text("The session is finished")).to_be_visible()
        await editor.close()
        await expect_model(page)
        await press_tab_until(page, "Download the model")
        await begin(context, running.url)  # a page that is connected does not trouble the end of the studio


async def test_reload_second_visitor_and_killed_workers(
    context: BrowserContext, connected: Studio, avaturn: EmulatorThread
) -> None:
    """Pages that were reloaded, and whose workers were killed in the middle of an export, come to show a model."""
    first, second = await begin(context, connected.url), await begin(context, connected.url)
    assert first.url != second.url
    await first.reload()
    await finish_editor(first)
    await finish_editor(second)
    await expect(first.locator("#visit > #status")).to_contain_text("exported")
    connected.kill_workers()
    await second.reload()
    for page in (first, second):
        await expect_model(page)
    models = [await page.get_by_role("link", name="Download").get_attribute("href") for page in (first, second)]
    assert models[0] != models[1]
    await first.reload()
    await expect_model(first)


async def test_webhook_never_comes(context: BrowserContext, connected: Studio, avaturn: EmulatorThread) -> None:
    """The avatar and its export are found by polls."""
    avaturn.faults, sent = Faults(webhook_loss=1), len(avaturn.deliveries)
    page = await begin(context, connected.url)
    await finish_editor(page)
    await expect_model(page)
    await expect(page.get_by_role("row", name="resolved by poll")).to_be_visible()
    assert {None} == {delivery.status for delivery in avaturn.deliveries[sent:]}


async def test_failed_export(context: BrowserContext, connected: Studio, avaturn: EmulatorThread) -> None:
    """The page says that the export failed, and the visitor can start again."""
    page = await begin(context, connected.url)
    avaturn.timing = Timing(scan=3, export=0.1)
    await finish_editor(page)
    avaturn.faults = Faults(job_failures=1)
    await expect(page.locator("#visit > #status")).to_contain_text("failed")
    await page.get_by_role("link", name="Avatar studio").click()
    await expect(page.get_by_role("button", name="Make an avatar")).to_be_visible()


@pytest.mark.npm
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
async def test_model_is_rendered(
    browser: Browser, connected: Studio, avaturn: EmulatorThread, tmp_path: Path, viewport: dict[str, int]
) -> None:
    """The viewer's script passes the check of its hash, and draws the model in a wide and a narrow window."""
    script = node_modules("@google/model-viewer") / "@google/model-viewer/dist/model-viewer.min.js"
    context = await browser.new_context(viewport=viewport)  # type: ignore[arg-type]
    headers = {"Content-Type": "text/javascript", "Access-Control-Allow-Origin": "*"}
    await context.route(view.VIEWER, lambda route: route.fulfill(path=script, headers=headers))
    page = await begin(context, connected.url)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    await finish_editor(page)
    await expect_model(page)
    # A function, as the page's policy forbids the evaluation of a text again for each poll.
    visible = "() => document.querySelector('model-viewer').modelIsVisible"
    await page.wait_for_function(visible, timeout=100 * SECONDS)
    await expect(page.get_by_text("The viewer is loading")).to_be_hidden()
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    picture = tmp_path / f"studio-{viewport['width']}.png"
    await page.screenshot(path=picture, full_page=True, timeout=100 * SECONDS)
    await context.close()
    with Image.open(picture) as image:
        assert len(image.convert("RGB").getcolors(2**24) or ()) > 1000
    if folder := os.environ.get("AVATURN_SCREENSHOTS"):
        shutil.copy(picture, folder)
    assert [] == problems


def test_viewer_is_that_of_the_command_line() -> None:
    """Both load the same version, by the same hash."""
    source = (STUDIO / "app.py").read_text()
    assert f'VIEWER = "{view.VIEWER}"' in source
    assert f'INTEGRITY = "{view.INTEGRITY}"' in source
