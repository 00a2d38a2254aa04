"""The labels that Calico's selectors see: an object's own, those of Calico, and those of its namespace and account.

Labels of the namespace come under `pcns.`, those of the service account under `pcsa.`. A pod's own labels cannot pose
as them: Calico drops what a pod claims under these prefixes, and overwrites what it claims under `projectcalico.org/`.
"""

from __future__ import annotations

from analysis.policy.model import Endpoint, EndpointKind, NetworkSet, World

NAMESPACE = "projectcalico.org/namespace"
ORCHESTRATOR = "projectcalico.org/orchestrator"
SERVICE_ACCOUNT = "projectcalico.org/serviceaccount"
NAME = "projectcalico.org/name"
NAMESPACE_PREFIX = "pcns."
ACCOUNT_PREFIX = "pcsa."
KUBERNETES = "k8s"

_INHERITED = (NAMESPACE_PREFIX, ACCOUNT_PREFIX)


def is_selectable(endpoint: Endpoint) -> bool:
    """Whether selectors can match it: pods with a network of their own. Others are their node to policy."""
    return endpoint.kind is EndpointKind.POD


def pod_labels(pod: Endpoint, world: World) -> dict[str, str]:
    """All labels of a pod."""
    labels = _of_namespace(pod.cluster, pod.namespace, world)
    if pod.service_account:
        account = world.service_accounts.get((pod.cluster, pod.namespace, pod.service_account), {})
        labels |= {f"{ACCOUNT_PREFIX}{key}": value for key, value in account.items()}
        labels[f"{ACCOUNT_PREFIX}{NAME}"] = pod.service_account
    labels |= {key: value for key, value in pod.labels.items() if not key.startswith(_INHERITED)}
    labels |= {NAMESPACE: pod.namespace, ORCHESTRATOR: KUBERNETES}
    if pod.service_account:
        labels[SERVICE_ACCOUNT] = pod.service_account
    return labels


def network_set_labels(network_set: NetworkSet, world: World) -> dict[str, str]:
    """All labels of a network set: its own, and those of its namespace if it has one. No orchestrator made it."""
    if not network_set.namespace:
        return dict(network_set.labels)
    inherited = _of_namespace(network_set.cluster, network_set.namespace, world)
    return inherited | dict(network_set.labels) | {NAMESPACE: network_set.namespace}


def _of_namespace(cluster: str, namespace: str, world: World) -> dict[str, str]:
    own = world.namespaces.get((cluster, namespace), {})
    return {f"{NAMESPACE_PREFIX}{key}": value for key, value in own.items()} | {f"{NAMESPACE_PREFIX}{NAME}": namespace}
