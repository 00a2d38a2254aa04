"""What the node agent reports of a pod."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from kubernetes import client

from provision.lab.kube.kubelet.status import (
    ContainerState,
    PodState,
    Running,
    Terminated,
    Waiting,
    pod_phase,
    pod_status,
)

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
POD = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}}


def running(name="a", *, ready=True):
    return ContainerState(name, "image", Running(NOW), ready=ready, started=True, container_id="lab://1")


def ended(code, name="a"):
    return ContainerState(name, "image", Terminated(code, NOW, NOW), container_id="lab://1")


def waiting(name="a", *, last=None):
    return ContainerState(name, "image", Waiting("CrashLoopBackOff"), last=last)


@pytest.mark.parametrize(
    ("containers", "policy", "phase"),
    [
        ((waiting(),), "Always", "Pending"),
        ((running(),), "Always", "Running"),
        ((running(), waiting("b")), "Always", "Running"),
        ((waiting(last=Terminated(1, NOW, NOW)),), "Always", "Running"),
        ((ended(0),), "Never", "Succeeded"),
        ((ended(0),), "OnFailure", "Succeeded"),
        ((ended(0),), "Always", "Running"),
        ((ended(1),), "Never", "Failed"),
        ((ended(1),), "OnFailure", "Running"),
        ((ended(0), ended(1, "b")), "Never", "Failed"),
        ((ended(1), running("b")), "Never", "Running"),
    ],
)
def test_phase_follows_containers_and_restart_policy(containers, policy, phase):
    assert pod_phase(PodState("10.0.0.1", containers=containers), policy) == phase


def test_a_pod_waits_for_its_init_containers():
    state = PodState("10.0.0.1", init=(running("i", ready=False),), containers=(waiting(),))
    assert pod_phase(state, "Always") == "Pending"


def test_an_init_container_that_fails_for_good_fails_the_pod():
    state = PodState("10.0.0.1", init=(ended(1, "i"),), containers=(waiting(),))
    assert pod_phase(state, "Never") == "Failed"


def test_the_python_client_accepts_every_status():
    """The client's models are strict: one missing field costs the whole list."""
    states = (
        PodState("10.0.0.1", containers=(ContainerState("a", "image"),)),
        PodState("10.0.0.1", ("192.168.0.2",), NOW, (ended(0, "i"),), (running(), waiting("b")), (ended(137, "e"),)),
    )
    for state in states:
        body = {"kind": "Pod"} | POD | {"status": pod_status(POD, state, NOW)}
        pod = client.ApiClient()._ApiClient__deserialize(body, "V1Pod")
        assert pod.status.container_statuses[0].name == "a"


def test_a_condition_keeps_the_time_of_its_last_change():
    ready = PodState("10.0.0.1", ("192.168.0.2",), NOW, containers=(running(),))
    first = pod_status(POD, ready, NOW)
    unchanged = pod_status(POD | {"status": first}, ready, LATER)
    broken = PodState("10.0.0.1", ("192.168.0.2",), NOW, containers=(running(ready=False),))
    changed = pod_status(POD | {"status": first}, broken, LATER)

    def since(status, kind):
        return next(row["lastTransitionTime"] for row in status["conditions"] if row["type"] == kind)

    assert since(unchanged, "Ready") == "2026-11-22T10:00:00Z"
    assert since(changed, "Ready") == "2026-11-22T10:01:00Z"
    assert since(changed, "Initialized") == "2026-11-22T10:00:00Z"


def test_a_container_killed_by_a_signal_says_so():
    state = ended(137).as_status()["state"]["terminated"]
    assert (state["exitCode"], state["signal"], state["reason"]) == (137, 9, "Error")
