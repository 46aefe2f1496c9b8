"""The tree of errors: its shape, what each carries, and that each survives a queue."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil
import traceback
from typing import Any
from uuid import UUID

import attrs
import pytest

import avaturn_async
from avaturn_async import errors
from avaturn_async.errors import APIStatusError, AvaturnError, GoneError, WaitTimeoutError
from avaturn_async.models import ValidationError

ID = UUID("0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00")
FINDING = ValidationError(loc=("query", "scene"), msg="Field required", type="missing")
STATUS: dict[str, Any] = {
    "status_code": 400,
    "method": "POST",
    "path": "/api/v1/users/new",
    "body": b'{"detail":"no"}',
    "detail": "no",
    "request_id": "r-1",
}
CALL = {"method": "POST", "path": "/api/v1/users/new"}
FACTS: dict[str, dict[str, Any]] = {
    "TransportError": CALL,
    "APIStatusError": STATUS,
    "UnprocessableError": {**STATUS, "status_code": 422, "errors": [FINDING]},
    "RateLimitError": {**STATUS, "status_code": 429, "retry_after": 2.5},
    "ResponseFormatError": {"where": "$.id"},
    "WaitTimeoutError": {"timeout": 3.0, "status": "pending"},
    "JobFailedError": {"resolved_by": "webhook"},
    "DownloadError": {"path": "avatar.glb"},
}
TREE = """
AvaturnError
  APIStatusError
    AuthenticationError
    BadRequestError
    ConflictError
    GoneError
    NotFoundError
    PaymentRequiredError
    PermissionDeniedError
    RateLimitError
    ServerError
    UnprocessableError
  ClientClosedError
  ConfigurationError
  DownloadError
    IncompleteDownloadError
    NotAModelError
    UnsafeAddressError
  ResponseFormatError
  TransportError
    ConnectError
    OutcomeUnknownError
    RequestTimeoutError
  WaitError
    JobFailedError
    NotReadyError
    WaitTimeoutError
    WebhooksRequiredError
  WebhookError
  WrongLoopError
"""


def make(kind: type[AvaturnError]) -> AvaturnError:
    """Make an error with all that its kind can carry."""
    facts = next((FACTS[base.__name__] for base in kind.__mro__ if base.__name__ in FACTS), {})
    return kind(f"what happened to {kind.__name__}", **facts)


@pytest.fixture(params=errors.__all__)
def plain(request: pytest.FixtureRequest) -> AvaturnError:
    """Give each error."""
    return make(getattr(errors, request.param))


@pytest.fixture
def error(plain: AvaturnError) -> AvaturnError:
    """Give each error, as it comes out of a wait."""
    plain.resume_token, plain.avatar_id = '{"v":1}', ID
    plain.add_note("seen by a caller")
    return plain


def _drawn(kind: type[AvaturnError], depth: int = 0) -> list[str]:
    below = sorted(
        (sub for sub in kind.__subclasses__() if sub.__module__.startswith("avaturn_async")),
        key=lambda sub: sub.__name__,
    )
    return ["  " * depth + kind.__name__] + [line for sub in below for line in _drawn(sub, depth + 1)]


def test_the_tree() -> None:
    """It has every exception class of the package, wherever that is defined."""
    for module in pkgutil.walk_packages(avaturn_async.__path__, "avaturn_async."):
        if not module.name.endswith("__main__") and "pyinstaller" not in module.name:
            importlib.import_module(module.name)
    assert TREE.strip().splitlines() == _drawn(AvaturnError)


def test_every_error_is_exported() -> None:
    """From the package as well."""
    assert set(errors.__all__) <= set(avaturn_async.__all__)


RETRYABLE = "ConnectError IncompleteDownloadError NotReadyError RateLimitError RequestTimeoutError ServerError"
RETRYABLE += " TransportError WaitTimeoutError"


def test_errors_that_are_worth_another_try(plain: AvaturnError) -> None:
    """The class says so, and an instance may know better."""
    assert (type(plain).__name__ in RETRYABLE.split()) is plain.retryable
    plain.retryable = not plain.retryable
    assert plain.retryable is plain.copy().retryable is pickle.loads(pickle.dumps(plain)).retryable


def test_the_tree_is_all_there_is() -> None:
    """Every error of the module is exported."""
    public = {name for name, item in vars(errors).items() if isinstance(item, type) and issubclass(item, Exception)}
    assert set(errors.__all__) == public


@pytest.mark.parametrize("name", ["RequestTimeoutError", "WaitTimeoutError"])
def test_timeouts_are_python_s_too(name: str) -> None:
    """``except TimeoutError`` catches them."""
    assert issubclass(getattr(errors, name), TimeoutError)


def test_each_shows_its_message(error: AvaturnError) -> None:
    """As text, in a repr, and in a traceback."""
    said = f"what happened to {type(error).__name__}"
    assert said == str(error)
    assert f"{type(error).__name__}({said!r})" == repr(error)
    assert f"{said}\n" in "".join(traceback.format_exception_only(error))


@pytest.mark.parametrize(
    "again",
    [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy, AvaturnError.copy],
    ids=["pickle", "copy", "deepcopy", "AvaturnError.copy"],
)
def test_each_survives(error: AvaturnError, again: Any) -> None:
    """Another process, and another awaiter, get all of it."""
    other = again(error)
    assert other is not error
    assert (type(error), str(error), error.args) == (type(other), str(other), other.args)
    assert vars(error) == vars(other)


def test_a_copy_has_a_history_of_its_own(error: AvaturnError) -> None:
    """No traceback, cause or context is shared."""
    try:
        raise error from ValueError("cause")
    except AvaturnError as caught:
        other = caught.copy()
    assert [None] * 3 == [other.__traceback__, other.__cause__, other.__context__]


def test_a_copy_can_be_marked_by_itself() -> None:
    """What one awaiter's error carries does not show in another's."""
    first = WaitTimeoutError("late", timeout=1, status="pending")
    second = first.copy()
    second.resume_token = "token"
    assert (None, "token") == (first.resume_token, second.resume_token)


def test_what_is_not_known_is_none(plain: AvaturnError) -> None:
    """The attributes of the base are there on each error."""
    assert [None] * 3 == [plain.resume_token, plain.avatar_id, plain.upload_url]


def test_each_has_its_facts(plain: AvaturnError) -> None:
    """They are attributes, under the names that they were given by."""
    facts = next((FACTS[base.__name__] for base in type(plain).__mro__ if base.__name__ in FACTS), {})
    assert facts == {name: getattr(plain, name) for name in facts}


def test_status_errors_need_no_more_than_a_status() -> None:
    """An app's own test can make one."""
    plain = APIStatusError("no", status_code=418)
    assert ("", "", b"", None, None) == (plain.method, plain.path, plain.body, plain.detail, plain.request_id)
    assert [] == errors.UnprocessableError("no", status_code=422).errors
    assert errors.RateLimitError("no", status_code=429).retry_after is None


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        (f"Asset(s) {ID}, {str(ID).upper()} no longer available", (ID, ID)),
        ("Asset(s) are gone", ()),
        (None, ()),
    ],
)
def test_the_assets_that_are_gone(detail: str | None, expected: tuple[UUID, ...]) -> None:
    """They are read from the sentence that the contract gives."""
    assert expected == GoneError("gone", status_code=410, detail=detail).asset_ids


def test_findings_are_models() -> None:
    """A 422's findings are those of the contract, and no exceptions."""
    assert attrs.has(type(FINDING))
    assert not isinstance(FINDING, Exception)
