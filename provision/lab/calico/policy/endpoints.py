"""Pods as Calico's policy knows them: addresses, ports, and labels of their own and inherited ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network

from provision.lab.calico.policy.objects import (
    ACCOUNT_LABEL,
    ACCOUNT_PREFIX,
    NAME_LABEL,
    NAMESPACE_LABEL,
    NAMESPACE_PREFIX,
    ORCHESTRATOR_LABEL,
)
from provision.lab.calico.policy.translate import Known
from provision.lab.kube.objects import KubeObject

Labels = Mapping[str, str]
_FINISHED = ("Succeeded", "Failed")


def endpoints(
    pods: Iterable[KubeObject], namespaces: Iterable[KubeObject], accounts: Iterable[KubeObject]
) -> Iterator[tuple[KubeObject, Known]]:
    """The pods of a cluster that are endpoints, each with what rules know of it.

    A pod in its node's network is none, nor is one without an address or one that has ended.
    """
    by_namespace = {each["metadata"]["name"]: inherited(NAMESPACE_PREFIX, each) for each in namespaces}
    by_account = {
        (each["metadata"]["namespace"], each["metadata"]["name"]): inherited(ACCOUNT_PREFIX, each) for each in accounts
    }
    for pod in pods:
        if not is_endpoint(pod):
            continue
        namespace, account = pod["metadata"]["namespace"], pod["spec"].get("serviceAccountName", "")
        known = Known(
            nets=(IPv4Network(pod["status"]["podIP"]),),
            labels={
                **by_namespace.get(namespace, {}),
                **by_account.get((namespace, account), {}),
                **_own_labels(pod, namespace, account),
            },
            ports=tuple(_ports(pod)),
        )
        yield pod, known


def is_endpoint(pod: KubeObject) -> bool:
    """Whether policy has anything to do with the pod."""
    status = pod.get("status") or {}
    return (
        not pod["spec"].get("hostNetwork")
        and bool(pod["spec"].get("nodeName"))
        and bool(status.get("podIP"))
        and status.get("phase") not in _FINISHED
    )


def what_matters(pod: KubeObject) -> object:
    """What policy depends on of all that changes in a pod."""
    address = pod["status"].get("podIP") if is_endpoint(pod) else None
    return address, pod["metadata"].get("labels"), pod["spec"].get("nodeName")


def inherited(prefix: str, owner: KubeObject) -> dict[str, str]:
    """What pods have from their namespace or their account: its labels and its name, each with a prefix."""
    labels = {**(owner["metadata"].get("labels") or {}), NAME_LABEL: owner["metadata"]["name"]}
    return {prefix + key: value for key, value in labels.items()}


def _own_labels(pod: KubeObject, namespace: str, account: str) -> dict[str, str]:
    # What only namespaces and accounts give, a pod cannot claim for itself.
    labels = pod["metadata"].get("labels") or {}
    own = {key: value for key, value in labels.items() if not key.startswith((NAMESPACE_PREFIX, ACCOUNT_PREFIX))}
    implied = {NAMESPACE_LABEL: namespace, ORCHESTRATOR_LABEL: "k8s", **({ACCOUNT_LABEL: account} if account else {})}
    return {**own, **implied}


def _ports(pod: KubeObject) -> Iterator[tuple[str, str, int]]:
    for container in pod["spec"].get("containers") or ():
        for port in container.get("ports") or ():
            if port.get("name"):
                yield port["name"], port.get("protocol", "TCP").lower(), int(port["containerPort"])
