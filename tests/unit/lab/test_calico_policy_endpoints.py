"""What Calico's policy knows of pods, and for how long it knows those of other clusters."""

from ipaddress import IPv4Network

import pytest

from provision.lab.calico.policy.endpoints import endpoints
from provision.lab.calico.policy.remote import RemotePods
from provision.lab.kube.client import NAMESPACES, NODES, PODS, SERVICE_ACCOUNTS, ChangeKind

NAMESPACE = {"metadata": {"name": "web", "labels": {"team": "front"}}}
ACCOUNT = {"metadata": {"name": "shop", "namespace": "web", "labels": {"tier": "1"}}}


def pod(address="10.0.0.1", *, name="a", labels=None, phase="Running", **spec):
    return {
        "metadata": {"name": name, "namespace": "web", "labels": labels or {"app": "a"}},
        "spec": {"nodeName": "n", "serviceAccountName": "shop", **spec},
        "status": {"podIP": address, "phase": phase},
    }


def known(*pods):
    return [each for _, each in endpoints(pods, [NAMESPACE], [ACCOUNT])]


def test_a_pod_has_its_own_labels_and_those_of_its_namespace_and_its_account():
    (found,) = known(pod())
    assert found.nets == (IPv4Network("10.0.0.1"),)
    assert found.labels == {
        "app": "a",
        "projectcalico.org/namespace": "web",
        "projectcalico.org/orchestrator": "k8s",
        "projectcalico.org/serviceaccount": "shop",
        "pcns.team": "front",
        "pcns.projectcalico.org/name": "web",
        "pcsa.tier": "1",
        "pcsa.projectcalico.org/name": "shop",
    }


def test_a_pod_cannot_claim_what_only_its_namespace_gives():
    (found,) = known(pod(labels={"pcns.team": "root", "projectcalico.org/namespace": "kube-system"}))
    assert (found.labels["pcns.team"], found.labels["projectcalico.org/namespace"]) == ("front", "web")


@pytest.mark.parametrize("gone", [pod(hostNetwork=True), pod(address=""), pod(phase="Succeeded"), pod(nodeName="")])
def test_what_is_no_endpoint_is_not_known(gone):
    assert known(gone) == []


def test_ports_have_names_and_protocols():
    ports = [{"name": "dns", "protocol": "UDP", "containerPort": 53}, {"containerPort": 80}]
    (found,) = known(pod(containers=[{"ports": ports}]))
    assert found.ports == (("dns", "udp", 53),)


@pytest.fixture
def remote():
    pods = RemotePods()
    pods.replace("ohio", {PODS: (pod(),), NAMESPACES: (NAMESPACE,), SERVICE_ACCOUNTS: (ACCOUNT,), NODES: ()})
    return pods


def addresses(remote):
    return {str(net.network_address) for each in remote for net in each.nets}


def test_pods_of_another_cluster_come_and_go_as_its_watch_tells(remote):
    remote.take("ohio", PODS, ChangeKind.ADDED, pod("10.0.0.2", name="b"))
    assert addresses(remote) == {"10.0.0.1", "10.0.0.2"}
    remote.take("ohio", PODS, ChangeKind.DELETED, pod())
    assert addresses(remote) == {"10.0.0.2"}


def test_only_what_policy_depends_on_is_told(remote):
    told = []
    remote.on_change(lambda: told.append(1))
    remote.take("ohio", PODS, ChangeKind.MODIFIED, pod() | {"other": "news"})
    assert told == []
    remote.take("ohio", PODS, ChangeKind.MODIFIED, pod("10.0.0.9"))
    assert told == [1]


def test_a_cluster_that_is_forgotten_has_no_pods(remote):
    remote.forget("ohio")
    assert list(remote) == []
