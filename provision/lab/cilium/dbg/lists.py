"""The lists that `cilium-dbg` prints: nodes, tunnels, addresses, identities, endpoints, services."""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Address
from typing import Any

from provision.lab.cilium.dbg.forms import set_fields, table, to_json
from provision.lab.cilium.state import AgentState, EndpointEntry, IpcacheEntry, NodeEntry, ServiceEntry

_POLICY_ENABLED = {(False, False): "none", (True, False): "ingress", (False, True): "egress", (True, True): "both"}


def nodes_json(state: AgentState) -> str:
    """`node list -o json`."""
    return to_json([_node(state, node) for node in state.nodes])


def nodes_text(state: AgentState) -> str:
    """`node list`."""
    with_source = state.minor >= (1, 15)
    heading = ["Name", "IPv4 Address", "Endpoint CIDR", "IPv6 Address", "Endpoint CIDR"]
    rows = [
        [f"{node.cluster}/{node.name}", str(node.address), str(node.pod_cidr or ""), "", "", node.source.value]
        for node in sorted(state.nodes, key=lambda node: (node.cluster, node.name))
    ]
    return table([[*heading, "Source"], *rows] if with_source else [heading, *(row[:-1] for row in rows)])


def _node(state: AgentState, node: NodeEntry) -> dict[str, Any]:
    secondary = [{"address-type": "CiliumInternalIP", "ip": str(node.router)}] if node.router else []
    model = set_fields(
        name=f"{node.cluster}/{node.name}",
        primary_address={
            "ipv4": {
                "address-type": "InternalIP",
                "alloc-range": str(node.pod_cidr or ""),
                "enabled": True,
                "ip": str(node.address),
            },
            "ipv6": {},
        },
        secondary_addresses=secondary,
    )
    model["health-endpoint-address"] = {"ipv4": set_fields(enabled=bool(node.health), ip=str(node.health or ""))}
    model["ingress-address"] = {"ipv4": {}, "ipv6": {}}
    if state.minor >= (1, 15):
        model["source"] = node.source.value
    return model


def tunnels_json(state: AgentState) -> str:
    """`bpf tunnel list -o json`."""
    return to_json({str(entry.prefix.network_address): [f"{entry.endpoint}:0"] for entry in state.tunnels})


def tunnels_text(state: AgentState) -> str:
    """`bpf tunnel list`."""
    rows = [[str(entry.prefix.network_address), f"{entry.endpoint}:0"] for entry in state.tunnels]
    return table([["TUNNEL", "VALUE"], *rows])


def ipcache_json(state: AgentState) -> str:
    """`bpf ipcache list -o json`."""
    return to_json({str(entry.prefix): [_ipcache_value(state, entry)] for entry in state.ipcache})


def ipcache_text(state: AgentState) -> str:
    """`bpf ipcache list`."""
    rows = [[str(entry.prefix), _ipcache_value(state, entry)] for entry in state.ipcache]
    return table([["IP PREFIX/ADDRESS", "IDENTITY"], *rows])


def _ipcache_value(state: AgentState, entry: IpcacheEntry) -> str:
    value = f"identity={entry.identity} encryptkey=0 tunnelendpoint={entry.tunnel or IPv4Address(0)}"
    if state.minor < (1, 16):
        return value
    flags = ["hastunnel"] if entry.tunnel else []
    if entry.remote_cluster and state.minor >= (1, 19):
        flags.append("remotecluster")
    return f"{value} flags={','.join(flags) or '<none>'}"


def identities_json(state: AgentState) -> str:
    """`identity list -o json`."""
    return to_json(
        [
            {
                "id": identity.id,
                "labels": list(identity.labels),
                "labelsSHA256": hashlib.sha256("".join(f"{label};" for label in identity.labels).encode()).hexdigest(),
            }
            for identity in state.identities
        ]
    )


def identities_text(state: AgentState) -> str:
    """`identity list`."""
    rows = [["ID", "LABELS (source:key[=value])"]]
    for identity in state.identities:
        first, *others = identity.labels or ("",)
        rows += [[str(identity.id), first], *(["", label] for label in others)]
    return table(rows)


def endpoints_json(state: AgentState) -> str:
    """`endpoint list -o json`."""
    return to_json([_endpoint(state, endpoint) for endpoint in state.endpoints])


def endpoints_text(state: AgentState) -> str:
    """`endpoint list`."""
    rows = [
        ["ENDPOINT", "POLICY (ingress)", "POLICY (egress)", "IDENTITY", "LABELS (source:key[=value])", "IPv6", "IPv4"],
        ["", "ENFORCEMENT", "ENFORCEMENT", "", "", "", ""],
    ]
    rows[0].append("STATUS")
    for endpoint in state.endpoints:
        first, *others = endpoint.labels or ("",)
        enforcement = ["Enabled" if policed else "Disabled" for policed in endpoint.policed]
        numbers = [str(endpoint.id), *enforcement, str(endpoint.identity)]
        rows.append([*numbers, first, "", str(endpoint.address), endpoint.state])
        rows += [["", "", "", "", label] for label in others]
    return table(rows)


def _endpoint(state: AgentState, endpoint: EndpointEntry) -> dict[str, Any]:
    name = f"{endpoint.namespace}/{endpoint.pod}"
    return {
        "id": endpoint.id,
        "status": {
            "external-identifiers": {
                "container-id": endpoint.container,
                "k8s-namespace": endpoint.namespace,
                "k8s-pod-name": endpoint.pod,
                "pod-name": name,
            },
            "health": {"bpf": "OK", "connected": True, "overallHealth": "OK", "policy": "OK"},
            "identity": {"id": endpoint.identity, "labels": list(endpoint.labels)},
            "labels": {"security-relevant": list(endpoint.labels)},
            "networking": {
                "addressing": [{"ipv4": str(endpoint.address)}],
                "host-addressing": {"ipv4": str(state.router or "")},
                "interface-name": endpoint.device,
            },
            "policy": {"realized": {"policy-enabled": _POLICY_ENABLED[endpoint.policed]}},
            "state": endpoint.state,
        },
    }


def services_json(state: AgentState) -> str:
    """`service list -o json`."""
    return to_json([_service(service) for service in state.services])


def services_text(state: AgentState) -> str:
    """`service list`."""
    rows = [["ID", "Frontend", "Service Type", "Backend"]]
    for service in state.services:
        protocol = f"/{service.protocol}" if state.minor >= (1, 17) else ""
        backends = [
            f"{number} => {backend.address}:{backend.port}{protocol} (active)"
            for number, backend in enumerate(service.backends, 1)
        ]
        first, *others = backends or [""]
        rows.append([str(service.id), f"{service.address}:{service.port}{protocol}", "ClusterIP", first])
        rows += [["", "", "", backend] for backend in others]
    return table(rows)


def _service(service: ServiceEntry) -> dict[str, Any]:
    return {
        "spec": {
            "id": service.id,
            "frontend-address": {
                "ip": str(service.address),
                "port": service.port,
                "protocol": service.protocol,
                "scope": "external",
            },
            "backend-addresses": [
                {
                    "ip": str(backend.address),
                    "port": backend.port,
                    "protocol": service.protocol,
                    "state": "active",
                    "clusterName": backend.cluster,
                }
                for backend in service.backends
            ],
            "flags": {
                "type": "ClusterIP",
                "name": service.name,
                "namespace": service.namespace,
                "extTrafficPolicy": "Cluster",
                "intTrafficPolicy": "Cluster",
            },
        }
    }
