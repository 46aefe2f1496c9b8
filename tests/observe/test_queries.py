"""The queries of the documentation, parsed, and compared with what Prometheus would scrape."""

from __future__ import annotations

import re
from typing import Any

import promql_parser
import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, generate_latest

from avaturn_async import OtelObserver
from avaturn_async.observe import CallInfo, DownloadInfo, JobInfo, WebhookInfo

from ..docs.kit import PAGES

QUERIES = re.findall(r"```promql\n(.*?)```", PAGES["observability.md"], re.DOTALL)


@pytest.fixture(scope="module")
def scraped() -> str:
    """Return what Prometheus gets of an observer that was told everything."""
    reader = PrometheusMetricReader()
    meters = MeterProvider([reader])
    observer = OtelObserver(meter_provider=meters)
    call: dict[str, Any] = {"call": 1, "method": "GET", "path": "/x", "url": "http://a/x"}
    observer.request_retried(CallInfo(**call))
    observer.call_ended(CallInfo(**call, status=500, error="ServerError"))
    job: dict[str, Any] = {"job": 1, "kind": "export", "avatar_id": None, "status": "ready", "resolved_by": "poll"}
    observer.job_polled(JobInfo(**job))
    observer.wait_ended(JobInfo(**job, wait=2))
    observer.webhook_answered(WebhookInfo(webhook=3, status=200, event="export.ready"))
    observer.download_ended(DownloadInfo(download=4, url="", received=5))
    text = generate_latest(REGISTRY).decode()
    meters.shutdown()
    return text


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_queries_of_the_documentation_work(query: str, scraped: str) -> None:
    """Each parses, and names metrics and labels that exist."""
    promql_parser.parse(query)
    text = re.sub(r'"[^"]*"|\[\w+\]', "", query)
    metrics = set(re.findall(r"\bavaturn_\w+_(?:bucket|count|total)\b", text))
    assert metrics
    labels = set(re.findall(r"\b(?:le|avaturn_(?:kind|outcome|resolved_by|path)|http_\w+|error_type)\b", text))
    for metric in metrics:
        assert re.search(rf"^{metric}\b", scraped, re.MULTILINE), metric
    assert [] == [label for label in labels if f'{label}="' not in scraped]
