"""``avaturn doctor``: check the set-up."""

import os
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, NamedTuple

import avaturn_async as sdk

from .command import DONE, FAILED, Access, command, connected, failure, flag, in_thread, proxy_of_environment
from .output import Column, Output

HELP = """Check versions, extras, variables, clock and proxy.

Nothing is sent, and no values of variables are shown. --check-api requests the avatars of a user that does not exist,
and explains the answer.
"""

VARIABLES = ("AVATURN_API_TOKEN", "AVATURN_BASE_URL", "AVATURN_WEBHOOK_SECRET", "AVATURN_LOG", "SSL_CERT_FILE")
#: The clock is wrong if it shows an earlier year than that of this release.
YEAR = 2025
#: Seconds of clock error from which links expire early and Retry-After dates mislead.
SKEW = 60


class Check(NamedTuple):
    """A finding, and whether it is right; None if it is neither right nor wrong."""

    name: str
    ok: bool | None
    found: str


@command(HELP, "avaturn doctor", "avaturn doctor --check-api --json")
async def _doctor(
    access: Access,
    output: Output,
    check_api: Annotated[bool, flag("--check-api", "Send one request to the API.")] = False,
) -> int:
    checks = await in_thread(lambda: [*_packages(), *_variables(access), _clock(), _proxy(access)])
    if check_api:
        checks += [await _api(access), await _skew(access)]
    for check in checks:
        output.emit(check._asdict())
    marks = {True: "ok", None: "-", False: "WRONG"}
    output.table([Column("check"), Column(""), Column("found")], [(c.name, marks[c.ok], c.found) for c in checks])
    return FAILED if any(check.ok is False for check in checks) else DONE


def _packages() -> Iterator[Check]:
    """Yield the versions of Python, this package, its requirements, and those of its extras."""
    from importlib import metadata

    yield Check("python", True, f"{sys.version.split()[0]} on {sys.platform}")
    needs: dict[str, list[str]] = {}
    try:
        yield Check("avaturn-async", True, metadata.version("avaturn-async"))
        for requirement in metadata.requires("avaturn-async") or []:
            extra = re.search(r"extra == ['\"]([\w-]+)", requirement)
            needs.setdefault(re.split(r"[^\w.-]", requirement)[0], []).extend(extra.groups() if extra else [])
    except metadata.PackageNotFoundError:  # in a frozen application
        yield Check("avaturn-async", None, "not installed as a package")
    for name, extras in needs.items():
        of = f" (extra {', '.join(extras)})" if extras else ""
        try:
            yield Check(name, True, f"{metadata.version(name)}{of}")
        except metadata.PackageNotFoundError:
            yield Check(name, None if extras else False, f"not installed{of}")


def _variables(access: Access) -> Iterator[Check]:
    values = {name: os.environ.get(name) for name in VARIABLES}
    values |= {"AVATURN_API_TOKEN": access.token, "AVATURN_BASE_URL": access.base_url}
    for name, value in values.items():
        problem = None
        if value and (value != value.strip() or value.strip("'\"") != value or not value.isascii()):
            problem = "set, but with spaces, quotation marks or other characters that are not part of it"
        elif value and name == "AVATURN_WEBHOOK_SECRET":
            try:
                sdk.PathSecret(value)
            except (sdk.ConfigurationError, ValueError) as error:
                problem = f"set, but {failure(error)}"
        yield Check(name, False if problem else (True if value else None), problem or ("set" if value else "not set"))


def _clock() -> Check:
    now = datetime.now(UTC)
    return Check("clock", now.year >= YEAR, f"{now:%Y-%m-%d %H:%M:%S} UTC")


def _proxy(access: Access) -> Check:
    from yarl import URL

    proxy = access.proxy or proxy_of_environment(access.base_url)
    if proxy is None:
        return Check("proxy", None, "none for the API")
    try:
        url = URL(proxy if "://" in proxy else f"http://{proxy}")
        return Check("proxy", bool(url.host), f"{url.host}:{url.port}")  # without a password
    except ValueError:
        return Check("proxy", False, "its url is malformed")


async def _api(access: Access) -> Check:
    """Request the avatars of a user that does not exist."""
    try:
        async with connected(access) as client:
            await client.avatars.list("avaturn-doctor-no-such-user")
    except sdk.NotFoundError:
        return Check(
            "API", True, "answered 404: it was reached and takes the token; the user does not exist, as expected"
        )
    except sdk.AuthenticationError:
        return Check("API", False, "answered 401: it was reached, but the token is wrong or was revoked")
    except sdk.PermissionDeniedError:
        return Check("API", False, "answered 403: it was reached, but the token may not read users")
    except (sdk.AvaturnError, ValueError) as error:
        return Check("API", False, failure(error))
    return Check("API", True, "answered 200: it was reached and takes the token")


async def _skew(access: Access) -> Check:
    """Compare the clock with the Date header of the API's answer to a request without the token."""
    from email.utils import parsedate_to_datetime

    import aiohttp

    from ..http.responses import exchange_problem

    url = access.base_url or "https://api.avaturn.me"
    proxy = access.proxy or proxy_of_environment(access.base_url)
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
            session.head(url, proxy=proxy, allow_redirects=False) as response,
        ):
            seconds = time.time() - parsedate_to_datetime(response.headers["Date"]).timestamp()
    except (aiohttp.ClientError, OSError) as error:
        return Check("clock of the API", None, f"unknown: {exchange_problem(error, timeout=10, connect_timeout=10)}")
    except (ValueError, KeyError):
        return Check("clock of the API", None, "unknown: the answer has no valid Date header")
    return Check("clock of the API", abs(seconds) < SKEW, f"differs by {abs(seconds):.0f} s")
