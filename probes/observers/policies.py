"""What network policy says: its objects in every cluster, and everything that gives them their meaning.

Each kind of object is listed on its own, so that a right that is missing for one leaves the others to be judged. Kinds
that a cluster does not have are no gap: Calico without tiers in its API is Calico all the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from http import HTTPStatus
from typing import Any

from analysis.facts import (
    Gap,
    LabelledAccount,
    LabelledNamespace,
    Policies,
    PolicyEndpoint,
    PolicyObject,
)
from analysis.plan import Cni, DatabasePlan
from probes.calico import VERSIONS, calico_group, calico_objects
from probes.cilium import cilium_objects, cilium_pods, config_map
from probes.cluster import Cluster, KubeObject
from probes.deploy import ROLE, ProbeSet, ipv4_of
from probes.errors import ApiError, ProbeError
from probes.mesh import Mesh
from probes.observers.policy_admission import offer_again
from probes.observers.policy_knowledge import read_federation, read_identities, read_network_sets
from probes.permissions import CILIUM_CONFIG
from probes.roles import PART

NETWORKING = "/apis/networking.k8s.io/v1"
CALICO_KINDS = {
    "globalnetworkpolicies": "GlobalNetworkPolicy",
    "networkpolicies": "NetworkPolicy",
    "stagedglobalnetworkpolicies": "StagedGlobalNetworkPolicy",
    "stagednetworkpolicies": "StagedNetworkPolicy",
    "tiers": "Tier",
    "globalnetworksets": "GlobalNetworkSet",
    "networksets": "NetworkSet",
    "hostendpoints": "HostEndpoint",
}
CILIUM_KINDS = {
    "ciliumnetworkpolicies": "CiliumNetworkPolicy",
    "ciliumclusterwidenetworkpolicies": "CiliumClusterwideNetworkPolicy",
    "ciliumcidrgroups": "CiliumCIDRGroup",
}
KINDS = {Cni.CALICO_BGP: CALICO_KINDS, Cni.CILIUM_CLUSTERMESH: CILIUM_KINDS}
SETTINGS = (
    "policy-default-local-cluster",
    "enable-policy",
    "allow-localhost",
    "policy-cidr-match-mode",
    "enable-host-firewall",
)
"""Settings of Cilium that change what a policy means."""

ENDED = ("Succeeded", "Failed")


def observe_policies(mesh: Mesh, _probe_set: ProbeSet) -> Policies:
    """Ask every cluster, for all parts at once; then offer it what it has once more, as a dry run."""
    plan = mesh.fleet.plan
    database = plan.database or DatabasePlan()
    readers: dict[str, Callable[[Cluster], Policies]] = {
        "objects": lambda cluster: Policies(objects=tuple(_read_objects(cluster, plan.cni)), endpoints=()),
        "endpoints": lambda cluster: Policies((), tuple(_read_endpoints(cluster, database))),
        "namespaces": lambda cluster: Policies((), (), namespaces=tuple(_read_namespaces(cluster))),
        "accounts": lambda cluster: Policies((), (), accounts=tuple(_read_accounts(cluster))),
        "settings": lambda cluster: Policies((), (), settings=tuple(_read_settings(cluster, plan.cni))),
    }
    if plan.cni is Cni.CALICO_BGP:
        readers["knowledge"] = lambda cluster: Policies(
            (), (), knowledge=(*read_federation(cluster, plan), *read_network_sets(cluster, plan))
        )
    else:
        readers["knowledge"] = lambda cluster: read_identities(cluster, plan)
    tasks = [(region, part) for region in mesh.regions for part in readers]
    told = mesh.each(tasks, lambda task: task[0], lambda cluster, task: readers[task[1]](cluster))
    seen = _joined(
        [
            *(read for _, read in told if isinstance(read, Policies)),
            *(
                Policies((), (), gaps=(Gap(region, f"{part} of network policy", str(read), (part,)),))
                for (region, part), read in told
                if isinstance(read, ProbeError)
            ),
        ]
    )
    return _joined([seen, offer_again(mesh, seen.objects)])


def _joined(parts: Iterable[Policies]) -> Policies:
    every = list(parts)
    return Policies(
        **{one.name: tuple(item for part in every for item in getattr(part, one.name)) for one in fields(Policies)}
    )


def _read_objects(cluster: Cluster, cni: Cni) -> Iterator[PolicyObject]:
    """Objects of all kinds that there are. Raises ApiError."""
    for item in cluster.items(f"{NETWORKING}/networkpolicies"):
        yield _read_object(cluster.region, item, "NetworkPolicy", "networking.k8s.io/v1")
    group = calico_group(cluster) if cni is Cni.CALICO_BGP else "cilium.io"
    version = f"{group}/{VERSIONS[group] if cni is Cni.CALICO_BGP else 'v2'}"
    for plural, kind in KINDS[cni].items():
        for item in _of_kind(cluster, cni, group, plural):
            yield _read_object(cluster.region, item, kind, str(item.get("apiVersion") or version))


def _of_kind(cluster: Cluster, cni: Cni, group: str, plural: str) -> list[KubeObject]:
    """Objects of a kind; none where the cluster does not know the kind. Raises ApiError."""
    try:
        return calico_objects(cluster, group, plural) if cni is Cni.CALICO_BGP else cilium_objects(cluster, plural)
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return []


def _read_object(region: str, item: KubeObject, kind: str, version: str) -> PolicyObject:
    metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    document = {key: value for key, value in item.items() if key != "status"}
    document |= {"apiVersion": version, "kind": kind, "metadata": metadata}
    return PolicyObject(
        region, kind, version, metadata.get("namespace", ""), metadata["name"], json.dumps(document, sort_keys=True)
    )


def _read_endpoints(cluster: Cluster, database: DatabasePlan) -> Iterator[PolicyEndpoint]:
    """Every pod that has not ended, but for those of ours that only try policy. Raises ApiError.

    Templates are read of the database's StatefulSets only: nobody else's are judged.
    """
    namespace = database.namespace(cluster.region)
    templates = {
        found["metadata"]["name"]: found["spec"]["template"]["metadata"].get("labels") or {}
        for found in _items_if_any(cluster, f"/apis/apps/v1/namespaces/{namespace}/statefulsets")
    }
    for pod in cluster.items("/api/v1/pods"):
        metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
        ours = (metadata.get("labels") or {}).get(ROLE) == PART
        if ours or status.get("phase") in ENDED or metadata.get("deletionTimestamp"):
            continue
        owner: KubeObject = next((one for one in metadata.get("ownerReferences") or () if one.get("controller")), {})
        own = metadata["namespace"] == namespace and owner.get("kind") == "StatefulSet"
        template = templates.get(owner["name"]) if own else None
        yield PolicyEndpoint(
            cluster.region,
            metadata["namespace"],
            metadata["name"],
            spec.get("nodeName") or "",
            ipv4_of(pod),
            bool(spec.get("hostNetwork")),
            _pairs(metadata.get("labels")),
            spec.get("serviceAccountName") or "",
            tuple(_ports(spec)),
            None if template is None else _pairs(template),
        )


def _items_if_any(cluster: Cluster, path: str) -> list[KubeObject]:
    """What is listed there; nothing where there is no such place, or nobody may look."""
    try:
        return cluster.items(path)
    except ApiError as error:
        if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
            raise
        return []


def _ports(spec: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    for container in spec["containers"]:
        for port in container.get("ports") or ():
            yield port.get("name") or "", port.get("protocol") or "TCP", int(port["containerPort"])


def _read_namespaces(cluster: Cluster) -> Iterator[LabelledNamespace]:
    for item in cluster.items("/api/v1/namespaces"):
        yield LabelledNamespace(cluster.region, item["metadata"]["name"], _pairs(item["metadata"].get("labels")))


def _read_accounts(cluster: Cluster) -> Iterator[LabelledAccount]:
    for item in cluster.items("/api/v1/serviceaccounts"):
        metadata = item["metadata"]
        yield LabelledAccount(cluster.region, metadata["namespace"], metadata["name"], _pairs(metadata.get("labels")))


def _read_settings(cluster: Cluster, cni: Cni) -> Iterator[tuple[str, str, str]]:
    """Settings that change what policies mean. Raises ApiError."""
    if cni is Cni.CALICO_BGP:
        for item in calico_objects(cluster, calico_group(cluster), "felixconfigurations"):
            action = (item.get("spec") or {}).get("defaultEndpointToHostAction")
            if item["metadata"]["name"] == "default" and action:
                yield cluster.region, "defaultEndpointToHostAction", str(action)
        return
    values = config_map(cluster, CILIUM_CONFIG)
    for key in SETTINGS:
        if key in values:
            yield cluster.region, key, values[key]
    for pod in cilium_pods(cluster)[:1]:
        tag = pod["spec"]["containers"][0]["image"].partition("@")[0].rpartition(":")[2]
        yield cluster.region, "version", tag.removeprefix("v")


def _pairs(labels: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((labels or {}).items()))
