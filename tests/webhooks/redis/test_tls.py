"""A redis-server that speaks TLS, and one whose certificate is not trusted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from avaturn_async import TransportError
from avaturn_async.webhooks import key_of

from ..samples import export_event
from ..stores import Heard, free_port
from .conftest import MakeRedisMailbox
from .server import Server, need_redis

EXPORT = export_event()
KEY = key_of(EXPORT)

#: What OpenSSL is told of an authority, of a server, and in general.
CONFIG = """
[req]
distinguished_name = name
prompt = no
[name]
CN = avaturn-async tests
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectAltName = IP:127.0.0.1
authorityKeyIdentifier = keyid
"""


class Authority:
    """A certificate authority for one test."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._config = folder / "openssl.conf"
        self._config.write_text(CONFIG)
        self.certificate, self._key = folder / "ca.pem", folder / "ca.key"
        self._make("authority", self.certificate, self._key)

    def certify(self) -> tuple[Path, Path]:
        """Make a server's certificate, and return its file and that of the key."""
        certificate, key = self._folder / "server.pem", self._folder / "server.key"
        self._make("server", certificate, key, "-CA", str(self.certificate), "-CAkey", str(self._key))
        return certificate, key

    def _make(self, section: str, certificate: Path, key: Path, *options: str) -> None:
        command = [need_redis("openssl"), "req", "-x509", "-days", "2", "-config", str(self._config)]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-extensions", section]
        command += ["-keyout", str(key), "-out", str(certificate), *options]
        subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Make the authority that signs the server's certificate."""
    need_redis("redis-server")
    return Authority(tmp_path / "authority")


@pytest.fixture
def server(tmp_path: Path, authority: Authority) -> Iterator[Server]:
    """Run a redis-server that speaks TLS at another port, with a user."""
    certificate, key = authority.certify()
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    options += ["--tls-ca-cert-file", str(authority.certificate), "--tls-auth-clients", "no"]
    with Server(tmp_path, *options, "--user", "ann", "on", ">hunter2", "~*", "&*", "+@all") as running:
        running.url = f"rediss://ann:hunter2@127.0.0.1:{port}/0"
        yield running


async def test_a_trusted_server(make_mailbox: MakeRedisMailbox, server: Server, authority: Authority) -> None:
    """Two workers share a mailbox over verified, encrypted connections."""
    url = f"{server.url}?ssl_ca_certs={authority.certificate}"
    receiver, waiter = await make_mailbox(url=url), await make_mailbox(url=url)
    waiting = waiter.wait(KEY, await waiter.position(KEY))
    await receiver.deliver(EXPORT)
    assert EXPORT == (await waiting).event


async def test_a_server_that_is_not_trusted(
    make_mailbox: MakeRedisMailbox, server: Server, tmp_path: Path, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls fail, a wait stays pending, one warning says so, and nothing shows the url."""
    stranger = Authority(tmp_path / "stranger")
    for trust in ("", f"?ssl_ca_certs={stranger.certificate}"):
        mailbox = await make_mailbox(url=server.url + trust)
        waiting = mailbox.wait(KEY, "")
        await heard.outage("ConnectionError")
        for call in (mailbox.position(KEY), mailbox.deliver(EXPORT)):
            with pytest.raises(TransportError, match="ConnectionError") as caught:
                await call
            assert (None, None) == (caught.value.__cause__, caught.value.__context__)
            assert "hunter2" not in f"{caught.value!r} {mailbox!r}"
        assert not waiting.done()
        assert heard.lines.empty()
        await mailbox.aclose()
    assert 2 == len(caplog.records)
    assert not any(secret in caplog.text for secret in ("hunter2", "ann:", "127.0.0.1", str(tmp_path)))
