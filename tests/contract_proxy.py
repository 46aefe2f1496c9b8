"""A proxy that passes requests on to an emulator and notes what does not follow the contract, in either direction."""

from __future__ import annotations

from contextlib import AsyncExitStack
from email import message_from_bytes
from functools import cache
from typing import Any, Self

import aiohttp
import attrs
from aiohttp import web
from jsonschema import Draft202012Validator
from multidict import CIMultiDict
from openapi_core import OpenAPI
from openapi_core.contrib.aiohttp import AIOHTTPOpenAPIWebRequest, AIOHTTPOpenAPIWebResponse
from openapi_core.exceptions import OpenAPIError

from avaturn_async.emulator.validation import contract

from .servers import running

API = "/api/v1/"
UPLOADS = "/uploads/"


def check(value: object, schema: str) -> list[str]:
    """Say what is wrong with a JSON value that should be of one of the contract's schemas."""
    document = {"$ref": f"#/components/schemas/{schema}", "components": contract()["components"]}
    validator = Draft202012Validator(document, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


@cache
def openapi() -> OpenAPI:
    """Return what checks requests and answers; reading the contract takes 90 ms."""
    return OpenAPI.from_dict({**contract(), "servers": [{"url": "http://127.0.0.1"}]})  # it knows no ports


@attrs.frozen
class Exchange:
    """A request that went through."""

    operation: str
    status: int
    query: dict[str, str]
    body: bytes
    headers: CIMultiDict[str]


class _Request(AIOHTTPOpenAPIWebRequest):
    """A request as openapi-core takes it, but with its path as it was sent."""

    @property
    def path(self) -> str:
        return self.request.url.raw_path


class ContractProxy:
    """Stands before the emulator at `target`, also in the urls that it gives out."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.url = ""
        self.complaints: list[str] = []
        self.exchanges: list[Exchange] = []
        app = web.Application(client_max_size=2**20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._session = await self._stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        self.url = await self._stack.enter_async_context(running(self._runner))
        self._openapi = openapi()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def operations(self) -> list[str]:
        """The operations that were asked for, in their order."""
        return [exchange.operation for exchange in self.exchanges]

    def last(self, operation: str) -> Exchange:
        """Return the last exchange of an operation."""
        return next(exchange for exchange in reversed(self.exchanges) if exchange.operation == operation)

    async def _handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        response = await self._pass_on(request, body)
        if request.path.startswith(API):
            operation = self._check_call(request, body, response)
        else:
            operation = self._check_other(request, body)
        query = dict(request.query)
        self.exchanges.append(Exchange(operation, response.status, query, body, CIMultiDict(request.headers)))
        return response

    async def _pass_on(self, request: web.Request, body: bytes) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "connection")}
        async with self._session.request(
            request.method, self.target + request.raw_path, headers=headers, data=body or None, allow_redirects=False
        ) as answer:
            kept = {name: answer.headers[name] for name in ("Content-Type", "ETag") if name in answer.headers}
            content = await answer.read()
            if answer.content_type == "application/json":
                content = content.replace(self.target.encode(), self.url.encode())
            return web.Response(status=answer.status, body=content, headers=kept)

    def _check_call(self, request: web.Request, body: bytes, response: web.Response) -> str:
        asked = _Request(request, body=body)
        operation = self._operation(request)
        self._try(request, lambda: self._openapi.validate_request(asked))
        self._try(request, lambda: self._openapi.validate_response(asked, AIOHTTPOpenAPIWebResponse(response)))
        known = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter.get("in") == "query"}
        if unknown := set(request.query) - known:
            self._complain(request, f"the contract has no query parameter {unknown}")
        if body and "requestBody" not in operation:
            self._complain(request, "the contract has no body")
        if "requestBody" not in operation and "Content-Type" in request.headers:
            self._complain(request, "there is a Content-Type without a body")
        return str(operation.get("operationId"))

    def _operation(self, request: web.Request) -> dict[str, Any]:
        """Find the operation by its path; one without parameters goes first."""
        asked = request.url.raw_path.split("/")
        for path in sorted(contract()["paths"], key=lambda path: path.count("{")):
            parts = path.split("/")
            if len(parts) == len(asked) and all(p.startswith("{") or p == a for p, a in zip(parts, asked, strict=True)):
                item = contract()["paths"][path]
                if request.method.lower() in item:
                    return dict(item[request.method.lower()])
        return {}

    def _check_other(self, request: web.Request, body: bytes) -> str:
        if "Authorization" in request.headers:
            self._complain(request, "the token left the API")
        if not request.path.startswith(UPLOADS):
            return "file"
        self.complaints += [f"upload: {problem}" for problem in check(_form(request, body), "PhotoUpload")]
        return "upload"

    def _try(self, request: web.Request, validate: Any) -> None:
        try:
            validate()
        except OpenAPIError as error:
            self._complain(request, f"{error} {getattr(error, 'schema_errors', '')}{error.__cause__ or ''}")

    def _complain(self, request: web.Request, problem: str) -> None:
        self.complaints.append(f"{request.method} {request.path}: {problem}")


def _form(request: web.Request, body: bytes) -> dict[str, str]:
    """Read a multipart form; a part with a file name is there by the type of its content alone."""
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    fields = {}
    for part in message_from_bytes(head + body).get_payload():
        name = str(part.get_param("name", header="Content-Disposition"))  # type: ignore[union-attr]
        content = part.get_payload(decode=True)  # type: ignore[union-attr]
        assert isinstance(content, bytes)
        if part.get_filename():  # type: ignore[union-attr]
            assert ("image/jpeg", b"\xff\xd8\xff") == (part.get_content_type(), content[:3])  # type: ignore[union-attr]
        fields[name] = content.decode(errors="replace")
    return fields
