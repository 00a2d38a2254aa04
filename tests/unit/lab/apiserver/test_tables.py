"""What `kubectl get` prints."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from provision.lab.kube.apiserver.resources import BUILTIN, PODS
from provision.lab.kube.apiserver.tables import age, table

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(seconds=3), "3s"),
        (timedelta(seconds=119), "119s"),
        (timedelta(minutes=2), "2m"),
        (timedelta(minutes=5, seconds=3), "5m3s"),
        (timedelta(minutes=59), "59m"),
        (timedelta(hours=7), "7h"),
        (timedelta(days=3), "3d"),
        (timedelta(seconds=-1), "0s"),
    ],
)
def test_age(span, text):
    assert age((NOW - span).strftime("%Y-%m-%dT%H:%M:%SZ"), NOW) == text


def cells(pod: dict) -> list:
    metadata = {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"}
    row = {"metadata": metadata, "spec": {"containers": [{"name": "c"}]}} | pod
    return table(PODS, [row], revision="1")["rows"][0]["cells"]


def test_pod_status_is_the_reason_of_a_container_that_does_not_run():
    assert cells({"status": {"phase": "Running"}})[1:3] == ["0/1", "Running"]
    waiting = {"name": "c", "ready": False, "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    row = cells({"status": {"phase": "Running", "containerStatuses": [waiting]}})
    assert row[1:4] == ["0/1", "CrashLoopBackOff", "2"]


@pytest.mark.parametrize("resource", BUILTIN, ids=lambda resource: resource.plural)
def test_every_kind_can_be_shown_even_without_status(resource):
    spec = {"containers": [], "template": {"spec": {"containers": []}}}
    shown = table(resource, [{"metadata": {"name": "x"}, "spec": spec}], revision="1")
    assert len(shown["rows"][0]["cells"]) == len(shown["columnDefinitions"])
