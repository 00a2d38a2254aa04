"""What the lab's Cilium agents enforce, against the vectors that the judges of policy are tested with, too."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml

from provision.lab.cilium.policy.known import Known
from provision.lab.cilium.policy.kubernetes import read_network_policy
from provision.lab.cilium.policy.model import Dialect, Direction
from provision.lab.cilium.policy.reading import read_policy
from provision.lab.cilium.policy.translation import LocalPod, Settings, translate
from provision.lab.policy.rules import Action, Chain, Match

VECTORS = Path(__file__).parents[2] / "analysis" / "policy" / "vectors.yaml"
READERS = {"cilium", "ccnp", "knp"}
NOT_IN_THE_LAB = {"toServices", "nodeSelector", "toFQDNs", "fromNodes", "toNodes"}
AT_THE_NODE = {"localhost", "node-to-local-pod"}
"""What a node sends to its own pods passes none of the hooks that pods' packets are policed at."""

WITH_ADDRESSES_OF_PODS = {"K8S-26b"}
"""Whether an ipBlock means pods is up to the plugin, and to Cilium it does not."""


@cache
def document() -> dict[str, Any]:
    return yaml.load(VECTORS.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def vectors() -> Iterator[Any]:
    for group in document()["flow_groups"]:
        policies = [document()["library"][each] if isinstance(each, str) else each for each in group["policies"]]
        if group["engine"] == "calico" or not {policy["kind"] for policy in policies} <= READERS:
            continue
        if any(field in repr(policies) for field in NOT_IN_THE_LAB):
            continue
        for flow in group["flows"]:
            deciders = {flow["egress"], flow["ingress"]}
            if not flow["sure"] or flow["id"] in WITH_ADDRESSES_OF_PODS or deciders & AT_THE_NODE:
                continue
            if not _of_one_node(flow, group["engine"]):
                yield pytest.param(group, policies, flow, id=flow["id"])


def _of_one_node(flow: dict[str, Any], engine: str) -> bool:
    """Kubernetes leaves open what lies between a pod and its own node; the agents do as Cilium says."""
    ends = [endpoint(flow[side]) for side in ("src", "dst")]
    nodes = {end["node"] for end in ends if "node" in end}
    return engine == "kubernetes" and len(nodes) == 1 and any(end["type"] != "pod" for end in ends)


def decides(group, policies, own, peer, direction, flow) -> bool:
    if own["type"] != "pod":
        return True
    options, cluster = group.get("options", {}), own["cluster"]
    local = group["engine"] == "kubernetes" or options.get("policyDefaultLocalCluster", True)
    dialect = Dialect(cluster, (1, 19), local)
    config = {
        "enable-policy": options.get("policyEnforcementMode", "default"),
        "policy-cidr-match-mode": options.get("policyCIDRMatchMode", ""),
    }
    specs = [
        spec for policy in policies if cluster in policy.get("clusters", ["a"]) for spec in specs_of(policy, dialect)
    ]
    ports = {(name, text.split("/")[0].lower()): int(text.split("/")[1]) for name, text in own.get("ports", {}).items()}
    pod = LocalPod(IPv4Address(own["ip"]), labels_of(own), "lxc1", ports)
    rules = translate([pod], specs, known(cluster), Settings.of(cluster, config))
    chain = getattr(rules[0], direction.value) if rules else None
    return chain is None or passes(chain, IPv4Address(peer["ip"]), flow)


def specs_of(policy, dialect):
    meta = {"name": policy["name"]} | ({"namespace": policy["ns"]} if "ns" in policy else {})
    obj = {"metadata": meta} | {key: policy[key] for key in ("spec", "specs") if key in policy}
    return [read_network_policy(obj, dialect)] if policy["kind"] == "knp" else read_policy(obj, dialect)


def passes(chain: Chain, peer: IPv4Address, flow: dict[str, Any]) -> bool:
    for rule in chain.rules:
        if matches(rule.match, peer, flow):
            return rule.action is Action.ACCEPT
    return chain.otherwise is Action.ACCEPT


def matches(match: Match, peer: IPv4Address, flow: dict[str, Any]) -> bool:
    def within(networks: frozenset[IPv4Network]) -> bool:
        return any(peer in network for network in networks)

    if (match.peers is not None and not within(match.peers)) or within(match.not_peers):
        return False
    if match.protocol is not None and match.protocol != flow["proto"].lower():
        return False
    if match.icmp_type is not None and match.icmp_type != flow.get("icmp_type", 8):
        return False
    return match.ports is None or any(first <= flow["port"] <= last for first, last in match.ports)


def endpoint(name: str) -> dict[str, Any]:
    return next(each for each in document()["fixture"]["endpoints"] if each["name"] == name)


def labels_of(each: dict[str, Any], seen_from: str = "") -> tuple[str, ...]:
    if each["type"] != "pod":
        return ("reserved:host",) if each["node"] == seen_from else ("reserved:remote-node",)
    cluster, namespace = each["cluster"], each["ns"]
    own = [f"k8s:{key}={value}" for key, value in each["labels"].items()]
    inherited = document()["fixture"]["namespaces"].get(f"{cluster}/{namespace}", {})
    own += [f"k8s:io.cilium.k8s.namespace.labels.{key}={value}" for key, value in inherited.items()]
    own += [f"k8s:io.cilium.k8s.policy.cluster={cluster}", f"k8s:io.kubernetes.pod.namespace={namespace}"]
    return tuple(sorted((*own, f"k8s:io.cilium.k8s.policy.serviceaccount={each['sa']}")))


def known(cluster: str) -> Known:
    endpoints = document()["fixture"]["endpoints"]
    insiders = [each for each in endpoints if each["type"] in ("pod", "node")]
    ports = {
        IPv4Address(each["ip"]): {
            (name, text.split("/")[0].lower()): int(text.split("/")[1]) for name, text in each["ports"].items()
        }
        for each in endpoints
        if "ports" in each and each["cluster"] == cluster
    }
    return Known({IPv4Address(each["ip"]): labels_of(each, f"{cluster}-n1") for each in insiders}, ports)


@pytest.mark.parametrize(("group", "policies", "flow"), list(vectors()))
def test_the_lab_enforces_what_the_product_does(group, policies, flow):
    source, target = endpoint(flow["src"]), endpoint(flow["dst"])
    sent = decides(group, policies, source, target, Direction.EGRESS, flow)
    taken = decides(group, policies, target, source, Direction.INGRESS, flow)
    assert (sent and taken) is (flow["verdict"] == "allow")
