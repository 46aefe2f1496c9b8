"""What goes on below a download: certificates, and redirects that take the encryption away."""

import asyncio
from contextlib import aclosing
from types import SimpleNamespace

import aiohttp
import pytest

from avaturn_async.config import RetryPolicy, Timeouts
from avaturn_async.downloads.downloader import Downloader
from avaturn_async.downloads.stream import Link
from avaturn_async.errors import DownloadError, UnsafeAddressError
from avaturn_async.http.session import ClientSessions
from avaturn_async.redact import SignedUrl

from ..http.kit import talking

URL = "https://files.example.com/m.glb?signature=SECRET"


async def test_a_certificate_that_is_not_trusted_is_final(downloads, tmp_path, monkeypatch):
    """Another attempt would see the same certificate, so there is none."""
    tried = []

    async def fail(*_: object, **__: object) -> None:
        tried.append(1)
        key = SimpleNamespace(host="files.example.com", port=443, is_ssl=True)
        raise aiohttp.ClientConnectorCertificateError(key, ValueError("self-signed"))  # type: ignore[arg-type]

    monkeypatch.setattr(aiohttp.ClientSession, "get", fail)
    with pytest.raises(DownloadError, match=r"the certificate of files\.example\.com is not trusted") as caught:
        await downloads.fetch(URL, tmp_path / "m.glb")
    assert [1] == tried
    assert caught.value.__cause__ is caught.value.__context__ is None


async def test_a_redirect_from_https_to_http_is_refused(downloads, tmp_path, monkeypatch):
    """A link that was encrypted stays so, even where plain http is allowed."""
    closed = []

    async def redirect(*_: object, **__: object) -> SimpleNamespace:
        headers = {"Location": "http://files.example.com/m.glb?signature=SECRET"}
        return SimpleNamespace(status=302, headers=headers, close=lambda: closed.append(1))

    monkeypatch.setattr(aiohttp.ClientSession, "get", redirect)
    with pytest.raises(UnsafeAddressError, match="redirects from https to http") as caught:
        await downloads.fetch(URL, tmp_path / "m.glb")
    assert [1] == closed
    assert "SECRET" not in str(caught.value)


async def test_a_proxy_that_does_not_answer_is_left():
    """The limit on connecting ends with the connection to the proxy, and that on silence begins after its response."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with talking(talk) as proxy:
        sessions = ClientSessions(max_connections=1, proxy=SignedUrl(proxy))
        downloads = Downloader(
            sessions,
            timeouts=Timeouts(connect=0.2, total=0.2),
            allow_private_hosts=True,
            allow_http=True,
            retry=RetryPolicy(attempts=1),
        )
        async with aclosing(sessions), asyncio.timeout(20):
            for outcome in await asyncio.gather(*(downloads.read(Link(URL)) for _ in range(3)), return_exceptions=True):
                assert isinstance(outcome, DownloadError)
                assert "nothing arrived for too long" in str(outcome)
