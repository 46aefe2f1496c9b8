"""The guard against addresses that are not public: what it refuses, and what it lets through."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from avaturn_async.config import RetryPolicy
from avaturn_async.downloads import ssrf as addresses
from avaturn_async.downloads.ssrf import BlockedAddressError, check_url, is_public, public_socket
from avaturn_async.errors import DownloadError, UnsafeAddressError

from .kit import Answer, Downloads, downloader

PUBLIC = "93.184.215.14"

NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.0.192",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.168.1.1",
    "192.175.48.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:db8::1",
    "2001:10::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "2620:4f:8000::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1111%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "",
    "localhost",
    "127.1",
    "1.2.3.4.5",
]

PUBLIC_ADDRESSES = [
    "1.1.1.1",
    "8.8.8.8",
    PUBLIC,
    "100.63.255.255",
    "100.128.0.1",
    "168.63.129.15",
    "172.15.255.255",
    "172.32.0.1",
    "192.0.1.1",
    "192.167.255.255",
    "198.17.255.255",
    "198.20.0.1",
    "203.0.114.1",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:82b::200e",
    "2001:4860:4860::8888",
    "2620:fe::fe",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
]

HOSTILE = [
    # loopback, in every spelling that a C library would take
    "https://127.0.0.1/m.glb",
    "https://127.0.0.1:8443/m.glb",
    "https://127.1/m.glb",
    "https://127.0.1/m.glb",
    "https://2130706433/m.glb",
    "https://017700000001/m.glb",
    "https://0177.0.0.1/m.glb",
    "https://0x7f.0.0.1/m.glb",
    "https://0x7f000001/m.glb",
    "https://0X7F.1/m.glb",
    "https://127.0.0.0x1/m.glb",
    "https://127.0.0.1./m.glb",
    "https://00000127.0.0.1/m.glb",
    "https://127.000.000.001/m.glb",
    "https://0/m.glb",
    "https://0.0.0.0/m.glb",
    "https://256.256.256.256/m.glb",
    "https://4294967297/m.glb",
    "https://1.2.3/m.glb",
    "https://1.2.3.4.5/m.glb",
    "https://example.1/m.glb",
    "https://0x/m.glb",
    # digits and dots of other alphabets
    "https://①②⑦.⓪.⓪.①/m.glb",
    "https://\uff11\uff12\uff17.\uff10.\uff10.\uff11/m.glb",
    "https://127。0。0。1/m.glb",
    "https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/m.glb",
    # private, link-local, metadata, multicast
    "https://10.0.0.1/m.glb",
    "https://172.16.0.1/m.glb",
    "https://192.168.0.1/m.glb",
    "https://169.254.169.254/latest/meta-data/",
    "https://2852039166/latest/meta-data/",
    "https://168.63.129.16/metadata",
    "https://100.100.100.200/latest/meta-data/",
    "https://192.0.0.192/opc/v2/",
    "https://100.64.0.1/m.glb",
    "https://224.0.0.1/m.glb",
    "https://255.255.255.255/m.glb",
    # IPv6
    "https://[::]/m.glb",
    "https://[::1]/m.glb",
    "https://[::1]:8443/m.glb",
    "https://[0:0:0:0:0:0:0:1]/m.glb",
    "https://[::ffff:127.0.0.1]/m.glb",
    "https://[::ffff:7f00:1]/m.glb",
    "https://[::127.0.0.1]/m.glb",
    "https://[64:ff9b::7f00:1]/m.glb",
    "https://[2002:7f00:1::]/m.glb",
    "https://[2001:0:7f00:1::]/m.glb",
    "https://[fd00:ec2::254]/latest/meta-data/",
    "https://[fe80::1%25eth0]/m.glb",
    "https://[fe80::1%eth0]/m.glb",
    "https://[2606:4700::1111%25lo]/m.glb",
    "https://[ff02::1]/m.glb",
    "https://[v1.fe80::a]/m.glb",
    "https://[::1/m.glb",
    "https://[]/m.glb",
    # names
    "https://localhost/m.glb",
    "https://LOCALHOST/m.glb",
    "https://localhost./m.glb",
    "https://localhost.localdomain/m.glb",
    "https://a.localhost/m.glb",
    "https://metadata/m.glb",
    "https://metadata.google.internal/computeMetadata/v1/",
    "https://printer.local/m.glb",
    "https://router.home.arpa/m.glb",
    "https://example..com/m.glb",
    "https://.example.com/m.glb",
    "https://../m.glb",
    "https://exa%6dple.com/m.glb",
    "https://%31%32%37.0.0.1/m.glb",
    "https://exa mple.com/m.glb",
    "https://" + "a" * 64 + ".com/m.glb",
    # parts of a url that mislead
    "https://user@example.com/m.glb",
    "https://user:secret@example.com/m.glb",
    "https://@example.com/m.glb",
    "https://:@example.com/m.glb",
    "https://example.com@127.0.0.1/m.glb",
    "https://example.com:443@127.0.0.1/m.glb",
    "https://example.com\\@127.0.0.1/m.glb",
    "https://127.0.0.1\\@example.com/m.glb",
    "https://127.0.0.1#@example.com/m.glb",
    "https://127.0.0.1?@example.com/m.glb",
    "https://example.com:0x50/m.glb",
    "https://example.com:99999/m.glb",
    "https://example.com:0/m.glb",
    "https://example.com:80:81/m.glb",
    "https://exam\tple.com/m.glb",
    "https://example.com/m.glb\r\nHost: 127.0.0.1",
    "https://example.com\x00.evil/m.glb",
    # schemes
    "ftp://example.com/m.glb",
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "gopher://127.0.0.1:6379/_INFO",
    "data:model/gltf-binary;base64,Z2xURg==",
    "dict://example.com:11211/stat",
    "ws://example.com/m.glb",
    "unix:///run/docker.sock",
    "javascript:alert(1)",
    "//example.com/m.glb",
    "example.com/m.glb",
    "/m.glb",
    "https:///m.glb",
    "https:example.com",
    "",
]

HARMLESS = [
    "https://example.com/m.glb",
    "https://EXAMPLE.com/m.glb",
    "https://example.com./m.glb",
    "https://example.com:8443/m.glb?a=%2F&b=c%20d",
    "https://my_bucket.s3.amazonaws.com/m.glb",
    "https://bücher.example/m.glb",
    "https://10.0.0.1.nip.io/m.glb",
    "https://0x7f.com/m.glb",
    "https://1.1.1.1/m.glb",
    "https://[2606:4700:4700::1111]/m.glb",
    "https://[::ffff:8.8.8.8]/m.glb",
    "https://[64:ff9b::808:808]/m.glb",
    "https://storage.googleapis.com/avatars/a b.glb",
]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Make names resolve to what the test says: each call takes the next address, the last one stays."""
    names: dict[str, list[str]] = {}

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        if host not in names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answers = names[host]
        address = answers.pop(0) if len(answers) > 1 else answers[0]
        return [_info(one, port) for one in address.split()]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return names


def _info(address: str, port: int) -> tuple[Any, ...]:
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))


@pytest.fixture
async def guarded() -> AsyncIterator[Downloads]:
    """Download from public addresses only, also by plain http."""
    made = downloader(retry=RetryPolicy(attempts=1), allow_private_hosts=False)
    yield made
    await made.aclose()


@pytest.fixture
def public_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take 127.0.0.1 for a public address, so that a test's server can stand for one."""
    real = addresses.is_public
    monkeypatch.setattr(addresses, "is_public", lambda address: address == "127.0.0.1" or real(address))


def test_the_corpus_is_large():
    """At least sixty hostile urls are tried, each once."""
    assert len(set(HOSTILE)) == len(HOSTILE) >= 60


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_is_not_public(address):
    """Special-purpose addresses are not public, nor is anything that is no canonical address."""
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_is_public(address):
    """Addresses beside the special-purpose blocks are public."""
    assert is_public(address)


@pytest.mark.parametrize("url", HOSTILE)
async def test_hostile_urls_are_refused(url, guarded, tmp_path):
    """A hostile url is refused before anything is sent or written, though plain http is allowed."""
    with pytest.raises(UnsafeAddressError) as caught:
        await guarded.fetch(url, tmp_path / "m.glb")
    with pytest.raises(UnsafeAddressError):
        await anext(guarded.stream(url))
    assert str(tmp_path / "m.glb") == caught.value.path
    assert list(tmp_path.iterdir()) == []
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", HARMLESS)
def test_harmless_urls_pass(url):
    """A url of a public host passes, and keeps the spelling that its signature covers."""
    parsed = check_url(url, allow_http=False, allow_private=False)
    if url.isascii() and " " not in url:
        assert url == str(parsed)


def test_a_url_that_needs_quoting_is_quoted():
    """Spaces and other alphabets are sent as the RFCs want them."""
    parsed = check_url("https://bücher.example/é f.glb#top", allow_http=False, allow_private=False)
    assert str(parsed) == "https://xn--bcher-kva.example/%C3%A9%20f.glb"


@pytest.mark.parametrize(("http", "private"), [(True, False), (False, True)])
def test_http_needs_permission(http, private):
    """Plain http is refused unless one of the two settings allows it."""
    with pytest.raises(UnsafeAddressError, match="not an https url"):
        check_url("http://example.com/m.glb?s=secret", allow_http=False, allow_private=False)
    assert check_url("http://example.com/m.glb", allow_http=http, allow_private=private)


def test_private_hosts_can_be_allowed():
    """With the guard off a loopback url is fine, but not one that is none."""
    assert check_url("http://localhost:8080/m.glb", allow_http=False, allow_private=True)
    with pytest.raises(UnsafeAddressError):
        check_url("file:///etc/passwd", allow_http=False, allow_private=True)


def test_a_url_must_be_a_str():
    """Anything else is a mistake of the caller's."""
    with pytest.raises(TypeError, match="a url must be a str, not bytes"):
        check_url(b"https://example.com", allow_http=False, allow_private=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254"])
def test_no_socket_is_made_for_a_private_address(address):
    """The socket factory refuses by the address that would be connected to."""
    with pytest.raises(BlockedAddressError) as caught:
        public_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)))
    assert address == caught.value.address


def test_a_socket_is_made_for_a_public_address():
    """The socket factory makes a socket of the family that was asked for."""
    with public_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", (PUBLIC, 443))) as made:
        assert socket.AF_INET == made.family


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "::1",
        "fd00::1",
        "::ffff:10.0.0.1",
        "10.0.0.1 10.0.0.2",
        "::1 10.0.0.1",
    ],
)
async def test_a_name_of_a_private_address_is_refused(address, resolve, guarded, tmp_path):
    """A public name that resolves to private addresses is refused when it is connected to."""
    resolve["files.example.com"] = [address]
    with pytest.raises(UnsafeAddressError, match=r"files\.example\.com leads to") as caught:
        await guarded.fetch("https://files.example.com/m.glb?s=secret", tmp_path / "m.glb")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


async def test_only_the_public_one_of_two_addresses_is_tried(resolve, guarded, tmp_path, monkeypatch):
    """Where a name has both, the private address is passed over, whatever becomes of the public one."""
    tried = []

    def connect(_loop: Any, _socket: Any, address: tuple[str, int]) -> None:
        tried.append(address[0])
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", connect)
    resolve["files.example.com"] = [f"127.0.0.1 {PUBLIC} ::1"]
    with pytest.raises(DownloadError, match="could not be reached"):
        await guarded.fetch("https://files.example.com/m.glb", tmp_path / "m.glb")
    assert {PUBLIC} == set(tried)


@pytest.mark.usefixtures("public_loopback")
async def test_a_name_that_changes_its_address_gains_nothing(resolve, guarded, tmp_path, server):
    """A name that is public when first asked for, and private the next time, is refused the next time."""
    resolve["rebind.example.com"] = ["127.0.0.1", "127.0.0.2"]
    server.answers.append(Answer(302, {"Location": "http://rebind.example.com:8080/m.glb"}))
    with pytest.raises(UnsafeAddressError, match=r"leads to 127\.0\.0\.2"):
        await guarded.fetch(f"http://rebind.example.com:{server.port}/m.glb", tmp_path / "m.glb")
    assert 1 == len(server.requests)


@pytest.mark.usefixtures("public_loopback")
@pytest.mark.parametrize(
    "target",
    [
        "http://10.0.0.1/m.glb",
        "//169.254.169.254/latest",
        "http://localhost/m.glb",
        "file:///etc/passwd",
        "http://user@example.com/",
        "http://[::1]/",
        "http://2130706433/",
        "http://inside.example.com/m.glb",
    ],
)
async def test_a_redirect_to_a_private_address_is_refused(target, resolve, guarded, tmp_path, server):
    """Each redirect is looked at as the first url was."""
    resolve.update({"files.example.com": ["127.0.0.1"], "inside.example.com": ["10.0.0.1"]})
    server.answers.append(Answer(302, {"Location": target}))
    with pytest.raises(UnsafeAddressError):
        await guarded.fetch(f"http://files.example.com:{server.port}/m.glb", tmp_path / "m.glb")
    assert 1 == len(server.requests)


@pytest.mark.usefixtures("public_loopback")
async def test_a_public_address_is_fetched_from(resolve, guarded, tmp_path, server):
    """The guard lets through what it should, with redirects that are relative."""
    resolve["files.example.com"] = ["127.0.0.1"]
    server.answers.append(Answer(307, {"Location": "/other.glb?signature=2"}))
    fetched = await guarded.fetch(f"http://files.example.com:{server.port}/m.glb", tmp_path / "m.glb", kind="glb")
    assert server.body == fetched.path.read_bytes()
    assert ["/m.glb", "/other.glb?signature=2"] == [request.target for request in server.requests]


async def test_behind_a_proxy_the_name_is_looked_up_here(resolve, tmp_path, server):
    """A proxy is not asked for a name that is known here as private."""
    resolve["inside.example.com"] = ["10.0.0.1"]
    async with aclosing(downloader(proxy=server.base, allow_private_hosts=False)) as proxied:
        with pytest.raises(UnsafeAddressError, match=r"inside\.example\.com leads to"):
            await proxied.fetch("http://inside.example.com/m.glb", tmp_path / "m.glb")
    assert [] == server.requests


@pytest.mark.parametrize("host", ["public.example.com", "known-to-the-proxy.example.com"])
async def test_behind_a_proxy_other_names_are_left_to_it(host, resolve, tmp_path, server):
    """A name that is public, or that only the proxy knows, is fetched through a proxy at a private address."""
    resolve["public.example.com"] = [PUBLIC]
    async with aclosing(downloader(proxy=server.base, allow_private_hosts=False)) as proxied:
        fetched = await proxied.fetch(f"http://{host}/m.glb", tmp_path / "m.glb")
    assert server.body == fetched.path.read_bytes()
    assert f"http://{host}/m.glb" == server.requests[0].target
