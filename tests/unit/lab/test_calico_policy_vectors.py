"""What the lab's Felix makes of policies, by the same vectors as the judges: it shares no code with them."""

from ipaddress import IPv4Address

import pytest

from analysis.policy.model import Endpoint, EndpointKind, Engine, World
from provision.lab.calico.policy.endpoints import endpoints, inherited
from provision.lab.calico.policy.kubernetes import read_network_policy
from provision.lab.calico.policy.objects import (
    NAMESPACE_LABEL,
    NAMESPACE_PREFIX,
    read_network_set,
    read_policy,
    read_tier,
    standing_tiers,
)
from provision.lab.calico.policy.translate import LocalPod, Translation, known_set
from provision.lab.policy.rules import Action, Chain, Match
from tests.unit.analysis.policy.vectors import flow_vectors

HOSTS = (EndpointKind.NODE, EndpointKind.HOST_POD)
KINDS = {"gnp": read_policy, "np": read_policy, "knp": read_network_policy}


def _pod(endpoint: Endpoint):
    ports = [{"name": name, "protocol": proto.value, "containerPort": port} for name, proto, port in endpoint.ports]
    return {
        "metadata": {"name": endpoint.name, "namespace": endpoint.namespace, "labels": dict(endpoint.labels)},
        "spec": {
            "nodeName": endpoint.node,
            "serviceAccountName": endpoint.service_account,
            "containers": [{"ports": ports}],
        },
        "status": {"podIP": str(endpoint.address), "phase": "Running"},
    }


def _named(name, labels, namespace=None):
    return {"metadata": {"name": name, "labels": dict(labels), **({"namespace": namespace} if namespace else {})}}


def _cluster(world: World, cluster: str):
    pods = [_pod(each) for each in world.endpoints if each.kind is EndpointKind.POD and each.cluster == cluster]
    namespaces = [_named(name, labels) for (where, name), labels in world.namespaces.items() if where == cluster]
    accounts = [
        _named(name, labels, namespace)
        for (where, namespace, name), labels in world.service_accounts.items()
        if where == cluster
    ]
    return pods, namespaces, accounts


def _translation(world: World, cluster: str):
    local = list(endpoints(*_cluster(world, cluster)))
    known = [each for _, each in local]
    if world.options.federation:
        others = {each.cluster for each in world.endpoints} - {cluster, ""}
        known += [each for other in others for _, each in endpoints(*_cluster(world, other))]
    own_namespaces = {
        each["metadata"]["name"]: inherited(NAMESPACE_PREFIX, each) for each in _cluster(world, cluster)[1]
    }
    for each in world.network_sets:
        if each.cluster == cluster:
            found = read_network_set(
                _named(each.name, each.labels, each.namespace) | {"spec": {"nets": list(each.nets)}}
            )
            owner = own_namespaces[each.namespace] | {NAMESPACE_LABEL: each.namespace} if each.namespace else {}
            known.append(known_set(found, owner))
    tiers = [
        read_tier(_named(each.name, {}) | {"spec": {"order": each.order, "defaultAction": each.default_action}})
        for each in world.tiers
        if each.cluster == cluster
    ]
    policies = [
        KINDS[each.kind.value](_named(each.name, {}, each.namespace) | {"spec": dict(each.specs[0])})
        for each in world.policies
        if each.cluster == cluster and each.kind.value != "sgnp"
    ]
    translation = Translation(
        standing_tiers() | {tier.name: tier for tier in tiers}, [each for each in policies if each], known
    )
    return translation, {pod["metadata"]["name"]: each for pod, each in local}


def _allows(chain: Chain | None, peer: IPv4Address, flow) -> bool:
    while chain is not None:
        action = next((rule.action for rule in chain.rules if _matches(rule.match, peer, flow)), chain.otherwise)
        if action is not Action.PASS:
            return action is Action.ACCEPT
        chain = chain.then
    return True


def _matches(match: Match, peer: IPv4Address, flow) -> bool:
    protocol = flow.protocol.value.lower()
    with_ports = protocol in ("tcp", "udp", "sctp")

    def within(ranges, port):
        return with_ports and any(first <= port <= last for first, last in ranges)

    return (
        (match.peers is None or any(peer in net for net in match.peers))
        and not any(peer in net for net in match.not_peers)
        and match.protocol in (None, protocol)
        and match.not_protocol != protocol
        and (match.ports is None or within(match.ports, flow.port))
        and not within(match.not_ports, flow.port)
        and (match.source_ports is None or within(match.source_ports, flow.source_port))
        and match.icmp_type in (None, flow.icmp_type)
        and match.icmp_code in (None, flow.icmp_code)
    )


def _end(world: World, policed: Endpoint, other: Endpoint, flow, *, outwards: bool) -> bool:
    if policed.kind is not EndpointKind.POD:
        return True
    if other.kind in HOSTS and other.node == policed.node:
        if not outwards:
            return True
        if world.options.default_endpoint_to_host_action == "Drop":
            return False
    translation, local = _translation(world, policed.cluster)
    pod = translation.pod(LocalPod(policed.node, "cali1", policed.address, local[policed.name]))
    return _allows(pod.egress if outwards else pod.ingress, other.address, flow)


def _vectors():
    for vector in flow_vectors(Engine.CALICO):
        kinds = {policy.kind.value for policy in vector.world.policies}
        # Host endpoints, Services in rules and ClusterNetworkPolicy are not played.
        if kinds <= {*KINDS, "sgnp"} and not vector.world.host_endpoints and not vector.world.services:
            yield pytest.param(vector, id=vector.id)


@pytest.mark.parametrize("vector", list(_vectors()))
def test_a_flow_gets_through_as_calico_says(vector):
    world, flow = vector.world, vector.flow
    leaves = _end(world, flow.source, flow.target, flow, outwards=True)
    arrives = _end(world, flow.target, flow.source, flow, outwards=False)
    assert (leaves and arrives) is vector.allowed
