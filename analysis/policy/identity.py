"""What policy engines know of the owner of an address: labels, in one flat space of keys like that of Cilium.

A pod has its own labels, and those that say its namespace, the namespace's labels, its service account and cluster.
Whatever is no pod has one reserved label: it is the policed pod's own node, another node, or the world. Selectors of
Kubernetes NetworkPolicy read in the same space: that of a namespace is one over `NAMESPACE_LABELS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from analysis.policy.label_selector import Operator, Selector, exists, read_selector
from analysis.policy.model import Endpoint, EndpointKind, World

NAMESPACE = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS = "io.cilium.k8s.namespace.labels."
CLUSTER = "io.cilium.k8s.policy.cluster"
SERVICE_ACCOUNT = "io.cilium.k8s.policy.serviceaccount"
RESERVED = "reserved:"
HOST = RESERVED + "host"
REMOTE_NODE = RESERVED + "remote-node"
WORLD = RESERVED + "world"

_HOST_LABELS = {HOST: ""}
_REMOTE_NODE_LABELS = {REMOTE_NODE: ""}
_WORLD_LABELS = {WORLD: "", RESERVED + "world-ipv4": ""}


class Identities:
    """The labels of a world's endpoints, made once for each."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pods: dict[int, tuple[Endpoint, Mapping[str, str]]] = {}

    def of(self, endpoint: Endpoint, policed: Endpoint) -> Mapping[str, str]:
        """Labels of an endpoint, as the engine on the node of the policed one knows it."""
        if endpoint.kind is EndpointKind.POD:
            return self.of_pod(endpoint)
        if endpoint.kind is EndpointKind.EXTERNAL:
            return _WORLD_LABELS
        return _HOST_LABELS if same_node(endpoint, policed) else _REMOTE_NODE_LABELS

    def of_pod(self, pod: Endpoint) -> Mapping[str, str]:
        """Labels of a pod, which are the same seen from anywhere."""
        known = self._pods.get(id(pod))
        if known is None or known[0] is not pod:
            known = self._pods[id(pod)] = (pod, self._labels(pod))
        return known[1]

    def cluster_name(self, cluster: str) -> str:
        """What the mesh calls a cluster."""
        return self._world.options.cluster_names.get(cluster, cluster)

    def _labels(self, pod: Endpoint) -> Mapping[str, str]:
        namespace = self._world.namespaces.get((pod.cluster, pod.namespace), {})
        return {
            **pod.labels,
            **{NAMESPACE_LABELS + key: value for key, value in namespace.items()},
            NAMESPACE: pod.namespace,
            CLUSTER: self.cluster_name(pod.cluster),
            **({SERVICE_ACCOUNT: pod.service_account} if pod.service_account else {}),
        }


def same_node(one: Endpoint, other: Endpoint) -> bool:
    """Whether both are, or are on, the same node."""
    return bool(one.node) and (one.cluster, one.node) == (other.cluster, other.node)


def pods_of(namespaces: Mapping[str, Any] | None, pods: Mapping[str, Any] | None) -> Selector:
    """Pods by the API's selectors of their namespace and of themselves. Who has no namespace is no pod: never meant."""
    return (exists(NAMESPACE), *read_selector(namespaces, NAMESPACE_LABELS), *read_selector(pods))


class PodIndex:
    """Pods by their labels, so that few are looked at to find those that a selector means."""

    def __init__(self, pods: Iterable[Endpoint], identities: Identities) -> None:
        self._pods = [(pod, identities.of_pod(pod)) for pod in pods if pod.kind is EndpointKind.POD]
        self._by_label: dict[tuple[str, str], list[int]] = {}
        for number, (_, labels) in enumerate(self._pods):
            for pair in labels.items():
                self._by_label.setdefault(pair, []).append(number)

    def selected(self, selector: Selector) -> Iterable[Endpoint]:
        """The pods that it means, in the order that they were given."""
        wanted = [requirement for requirement in selector if requirement.operator is Operator.IN]
        by_label: list[list[int]] = [
            [number for value in each.values for number in self._by_label.get((each.key, value), ())] for each in wanted
        ]
        candidates = min(by_label, key=len) if by_label else range(len(self._pods))
        for number in sorted(candidates):
            pod, labels = self._pods[number]
            if all(requirement.matches(labels) for requirement in selector):
                yield pod
