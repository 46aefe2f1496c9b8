"""The emulator against the contract, by requests that Schemathesis makes up."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from schemathesis import engine

from avaturn_async.emulator import Emulator, EmulatorThread
from avaturn_async.emulator.contract import contract, served

from .kit import AT_ONCE, Caller

# A customization of the right shape may name an asset that is gone.
ACCEPTED = ["2xx", 401, 403, 404, 409, 410]
SEED = 20_240_611
DELETES = {"include-method": "DELETE", "enabled": False}


@pytest.fixture
def emulator() -> Iterator[EmulatorThread]:
    """Run an emulator beside the test."""
    with EmulatorThread(Emulator(timing=AT_ONCE)) as running:
        yield running


def findings(document: dict[str, Any], emulator: EmulatorThread, **config: Any) -> list[str]:
    """Let all phases of Schemathesis loose and return what they found."""
    settings = {
        "base-url": emulator.url,
        "seed": SEED,
        "headers": {"Authorization": f"Bearer {emulator.token}"},
        "generation": {"max-examples": 20},
        "checks": {"positive_data_acceptance": {"expected-statuses": ACCEPTED}},
        **config,
    }
    schema = schemathesis.openapi.from_dict(document, config=schemathesis.Config.from_dict(settings))
    events = list(engine.from_schema(schema).execute())
    assert isinstance(events[-1], engine.events.EngineFinished)
    errors = [
        repr(event) for event in events if isinstance(event, engine.events.NonFatalError | engine.events.FatalError)
    ]
    scenarios = [event for event in events if isinstance(event, engine.events.ScenarioFinished)]
    assert len(scenarios) > 20
    failures = [
        f"{check.name}: {check.failure_info.failure!r}"
        for scenario in scenarios
        for checks in scenario.recorder.checks.values()
        for check in checks
        if check.failure_info is not None
    ]
    return errors + failures


async def populate(emulator: EmulatorThread) -> dict[str, str]:
    """Make what the operations ask for: a user with an avatar that is ready and dressed."""
    async with Caller(emulator) as caller:
        user = await caller.new_user()
        session = await caller.call("POST", "sessions/new", json={"user_id": user})
        avatar_id = str(await asyncio.to_thread(emulator.complete_session, session["id"]))
        return {"user_id": user, "avatar_id": avatar_id, "id": avatar_id}


@pytest.mark.parametrize("document", ["contract", "served"])
def test_nothing_is_found(emulator: EmulatorThread, document: str) -> None:
    """The contract as it is written, and as the emulator serves it."""
    documents = {"contract": contract(), "served": served(emulator.url, emulator.catalogue.bodies)}
    assert findings(documents[document], emulator) == []


def test_nothing_is_found_behind_the_404s(emulator: EmulatorThread) -> None:
    """With a user and an avatar that exist, the made-up requests get to the bottom."""
    known = asyncio.run(populate(emulator))
    document = served(emulator.url, emulator.catalogue.bodies)
    assert findings(document, emulator, parameters=known, operations=[DELETES]) == []
    assert {"create_export", "render_user_avatar", "set_customization"} <= {
        request.operation for request in emulator.requests if request.status in (200, 202)
    }
