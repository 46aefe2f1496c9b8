"""The receiver as an AWS Lambda function, with events as the gateways send them."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from avaturn_async import BasicAuth, WebhookReceiver
from avaturn_async.webhooks import key_of

from .kit import PATH
from .samples import OTHER, SECRET, export_body, export_event

HEADERS = {
    "accept": "*/*",
    "content-length": "121",
    "content-type": "application/json",
    "host": "abcdef1234.execute-api.eu-central-1.amazonaws.com",
    "user-agent": "python-httpx/0.27.0",
    "x-amzn-trace-id": "Root=1-6650b5a0-0c2c4a6f1d4b5e6f7a8b9c0d",
    "x-forwarded-for": "198.51.100.7",
    "x-forwarded-port": "443",
    "x-forwarded-proto": "https",
}


def rest_api(body: str | None, path: str = PATH, method: str = "POST", **changes: Any) -> dict[str, Any]:
    """Make an event of a REST API (payload format 1.0), whose headers come as they were sent, or null."""
    headers = {name.title(): value for name, value in HEADERS.items()}
    event = {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": {"proxy": path.lstrip("/")},
        "stageVariables": None,
        "requestContext": {
            "resourcePath": "/{proxy+}",
            "httpMethod": method,
            "path": f"/prod{path}",
            "stage": "prod",
            "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "identity": {"sourceIp": "198.51.100.7", "userAgent": "python-httpx/0.27.0"},
        },
        "body": body,
        "isBase64Encoded": False,
    }
    return event | changes


def http_api(body: str | None, path: str = PATH, method: str = "POST", **changes: Any) -> dict[str, Any]:
    """Make an event of an HTTP API (payload format 2.0), whose stage is in the path and whose headers are lowered."""
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": f"/stage{path}",
        "rawQueryString": "",
        "headers": HEADERS,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abcdef1234",
            "domainName": "abcdef1234.execute-api.eu-central-1.amazonaws.com",
            "http": {
                "method": method,
                "path": f"/stage{path}",
                "protocol": "HTTP/1.1",
                "sourceIp": "198.51.100.7",
                "userAgent": "python-httpx/0.27.0",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "$default",
            "stage": "stage",
            "time": "12/Mar/2026:19:03:58 +0000",
            "timeEpoch": 1773342238000,
        },
        "body": body,
        "isBase64Encoded": False,
    }
    if body is None:
        del event["body"]
    return event | changes


def function_url(body: str | None, path: str = PATH, method: str = "POST", **changes: Any) -> dict[str, Any]:
    """Make an event of a function url (payload format 2.0), whose bodies are in base64."""
    encoded = None if body is None else base64.b64encode(body.encode()).decode()
    return http_api(encoded, path, method, isBase64Encoded=body is not None, rawPath=path) | changes


def load_balancer(body: str | None, path: str = PATH, method: str = "POST", **changes: Any) -> dict[str, Any]:
    """Make an event of a load balancer with multi-value headers."""
    event = {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:..."}},
        "httpMethod": method,
        "path": path,
        "multiValueQueryStringParameters": {},
        "multiValueHeaders": {name: [value] for name, value in HEADERS.items()},
        "body": body or "",
        "isBase64Encoded": False,
    }
    return event | changes


GATEWAYS = [rest_api, http_api, function_url, load_balancer]


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_an_event_is_accepted(gateway: Any) -> None:
    """The event is stored and its callbacks have ended when the function returns; the response is JSON."""
    receiver, called = WebhookReceiver(SECRET), []

    @receiver.on("export.ready")
    async def callback(event: Any) -> None:
        await asyncio.sleep(0)
        called.append(event)

    handler = receiver.aws_lambda
    response = handler(gateway(export_body().decode()), None)
    assert {"statusCode": 200, "headers": {}, "body": "", "isBase64Encoded": False} == response
    assert [export_event()] == called
    assert "" != asyncio.run(receiver.mailbox.position(key_of(export_event())))
    json.dumps(handler(gateway('{"event": "new"}')))


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_refusals(gateway: Any) -> None:
    """Each refusal has its status, and an empty body is no event."""
    lambda_handler = WebhookReceiver(SECRET).aws_lambda
    assert 404 == lambda_handler(gateway(export_body().decode(), f"/avaturn/{OTHER}"))["statusCode"]
    assert 413 == lambda_handler(gateway(" " * 65_537))["statusCode"]
    assert 400 == lambda_handler(gateway(None))["statusCode"]
    assert 400 == lambda_handler(gateway(""))["statusCode"]
    refused = lambda_handler(gateway("", method="GET"))
    assert (405, {"Allow": "POST"}) == (refused["statusCode"], refused["headers"])


@pytest.mark.parametrize("gateway", [rest_api, http_api, function_url])
@pytest.mark.parametrize("case", [str.title, str.lower, str.upper])
def test_headers_in_any_case(gateway: Any, case: Any) -> None:
    """Names of headers are compared without case."""
    event = gateway(export_body().decode(), headers=HEADERS | {case("content-encoding"): "gzip"})
    assert 415 == WebhookReceiver(SECRET).aws_lambda(event)["statusCode"]
    event = gateway(export_body().decode(), headers=HEADERS | {case("authorization"): "Basic YTpi"})
    assert 200 == WebhookReceiver(BasicAuth("a", "b")).aws_lambda(event)["statusCode"]


@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.parametrize("length", ["65537", "\xb2"], ids=["large", "superscript"])
def test_the_length_of_the_body_counts(gateway: Any, length: str) -> None:
    """A gateway hands over the whole body, so what the header says of it is ignored."""
    event = gateway(export_body().decode())
    name = "headers" if "headers" in event else "multiValueHeaders"
    event[name] = event[name] | {"content-length": length if name == "headers" else [length]}
    assert 200 == WebhookReceiver(SECRET).aws_lambda(event)["statusCode"]


def test_multi_value_headers() -> None:
    """A load balancer may send these alone."""
    event = load_balancer(export_body().decode(), multiValueHeaders={"Authorization": ["Basic YTpi"]})
    assert 200 == WebhookReceiver(BasicAuth("a", "b")).aws_lambda(event)["statusCode"]


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ({}, 405),
        ({"Records": []}, 405),
        (rest_api(None, headers=None, multiValueHeaders=None, requestContext=None), 400),
        (rest_api("%%%", isBase64Encoded=True), 400),
        (rest_api("\ud800"), 400),
        (rest_api(None) | {"path": None}, 404),
    ],
    ids=["empty", "queue", "nulls", "base64", "surrogate", "no-path"],
)
def test_odd_events(event: dict[str, Any], status: int) -> None:
    """Null fields and events of other sources have a response too."""
    assert status == WebhookReceiver(SECRET).aws_lambda(event)["statusCode"]
