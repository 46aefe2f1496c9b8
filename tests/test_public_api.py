"""The public names of the package, and what importing it costs."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points, metadata, version
from pathlib import Path
from typing import Any, get_type_hints

import attrs
import cattrs
import pytest

import avaturn_async
from avaturn_async import models, resources

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
    "CLIENT_DEFAULT",
    "ClientClosedError",
    "ClientDefault",
    "ConfigurationError",
    "ConflictError",
    "ConnectError",
    "CreateOrEditExistingSessionConfig",
    "CreateSessionConfig",
    "Delivery",
    "Download",
    "DownloadError",
    "EditExistingSessionConfig",
    "Event",
    "Export",
    "ExportBatch",
    "ExportReadyWebhook",
    "ExternalAvatarCustomization",
    "GoneError",
    "IncompleteDownloadError",
    "JobFailedError",
    "Mailbox",
    "MemoryMailbox",
    "NewAvatarResponse",
    "NewSessionResponse",
    "NewUserResponse",
    "NotAModelError",
    "NotFoundError",
    "NotReadyError",
    "ObjectStoreSink",
    "Observer",
    "OtelObserver",
    "OutcomeUnknownError",
    "PathSecret",
    "PaymentRequiredError",
    "Pending",
    "PendingAvatar",
    "PendingExport",
    "PendingRender",
    "PendingSession",
    "PermissionDeniedError",
    "Photos",
    "PollPolicy",
    "PostgresMailbox",
    "RateLimit",
    "RateLimitError",
    "RedisMailbox",
    "Render",
    "RenderReadyWebhook",
    "RenderStatus",
    "Reply",
    "RequestTimeoutError",
    "ResponseFormatError",
    "RetryPolicy",
    "Saved",
    "ScanStatus",
    "ServerError",
    "SessionConfig",
    "Sink",
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
    "asyncpg",
    "attrs",
    "cattrs",
    "multidict",
    "obstore",
    "opentelemetry",
    "orjson",
    "PIL",
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
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if not path.name.startswith("hook-"))


def python(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=plain)
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout.strip()


def test_the_public_names() -> None:
    """A name that comes or goes is a change of the API, and is to be meant."""
    assert sorted(NAMES) == sorted(avaturn_async.__all__)
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
    imports = [node for node in guarded.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: f"avaturn_async.{node.module}" for node in imports for alias in node.names}
    assert set(NAMES) == {*seen, "__version__"}
    for name, home in seen.items():
        assert getattr(importlib.import_module(home), name) is getattr(avaturn_async, name)


def test_star_imports_work() -> None:
    """``from avaturn_async import *`` gives all of them."""
    assert "AvaturnClient" == python("from avaturn_async import *; print(AvaturnClient.__name__)")


def test_a_name_that_is_not_there() -> None:
    """The message is Python's own."""
    with pytest.raises(AttributeError, match="module 'avaturn_async' has no attribute 'Avaturn'"):
        avaturn_async.Avaturn  # noqa: B018
    with pytest.raises(AttributeError, match=r"module 'avaturn_async\.webhooks' has no attribute 'Webhook'"):
        avaturn_async.webhooks.Webhook  # noqa: B018


def test_importing_the_package_loads_nothing_else() -> None:
    """Neither a dependency nor the client, until a name is used."""
    loaded = python("import sys, avaturn_async; print(*sys.modules)").split()
    assert [] == [name for name in HEAVY if name in loaded]


def test_using_the_client_loads_no_more_than_it_needs() -> None:
    """Neither a server nor the emulator, the command line or a store."""
    unused = {"aiohttp.web", "asyncpg", "obstore", "PIL", "pytest", "redis", "rich", "sqlite3", "typer"}
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


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_say_what_they_export(path: Path) -> None:
    """`__all__` names what is there, each once."""
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    exported = list(getattr(module, "__all__", []))
    assert len(exported) == len(set(exported))
    assert [] == [item for item in exported if not hasattr(module, item)]


def _functions(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield a class and those of its methods and properties that a user calls."""
    yield kind.__qualname__, kind
    for name in dir(kind):
        item = inspect.getattr_static(kind, name)
        item = item.fget if isinstance(item, property) else getattr(item, "__func__", item)
        called = not name.startswith("_") or name in ("__init__", "__call__", "__aenter__", "__aexit__", "__await__")
        if called and inspect.isfunction(item):
            yield f"{kind.__qualname__}.{name}", item


def test_type_hints_can_be_resolved() -> None:
    """At run time, of every public class and function, as dependency injection and attrs' own tools need it."""
    public = [getattr(avaturn_async, name) for name in NAMES]
    public += [getattr(module, name) for module in (models, resources) for name in module.__all__]
    unresolved = {}
    for item in public:
        targets = _functions(item) if inspect.isclass(item) else [(getattr(item, "__name__", ""), item)]
        for name, target in targets:
            if inspect.isclass(target) or inspect.isfunction(target):
                try:
                    get_type_hints(target)
                except NameError as error:
                    unresolved[name] = str(error)
    assert {} == unresolved


def test_tools_for_attrs_classes_work_on_ours() -> None:
    """They resolve the types of the fields."""
    assert 200 == cattrs.unstructure(avaturn_async.Reply(200))["status"]
    for kind in (avaturn_async.Export, avaturn_async.Render, avaturn_async.Delivery, avaturn_async.PollPolicy):
        attrs.resolve_types(kind)


def test_the_package_index_links_to_pages() -> None:
    """A link of the project, and every link of its description, works outside of a clone."""
    found = metadata("avaturn-async")
    links = [link.partition(", ")[2] for link in found.get_all("Project-URL") or []]
    links += re.findall(r"\]\(([^)]*)\)", found.get_payload())
    assert links
    assert [] == [link for link in links if not link.startswith("https://")]
