"""The link of an export is asked for again, as its download does when it was refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from avaturn_async import Export, WaitError
from avaturn_async.downloads.stream import Link
from avaturn_async.pending.context import PendingContext

AVATAR = UUID("0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f0a")


def answering(body: bytes) -> PendingContext:
    """Return a context whose transport always gets this answer."""

    class Transport:
        async def request(self, call: Any) -> Any:
            assert ("POST", {"avatar_id": str(AVATAR)}) == (call.method, call.query)
            return SimpleNamespace(body=body)

    return PendingContext(transport=Transport(), downloader=None)  # type: ignore[arg-type]


async def test_a_fresh_link() -> None:
    """It is what the API answers now."""
    assert "https://x/new" == await answering(b'{"status":"ready","url":"https://x/new"}').fresh_url(AVATAR)


@pytest.mark.parametrize("body", [b'{"status":"pending"}', b'{"status":"failed"}', b'{"status":"ready"}'])
async def test_an_export_that_is_not_ready_any_more(body: bytes) -> None:
    """As after a customization; the error says what to do."""
    with pytest.raises(WaitError, match=f"export of avatar {AVATAR} has no url any more: it is .*; export it again"):
        await answering(body).fresh_url(AVATAR)


@pytest.mark.parametrize("asks", [True, False])
async def test_a_download_can_ask(asks: bool) -> None:
    """It gets a way to ask for this avatar's link, where there is one."""
    links: list[Link] = []

    class Downloader:
        async def fetch(self, link: Link, path: str, **_: Any) -> None:
            links.append(link)

    context = answering(b'{"status":"ready","url":"https://x/new"}')
    source = context if asks else None
    export = Export(
        avatar_id=AVATAR, url="u", resolved_by="poll", waited=1.0, polls=1, downloader=Downloader(), source=source
    )
    await export.download("model.glb")
    (fresh_url,) = (link.fresh_url for link in links)
    assert (fresh_url is not None) == asks
    if fresh_url is not None:
        assert "https://x/new" == await fresh_url()
    assert "source" not in repr(export)
