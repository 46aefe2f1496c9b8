"""The contract of mailboxes, run as users run it: on a good mailbox in both modes, and on faulty ones."""

from __future__ import annotations

import pytest

INI = """
[pytest]
filterwarnings = error
asyncio_mode = {mode}
asyncio_default_fixture_loop_scope = function
"""
GOOD = """
import pytest_asyncio
from avaturn_async import MemoryMailbox
from avaturn_async.testing.mailbox_contract import MailboxContract, SharedMailboxContract

class TestOwn(MailboxContract):
    @pytest_asyncio.fixture
    async def mailbox(self):
        mailbox = MemoryMailbox()
        yield mailbox
        await mailbox.aclose()
"""
FAULTY = """
import asyncio
import attrs
import pytest
from avaturn_async import MemoryMailbox
from avaturn_async.testing.mailbox_contract import MailboxContract

class Faulty(MemoryMailbox):
    {fault}

class TestFaulty(MailboxContract):
    timeout = 0.1

    @pytest.fixture
    def mailbox(self):
        return Faulty()
"""
FAULTS = {
    "believes-anybody": (
        """
    async def deliver(self, event, *, authenticated=True):
        await super().deliver(event, authenticated=True)
""",
        "test_authenticated_replaces_unauthenticated",
    ),
    "keeps-one-id": (
        """
    async def position(self, key):
        return "1" if await super().position(key) else ""

    def wait(self, key, after):
        async def waiting():
            return attrs.evolve(await MemoryMailbox.wait(self, key, ""), id="1")
        return waiting()
""",
        "test_delivery_gets_a_fresh_id",
    ),
    "wakes-too-early": (
        """
    def wait(self, key, after):
        return super().wait(key, "")
""",
        "test_delivery_gets_a_fresh_id",
    ),
    "loses-unknown-fields": (
        """
    async def deliver(self, event, *, authenticated=True):
        await super().deliver(attrs.evolve(event, extra={}), authenticated=authenticated)
""",
        "test_events_survive_unchanged",
    ),
    "never-wakes": (
        """
    def wait(self, key, after):
        async def waiting():
            if await self.position(key) in ("", after):
                await asyncio.Event().wait()
            return await MemoryMailbox.wait(self, key, after)
        return waiting()
""",
        "test_later_delivery_wakes_all_waiters",
    ),
    "never-closes": (
        """
    async def aclose(self):
        pass
""",
        "test_closing_ends_waits",
    ),
}


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_good_mailbox_passes(pytester: pytest.Pytester, mode: str) -> None:
    """In both modes of pytest-asyncio; the classes that are imported are not collected themselves."""
    pytester.makeini(INI.format(mode=mode))
    pytester.makepyfile(GOOD)
    result = pytester.runpytest_inprocess("--strict-markers")
    outcomes = result.parseoutcomes()
    assert {"passed"} == outcomes.keys()
    assert outcomes["passed"] > 20


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_mailbox_fails(pytester: pytest.Pytester, fault: str) -> None:
    """Each fault fails the test for it, and no fault hangs the run."""
    code, test = FAULTS[fault]
    pytester.makeini(INI.format(mode="auto"))
    pytester.makepyfile(FAULTY.format(fault=code.strip()))
    result = pytester.runpytest_inprocess("-k", test)
    assert result.parseoutcomes().get("failed")
