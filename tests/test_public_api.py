"""What the package shows to its users, what importing it costs, and which module may know which."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

import avaturn_async

PACKAGE = Path(avaturn_async.__file__).parent
NAMES = [
    "APIStatusError",
    "AssetSlot",
    "AssetSlotWithColorRGB",
    "AssetSlotWithColorRGBA",
    "AssetSlots",
    "AuthenticationError",
    "AvatarBody",
    "AvatarListItem",
    "AvatarReadyWebhook",
    "AvaturnClient",
    "AvaturnError",
    "BadRequestError",
    "BasicAuth",
    "BatchOutcome",
    "BatchProgress",
    "BatchReport",
    "BoneScale",
    "ClientClosedError",
    "ConfigurationError",
    "ConflictError",
    "ConnectError",
    "CreateOrEditExistingSessionConfig",
    "CreateSessionConfig",
    "Download",
    "DownloadError",
    "EditExistingSessionConfig",
    "ErrorBody",
    "Export",
    "ExportBatch",
    "ExportReadyWebhook",
    "ExternalAvatarCustomization",
    "GoneError",
    "HTTPValidationError",
    "IncompleteDownloadError",
    "JobFailedError",
    "Mailbox",
    "MemoryMailbox",
    "NewAvatarRequest",
    "NewAvatarResponse",
    "NewExportResponse",
    "NewSessionRequest",
    "NewSessionResponse",
    "NewUserResponse",
    "NotAModelError",
    "NotFoundError",
    "NotReadyError",
    "OutcomeUnknownError",
    "PathSecret",
    "PaymentRequiredError",
    "Pending",
    "PendingAvatar",
    "PendingExport",
    "PendingRender",
    "PermissionDeniedError",
    "PhotoUpload",
    "Photos",
    "PollPolicy",
    "RateLimit",
    "RateLimitError",
    "Render",
    "RenderReadyWebhook",
    "RenderResult",
    "RenderStatus",
    "Reply",
    "RequestTimeoutError",
    "ResponseFormatError",
    "RetryPolicy",
    "ScanStatus",
    "ServerError",
    "SessionConfig",
    "Timeouts",
    "TransportError",
    "Unauthenticated",
    "UnknownEvent",
    "UnprocessableError",
    "UnsafeAddressError",
    "Verifier",
    "WaitError",
    "WaitTimeoutError",
    "WebhookError",
    "WebhookReceiver",
    "WebhooksRequiredError",
    "WrongLoopError",
    "__version__",
    "parse_event",
]
HEAVY = [
    "aiohttp",
    "aiolimiter",
    "attrs",
    "cattrs",
    "multidict",
    "orjson",
    "PIL",
    "pygltflib",
    "pytest",
    "redis",
    "rich",
    "sqlite3",
    "tenacity",
    "typer",
    "yarl",
    "avaturn_async.cli",
    "avaturn_async.client",
    "avaturn_async.emulator",
    "avaturn_async.webhooks",
]
#: A module may import what stands below it, and its own floor without a circle.
FLOORS = [
    ["redact"],
    ["models"],
    ["errors", "config"],
    ["codec", "tokens"],
    [
        "transport",
        "endpoint",
        "throttle",
        "answers",
        "http_times",
        "failures",
        "connections",
        "deletion",
        "download",
        "addresses",
        "feed",
        "glb_check",
        "guarded_session",
        "heap",
        "partfile",
        "ranges",
        "sink",
        "worker",
    ],
    ["calls", "results", "webhooks", "polling", "timetable", "desk"],
    ["pending", "jobs"],
    ["batch", "intake", "journal", "progress", "report", "stages", "tasks"],
    ["resources"],
    ["client"],
    ["cli", "pytest_plugin", "pytest_async_fixtures", "__main__"],
]
FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))


def python(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=plain)
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout.strip()


def test_the_public_names() -> None:
    """A name that comes or goes is a change of the API, and is to be meant."""
    assert sorted(NAMES) == avaturn_async.__all__
    assert sorted(NAMES) == dir(avaturn_async)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there(name: str) -> None:
    """It can be imported, and tells by its module where it lives."""
    item = getattr(avaturn_async, name)
    assert str(getattr(item, "__module__", "avaturn_async")).startswith(("avaturn_async", "types", "typing"))


def test_type_checkers_see_the_same_names() -> None:
    """The imports for them and the table for the loader are equal."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        ((node.module or ""), alias.name, alias.asname)
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {(home, name, name) for name, home in avaturn_async._HOME_OF.items()} == seen


def test_what_needs_an_extra_is_there_but_not_in_star_imports() -> None:
    """The mailbox in Redis is imported by its name alone."""
    assert "avaturn_async.webhooks.redis" == avaturn_async.RedisMailbox.__module__
    assert "RedisMailbox" not in avaturn_async.__all__


def test_star_imports_work() -> None:
    """``from avaturn_async import *`` gives all of them."""
    assert "AvaturnClient" == python("from avaturn_async import *; print(AvaturnClient.__name__)")


def test_a_name_that_is_not_there() -> None:
    """The message is Python's own."""
    with pytest.raises(AttributeError, match="module 'avaturn_async' has no attribute 'Avaturn'"):
        avaturn_async.Avaturn  # noqa: B018


def test_importing_the_package_loads_nothing_else() -> None:
    """Neither a dependency nor the client, until a name is used."""
    loaded = python("import sys, avaturn_async; print(*sys.modules)").split()
    assert [] == [name for name in HEAVY if name in loaded]


def test_using_the_client_loads_no_more_than_it_needs() -> None:
    """Neither a server nor the emulator, the command line or a store."""
    unused = {"aiohttp.web", "PIL", "pygltflib", "pytest", "redis", "rich", "sqlite3", "typer"}
    unused |= {"avaturn_async.cli", "avaturn_async.emulator"}
    loaded = python("import sys, avaturn_async; avaturn_async.AvaturnClient('t'); print(*sys.modules)").split()
    assert "avaturn_async.client" in loaded
    assert set() == unused & set(loaded)


def test_the_version_is_that_of_the_distribution() -> None:
    """It is written in two places."""
    assert version("avaturn-async") == avaturn_async.__version__


def test_the_package_is_typed() -> None:
    """Type checkers look into it."""
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize(("group", "name"), [("console_scripts", "avaturn"), ("pytest11", "avaturn_async")])
def test_entry_points_lead_somewhere(group: str, name: str) -> None:
    """The command and the pytest plugin are found."""
    (entry,) = entry_points(group=group, name=name)
    assert entry.load() is not None


def _imports(path: Path) -> Iterator[str]:
    """Give each module of the package that a module imports, at any level and under any condition."""
    package = list(path.relative_to(PACKAGE.parent).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module or "").split(".") * bool(node.module)
            yield from (".".join([*base, alias.name]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _parts(path: Path) -> set[str]:
    """Return the parts of the package that a module imports: a folder is one part."""
    names = (name.split(".") for name in _imports(path))
    parts = {parts[1] for parts in names if parts[0] == "avaturn_async" and len(parts) > 1}
    return {part for part in parts if (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").is_file()}


def _part(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


LAYERED = [path for path in MODULES if _part(path) not in ("__init__", "emulator")]


def test_every_module_has_its_floor() -> None:
    """One that is new gets a place on purpose, and one that went leaves none."""
    assert set(FLOOR_OF) == {_part(path) for path in LAYERED}


@pytest.mark.parametrize("path", LAYERED, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_import_from_below(path: Path) -> None:
    """No module knows one that is built on it."""
    above = {part for part in _parts(path) - {"emulator"} if FLOOR_OF[part] > FLOOR_OF[_part(path)]}
    assert set() == above


def test_modules_of_a_floor_make_no_circle() -> None:
    """Whatever a module imports can be read before it."""
    wanted: dict[str, set[str]] = {}
    for path in LAYERED:
        wanted.setdefault(_part(path), set()).update(_parts(path) - {_part(path), "emulator"})
    while free := {part for part, needs in wanted.items() if not needs & wanted.keys()}:
        wanted = {part: needs for part, needs in wanted.items() if part not in free}
    assert {} == wanted


@pytest.mark.parametrize(
    "path", [path for path in MODULES if _part(path) == "emulator"], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_the_emulator_stands_apart(path: Path) -> None:
    """It shares no code with the client, so that each is a check on the other."""
    assert _parts(path) <= {"emulator"}


def test_nothing_is_built_on_the_emulator() -> None:
    """But the command line and the fixtures."""
    users = {_part(path) for path in LAYERED if "emulator" in _parts(path)}
    assert {"cli", "pytest_plugin", "pytest_async_fixtures"} == users


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_say_what_they_export(path: Path) -> None:
    """`__all__` names what is there, each once."""
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    exported = list(getattr(module, "__all__", []))
    assert len(exported) == len(set(exported))
    assert [] == [item for item in exported if not hasattr(module, item)]
