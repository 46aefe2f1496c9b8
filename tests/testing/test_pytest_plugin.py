"""The pytest plugin, in test suites of its own."""

from __future__ import annotations

import pytest

STORY = """
    user = await avaturn_client.users.create()
    photos = Photos(PHOTO, PHOTO, PHOTO, body_type="male")
    outfit = ExternalAvatarCustomization()
    avatar = await (await avaturn_client.avatars.create_from_photos(user.id, photos, customization=outfit))
    model = await avaturn_client.exports.create_and_wait(avatar.id)
    assert model.url.startswith(avaturn_emulator.url)
"""
HEAD = """
import asyncio
import pytest
from avaturn_async import ExternalAvatarCustomization, JobFailedError, Photos, WebhooksRequiredError
from avaturn_async.emulator import Faults, Timing

PHOTO = b"\\xff\\xd8\\xff\\xda" + bytes(100) + b"\\xff\\xd9"
"""
INI = """
[pytest]
filterwarnings = error
asyncio_mode = {mode}
asyncio_default_fixture_loop_scope = {fixtures}
asyncio_default_test_loop_scope = {tests}
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """Prepare an empty suite in which every warning is an error."""
    pytester.makeini(INI.format(mode="auto", fixtures="function", tests="function"))
    return pytester


@pytest.mark.parametrize("mode", ["auto", "strict"])
@pytest.mark.parametrize("tests", ["function", "module", "session"])
@pytest.mark.parametrize("fixtures", ["function", "session"])
def test_a_client_and_its_avaturn(pytester: pytest.Pytester, mode: str, tests: str, fixtures: str) -> None:
    """The fixtures work in both modes of pytest-asyncio, whatever loops it keeps, and leave nothing behind."""
    pytester.makeini(INI.format(mode=mode, fixtures=fixtures, tests=tests))
    mark = "" if mode == "auto" else "@pytest.mark.asyncio\n"
    story = f"{mark}async def test_{{}}(avaturn_client, avaturn_emulator):{STORY}\n"
    pytester.makepyfile(HEAD + story.format("one") + story.format("two"))
    pytester.runpytest_inprocess().assert_outcomes(passed=2)


@pytest.mark.parametrize("scope", ["function", "class", "module", "package", "session"])
def test_the_client_lives_on_the_loop_of_the_test(suite: pytest.Pytester, scope: str) -> None:
    """A marker's loop scope is followed; a wait that a test forgot is ended there."""
    suite.makepyfile(f"""{HEAD}
class TestApp:
    @pytest.mark.asyncio(loop_scope={scope!r})
    @pytest.mark.avaturn(timing=Timing(export=3600))
    @pytest.mark.parametrize("_", range(2))
    async def test_it(self, _, avaturn_client):
        user = await avaturn_client.users.create()
        waiting = asyncio.ensure_future(avaturn_client.avatars.pending(user.id, "0" * 32).wait())
        await asyncio.sleep(0)
        assert not waiting.done()
""")
    suite.runpytest_inprocess().assert_outcomes(passed=2)


def test_sync_tests_have_an_avaturn_too(suite: pytest.Pytester) -> None:
    """It runs in a thread of its own, and is another one for each test."""
    suite.makepyfile("""
import json
import urllib.request

seen = set()

def test_sync(avaturn_emulator):
    request = urllib.request.Request(
        avaturn_emulator.url + "/api/v1/users/new",
        method="POST",
        headers={"Authorization": "Bearer " + avaturn_emulator.token},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert "id" in json.load(answer)
    assert 1 == avaturn_emulator.counts["create_user"]

test_once_more = test_sync
""")
    suite.runpytest_inprocess().assert_outcomes(passed=2)


def test_markers_say_how_avaturn_is(suite: pytest.Pytester) -> None:
    """The closest one wins, option by option."""
    suite.makepyfile(f"""{HEAD}
pytestmark = pytest.mark.avaturn(seed=5, token="of-the-module", timing=Timing(scan=1))

@pytest.mark.avaturn(token="of-the-test", faults=Faults(job_failures=1))
async def test_marked(avaturn_emulator, avaturn_client):
    assert ("of-the-test", Timing(scan=1), Faults(job_failures=1)) == (
        avaturn_emulator.token, avaturn_emulator.timing, avaturn_emulator.faults)
""")
    suite.runpytest_inprocess().assert_outcomes(passed=1)


def test_jobs_take_no_time_unless_told_to(suite: pytest.Pytester) -> None:
    """Nothing goes wrong either."""
    suite.makepyfile(f"""{HEAD}
def test_plain(avaturn_emulator):
    assert (Timing(scan=0, export=0, render=0), Faults()) == (avaturn_emulator.timing, avaturn_emulator.faults)
""")
    suite.runpytest_inprocess().assert_outcomes(passed=1)


@pytest.mark.parametrize("by_option", [True, False])
def test_defaults_for_a_whole_run(suite: pytest.Pytester, by_option: bool) -> None:
    """They come from the command line or the settings; the header says them, so that a run can be repeated."""
    given = {"seed": "7", "timing": "export=0.5, scan=1", "faults": "webhook_loss=0.3,retry_after_date=true"}
    if not by_option:
        lines = [f"avaturn_{name} = {text}" for name, text in given.items()]
        suite.makeini(INI.format(mode="auto", fixtures="function", tests="function") + "\n".join(lines))
    suite.makepyfile(f"""{HEAD}
from avaturn_async.emulator import Emulator

def test_defaults(avaturn_emulator):
    assert Timing(scan=1, export=0.5, render=0) == avaturn_emulator.timing
    assert Faults(webhook_loss=0.3, retry_after_date=True) == avaturn_emulator.faults
    assert Emulator(seed=7).token == avaturn_emulator.token

@pytest.mark.avaturn(seed=8)
def test_marked(avaturn_emulator):
    assert Emulator(seed=8).token == avaturn_emulator.token
""")
    options = [f"--avaturn-{name}={text}" for name, text in given.items()] if by_option else []
    result = suite.runpytest_inprocess(*options)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["avaturn: seed=7, timing=export=0.5, scan=1, faults=webhook_loss=0.3,*"])


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--avaturn-seed=x", "ERROR: --avaturn-seed=x: it must be a whole number"),
        ("--avaturn-timing=scan", "ERROR: --avaturn-timing=scan: it must be NAME=NUMBER,..."),
        ("--avaturn-timing=scan=soon", "ERROR: --avaturn-timing=scan=soon: it must be NAME=NUMBER,..."),
        ("--avaturn-timing=scan=null", "ERROR: --avaturn-timing=scan=null: scan must be a number of seconds, not None"),
        ("--avaturn-faults=luck=1", "ERROR: --avaturn-faults=luck=1: there is no 'luck', but *webhook_loss, *"),
        ("--avaturn-faults=slow=-1", "ERROR: --avaturn-faults=slow=-1: slow must be a number of seconds from 0 *"),
    ],
)
def test_defaults_that_make_no_sense(suite: pytest.Pytester, option: str, said: str) -> None:
    """One line says which, without a traceback."""
    suite.makepyfile("def test_it(avaturn_emulator): pass")
    result = suite.runpytest_inprocess(option)
    assert result.ret != 0
    text = result.outlines + result.errlines
    pytest.LineMatcher(text).fnmatch_lines([said])
    assert not [line for line in text if "Traceback" in line or "INTERNALERROR" in line]


def test_markers_take_keywords_alone(suite: pytest.Pytester) -> None:
    """A positional argument would be lost in silence."""
    suite.makepyfile(f"""{HEAD}
@pytest.mark.avaturn(5)
def test_it(avaturn_emulator):
    pass
""")
    result = suite.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*@pytest.mark.avaturn takes keyword arguments alone, not 5*"])


def test_options_of_the_client_are_a_fixture_to_override(suite: pytest.Pytester) -> None:
    """An app's own conftest says what its client is like."""
    suite.makepyfile(f"""{HEAD}
@pytest.fixture
def avaturn_client_options():
    return {{"wait_timeout": 0}}

@pytest.mark.avaturn(timing=Timing(scan=3600))
async def test_it(avaturn_client):
    user = await avaturn_client.users.create()
    avatar = await avaturn_client.avatars.create(user.id)
    with pytest.raises(TimeoutError):
        await avaturn_client.avatars.pending(user.id, avatar.avatar_id)
""")
    suite.runpytest_inprocess().assert_outcomes(passed=1)


NEEDED = '*avaturn_client needs pytest-asyncio 0.24 or newer: pip install "avaturn-async?testing?"*'


@pytest.mark.slow
def test_without_pytest_asyncio(pytester: pytest.Pytester) -> None:
    """Sync tests have their Avaturn; the client says what it needs."""
    pytester.makepyfile("""
def test_sync(avaturn_emulator):
    assert avaturn_emulator.url.startswith("http://127.0.0.1:")

def test_async(avaturn_client):
    pass
""")
    result = pytester.runpytest_subprocess("-p", "no:asyncio")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([NEEDED])


@pytest.mark.slow
def test_with_a_pytest_asyncio_of_old(pytester: pytest.Pytester) -> None:
    """Before 0.24 its fixtures take no loop_scope: all tests run but those that request the client."""
    pytester.makepyfile(
        pytest_asyncio="""
import pytest

def fixture(**options):
    return pytest.fixture(**options)
""",
        test_app="""
def test_of_an_app_without_avaturn():
    pass

def test_async(avaturn_client):
    pass
""",
    )
    pytester.syspathinsert()
    result = pytester.runpytest_subprocess("-p", "no:asyncio", "-p", "pytest_asyncio")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([NEEDED])


def test_it_costs_nothing_when_it_is_not_used(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the emulator nor the client nor what they stand on is loaded."""
    suite.makepyfile("""
import sys

HEAVY = {"aiohttp", "attrs", "cattrs", "tenacity", "yarl", "PIL", "avaturn_async.client", "avaturn_async.emulator"}

def test_it():
    assert set() == HEAVY & set(sys.modules)
    ours = {name for name in sys.modules if name.startswith("avaturn_async")}
    plugin = {"testing", "testing.pytest_plugin", "_version"}
    assert {"avaturn_async", *(f"avaturn_async.{name}" for name in plugin)} == ours
""")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    plugins = ["-p", "pytest_asyncio.plugin", "-p", "avaturn_async.testing.pytest_plugin"]
    suite.runpytest_subprocess(*plugins).assert_outcomes(passed=1)


def test_markers_and_fixtures_are_documented(suite: pytest.Pytester) -> None:
    """``pytest --markers`` and ``pytest --fixtures`` tell of them."""
    suite.runpytest_inprocess("--markers").stdout.fnmatch_lines(["@pytest.mark.avaturn(*timing, faults, seed,*"])
    listed = suite.runpytest_inprocess("--fixtures")
    listed.stdout.fnmatch_lines_random(["avaturn_emulator -- *", "avaturn_client -- *", "avaturn_client_options -- *"])
