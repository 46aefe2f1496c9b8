"""What the mailbox in memory keeps of events is all that there was in them, and no burden to the garbage collector."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from avaturn_async import ExportReadyWebhook, RenderStatus
from avaturn_async.webhooks import key_of
from avaturn_async.webhooks.rows import (
    AUTHENTICATED,
    EXPIRES,
    ONLY,
    PLACE,
    SERIAL,
    event_in,
    make_row,
    place_of,
    place_under,
)

from .samples import AVATAR, avatar_event, export_event, render_event

USUAL = [
    export_event(),
    export_event(status="failed"),
    export_event(status="of-a-later-release", export_url="https://assets.example.com/x.glb?signature=1"),
]
OTHERS = [export_event(extra={"more": 1}), avatar_event(), render_event()]


def row_of(event: Any) -> tuple[Any, ...]:
    """Return the row of an event."""
    return make_row(place_of(event), 900.5, 7, True, False, event)


@pytest.mark.parametrize("event", USUAL + OTHERS, ids=repr)
def test_an_event_comes_back(event: Any) -> None:
    """With what is noted about it."""
    row = row_of(event)
    assert event == event_in(row)
    assert type(event) is type(event_in(row))
    assert (place_of(event), 900.5, 7, True, False) == tuple(
        row[each] for each in (PLACE, EXPIRES, SERIAL, AUTHENTICATED, ONLY)
    )


def test_a_status_comes_back_as_what_it_was() -> None:
    """And not as its text."""
    event = event_in(row_of(export_event()))
    assert isinstance(event, ExportReadyWebhook)
    assert RenderStatus.READY is event.status


def test_an_event_of_a_class_of_ones_own_comes_back_as_it_was() -> None:
    """A mailbox may be given any."""

    class Own(ExportReadyWebhook):
        pass

    event = Own(avatar_id=AVATAR, user_id="u", status="ready")
    assert event is event_in(row_of(event))


@pytest.mark.parametrize("event", USUAL, ids=repr)
def test_the_garbage_collector_lets_go_of_usual_exports(event: Any) -> None:
    """It does so with tuples of strings and numbers when it first comes upon them."""
    row = row_of(event)
    gc.collect()
    assert not gc.is_tracked(row)


@pytest.mark.parametrize("event", USUAL + OTHERS, ids=repr)
def test_a_key_and_its_event_stand_at_one_place(event: Any) -> None:
    """The place is found from either."""
    assert place_under(key_of(event)) == place_of(event)


def test_kinds_do_not_meet() -> None:
    """An export, a scan and a render of one id stand at places of their own."""
    assert 3 == len({place_of(event) for event in (export_event(), avatar_event(), render_event(AVATAR))})


@pytest.mark.parametrize(
    "key", ["", "export:", f"export:{str(AVATAR).upper()}", f"other:{AVATAR}", f"export:{AVATAR}\n"]
)
def test_a_key_of_no_event_stands_for_itself(key: str) -> None:
    """Where nothing is ever delivered."""
    assert key == place_under(key)
