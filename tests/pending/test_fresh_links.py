"""Renewing the link of an export, as its download does when the link was refused."""

from __future__ import annotations

from typing import Any

import pytest

from avaturn_async import Export, WaitError
from avaturn_async.downloads.stream import Link

from .kit import AVATAR, FAILED, PENDING, World, saying

NEW = "https://files.example/new.glb?signature=sesame"


async def test_a_link_is_renewed_by_the_api() -> None:
    """With the request that created the export."""
    world = World(saying({"status": "ready", "url": NEW}))
    assert NEW == await world.context.fresh_url(AVATAR)
    (request,) = world.transport.requests
    assert ("POST", f"avatar_id={AVATAR}") == (request.method, request.query)


@pytest.mark.parametrize("answer", [PENDING, FAILED, {"status": "ready"}], ids=["pending", "failed", "no url"])
async def test_an_export_that_is_no_longer_ready(answer: dict[str, Any]) -> None:
    """As after a customization; the error says what to do."""
    with pytest.raises(WaitError, match=f"export of avatar {AVATAR} has no url any more: it is .*; export it again"):
        await World(saying(answer)).context.fresh_url(AVATAR)


@pytest.mark.parametrize("renewable", [True, False])
async def test_a_download_can_renew_its_link(renewable: bool) -> None:
    """If the export came from a client."""
    links: list[Link] = []

    class Downloader:
        async def fetch(self, link: Link, path: str, **_: Any) -> None:
            links.append(link)

    source = World(saying({"status": "ready", "url": NEW})).context if renewable else None
    facts: dict[str, Any] = {"resolved_by": "poll", "waited": 1.0, "polls": 1, "downloader": Downloader()}
    export = Export(avatar_id=AVATAR, url="u", source=source, **facts)
    await export.download("model.glb")
    renew = links[0].fresh_url
    assert renewable == (renew is not None)
    if renew is not None:
        assert NEW == await renew()
    assert "source" not in repr(export)
