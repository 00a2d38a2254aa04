"""The fields that policy kinds have. One that they lack is a mistake: one letter too few opens a rule to everybody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias

from analysis.policy.lint.manifests import FieldPath
from analysis.policy.read import CALICO_GROUPS, CILIUM_GROUP, CLUSTER_POLICY_GROUP, KUBERNETES_GROUP

Shape: TypeAlias = "Mapping[str, Shape] | list[Mapping[str, Shape]] | None"
"""Fields of an object, of the objects of a list, or None where anything may stand."""


def _names(text: str) -> dict[str, Shape]:
    return dict.fromkeys(text.split())


_SELECTOR: Mapping[str, Shape] = {"matchLabels": None, "matchExpressions": [_names("key operator values")]}

_SIDE: Shape = {
    **_names("nets notNets selector notSelector namespaceSelector ports notPorts"),
    "serviceAccounts": _names("names selector"),
    "services": _names("name namespace"),
}
_CALICO_RULE: Mapping[str, Shape] = {
    **_names("action protocol notProtocol ipVersion"),
    "icmp": _names("type code"),
    "notICMP": _names("type code"),
    "source": _SIDE,
    "destination": _SIDE,
    "http": {"methods": None, "paths": [_names("exact prefix")]},
    "metadata": {"annotations": None},
}
_NETWORK_POLICY: Mapping[str, Shape] = {
    **_names("tier order selector types serviceAccountSelector performanceHints"),
    "ingress": [_CALICO_RULE],
    "egress": [_CALICO_RULE],
}
_GLOBAL_POLICY: Mapping[str, Shape] = {
    **_NETWORK_POLICY,
    **_names("doNotTrack preDNAT applyOnForward namespaceSelector"),
}
_STAGED: Mapping[str, Shape] = {"stagedAction": None}

_KUBERNETES_PEER: Mapping[str, Shape] = {
    "podSelector": _SELECTOR,
    "namespaceSelector": _SELECTOR,
    "ipBlock": _names("cidr except"),
}
_KUBERNETES_PORTS: Shape = [_names("protocol port endPort")]
_KUBERNETES_POLICY: Mapping[str, Shape] = {
    "podSelector": _SELECTOR,
    "policyTypes": None,
    "ingress": [{"from": [_KUBERNETES_PEER], "ports": _KUBERNETES_PORTS}],
    "egress": [{"to": [_KUBERNETES_PEER], "ports": _KUBERNETES_PORTS}],
}

_PODS: Shape = {"namespaceSelector": _SELECTOR, "podSelector": _SELECTOR}
_DESTINATION: Shape = {"destinationPort": {"number": None, "range": _names("start end")}}
_CLUSTER_RULE: Mapping[str, Shape] = {
    **_names("name action"),
    "protocols": [{"tcp": _DESTINATION, "udp": _DESTINATION, "sctp": _DESTINATION, "destinationNamedPort": None}],
}
_CLUSTER_POLICY: Mapping[str, Shape] = {
    **_names("tier priority"),
    "subject": {"namespaces": _SELECTOR, "pods": _PODS},
    "ingress": [{**_CLUSTER_RULE, "from": [{"namespaces": _SELECTOR, "pods": _PODS}]}],
    "egress": [
        {
            **_CLUSTER_RULE,
            "to": [{"namespaces": _SELECTOR, "pods": _PODS, "nodes": _SELECTOR, **_names("networks domainNames")}],
        }
    ],
}

_CIDR_SET: Shape = [{**_names("cidr except cidrGroupRef"), "cidrGroupSelector": _SELECTOR}]
_CILIUM_PORTS: Mapping[str, Shape] = {
    "toPorts": [
        {
            "ports": [_names("port endPort protocol")],
            "rules": _names("http dns kafka l7proto l7"),
            **_names("terminatingTLS originatingTLS serverNames listener"),
        }
    ],
    "icmps": [{"fields": [_names("type family")]}],
    "authentication": _names("mode"),
}


def _cilium_peers(side: str) -> dict[str, Shape]:
    return {
        f"{side}Endpoints": [_SELECTOR],
        f"{side}Requires": [_SELECTOR],
        f"{side}Nodes": [_SELECTOR],
        f"{side}CIDRSet": _CIDR_SET,
        **_names(f"{side}CIDR {side}Entities {side}Groups"),
    }


_CILIUM_INGRESS: Mapping[str, Shape] = {**_CILIUM_PORTS, **_cilium_peers("from")}
_CILIUM_EGRESS: Mapping[str, Shape] = {
    **_CILIUM_PORTS,
    **_cilium_peers("to"),
    "toServices": [
        {
            "k8sService": _names("serviceName namespace"),
            "k8sServiceSelector": {"selector": _SELECTOR, "namespace": None},
        }
    ],
    "toFQDNs": [_names("matchName matchPattern")],
}
_CILIUM_POLICY: Mapping[str, Shape] = {
    **_names("description labels log"),
    "endpointSelector": _SELECTOR,
    "nodeSelector": _SELECTOR,
    "enableDefaultDeny": _names("ingress egress"),
    "ingress": [_CILIUM_INGRESS],
    "ingressDeny": [_CILIUM_INGRESS],
    "egress": [_CILIUM_EGRESS],
    "egressDeny": [_CILIUM_EGRESS],
}

_CALICO_KINDS: Mapping[str, Mapping[str, Shape]] = {
    "GlobalNetworkPolicy": _GLOBAL_POLICY,
    "NetworkPolicy": _NETWORK_POLICY,
    "StagedGlobalNetworkPolicy": {**_GLOBAL_POLICY, **_STAGED},
    "StagedNetworkPolicy": {**_NETWORK_POLICY, **_STAGED},
    "Tier": _names("order defaultAction"),
    "GlobalNetworkSet": _names("nets"),
    "NetworkSet": _names("nets"),
    "HostEndpoint": {**_names("node interfaceName expectedIPs profiles"), "ports": [_names("name protocol port")]},
}
KINDS: Mapping[tuple[str, str], Mapping[str, Shape]] = {
    **{
        (version, kind): {"spec": spec}
        for version in (f"{CALICO_GROUPS[0]}/v3", f"{CALICO_GROUPS[1]}/v1")
        for kind, spec in _CALICO_KINDS.items()
    },
    (f"{KUBERNETES_GROUP}/v1", "NetworkPolicy"): {"spec": _KUBERNETES_POLICY},
    (f"{CLUSTER_POLICY_GROUP}/v1alpha2", "ClusterNetworkPolicy"): {"spec": _CLUSTER_POLICY},
    **{
        (f"{CILIUM_GROUP}/v2", kind): {"spec": _CILIUM_POLICY, "specs": [_CILIUM_POLICY]}
        for kind in ("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
    },
}
"""What is in the kinds, by apiVersion and kind, besides what every object has."""

_EVERY_OBJECT = _names("apiVersion kind metadata status")


def unknown_fields(document: Mapping[str, Any]) -> Iterator[tuple[FieldPath, str]]:
    """Fields that the object's kind does not have: how each is reached, and the field that was meant, "" if unclear.

    Raises:
        KeyError: the kind is none that is known.
    """
    shape: Shape = {**_EVERY_OBJECT, **KINDS[document["apiVersion"], document["kind"]]}
    yield from _unknown(document, shape, ())


def _unknown(value: Any, shape: Shape, path: FieldPath) -> Iterator[tuple[FieldPath, str]]:
    if isinstance(shape, list) and isinstance(value, list):
        for number, item in enumerate(value):
            yield from _unknown(item, shape[0], (*path, number))
    elif isinstance(shape, Mapping) and isinstance(value, Mapping):
        for key, inner in value.items():
            if key in shape:
                yield from _unknown(inner, shape[key], (*path, key))
            else:
                yield (*path, str(key)), next(iter(get_close_matches(str(key), shape, 1, cutoff=0.6)), "")
