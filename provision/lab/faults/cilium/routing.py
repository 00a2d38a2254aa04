"""Faults of route exchange (NET-ROUTE), on Cilium: what agents know, and what they put into the tunnel map."""

from __future__ import annotations

from analysis.rootcause import Layer
from provision.faults import Command, Create, Delete, Fault, Filter, Patch
from provision.lab.cilium.datapath import HOST_DEVICE, ROUTE_MTU, TUNNEL_DEVICE
from provision.lab.cilium.names import CLUSTERMESH_SECRET
from provision.lab.faults.cilium.place import (
    CONFIG,
    DEPLOYMENTS,
    EASTUS,
    EUROPE,
    IDENTITIES,
    SYSTEM,
    WESTUS,
    cilium_node,
)
from provision.lab.faults.cilium.steps import (
    AGENT,
    STORE,
    IdentitiesForgotten,
    Restarted,
    TunnelMapEntry,
    tunnel_map_says,
)
from provision.lab.faults.shared import MESH_PATHS
from provision.lab.faults.steps import (
    SecretChanged,
    object_is_gone,
    object_is_there,
    object_says,
    place,
    route_is_there,
    secret_says,
    table_is_loaded,
)
from provision.lab.topology import CILIUM_VNI, LabNode, LabRegion

_A, _B = EASTUS.nodes[0], EASTUS.nodes[1]
_WEST_A, _WEST_B = WESTUS.nodes[0], WESTUS.nodes[1]
_REPLACED = EUROPE.nodes[1]
_OLD_ADDRESS = EUROPE.plan.node_cidr[99]
_OUTSIDE = "10.200.1.7"

UNREACHED_STORE = frozenset(
    {
        "NET-ROUTE-006",
        "NET-ROUTE-007",
        "MESH-CP-002",
        "MESH-CP-003",
        "MESH-CP-004",
        "MESH-CP-005",
        "MESH-CP-006",
        "MESH-CP-007",
        "MESH-CP-008",
        "MESH-CP-009",
        "MESH-CP-012",
        "MESH-CP-018",
    }
)
"""What cannot be done, or proven, where a store is not reached: a federation that is not seen whole proves nothing."""

LOST_ON_RESTART = (
    UNREACHED_STORE
    | MESH_PATHS
    | {
        "NET-ROUTE-007",
        "NET-ROUTE-008",
        "NET-ROUTE-014",
        "NET-ROUTE-015",
        "NET-ROUTE-017",
        "NET-ROUTE-019",
        "NET-ROUTE-020",
        "NET-ROUTE-021",
        "NET-POD-008",
        "NET-POD-010",
        "NET-POD-011",
        "NET-POD-012",
        "NET-POD-013",
        "MESH-CP-008",
        "MESH-CP-010",
        "MESH-CP-011",
        "MESH-CP-015",
    }
)
"""What an agent lacks that has started without the other clusters' stores."""


def tunnel(node: LabNode, target: LabNode, vni: int = CILIUM_VNI) -> str:
    """A route that leads a node's packets into the tunnel to another, as the tunnel map has it."""
    return (
        f"encap ip id {vni} dst {target.address} via {target.address} dev {TUNNEL_DEVICE} onlink "
        f"src {node.tunnel_address} mtu {ROUTE_MTU}"
    )


def dials(region: LabRegion) -> str:
    """The port of a region's store, as settings for it write it."""
    return f":{region.store_port}"


def _addresses(internal: object, node: LabNode) -> list[dict[str, str]]:
    return [
        {"type": "InternalIP", "ip": str(internal)},
        {"type": "CiliumInternalIP", "ip": str(node.tunnel_address)},
    ]


def _moved(node: LabNode, address: object, name: str, summary: str, requirement: str, *follows: str) -> Fault:
    """A node whose tunnels are told to end elsewhere."""
    return Fault(
        name=name,
        summary=summary,
        layer=Layer.RIB,
        requirement=requirement,
        steps=(Patch(node.region, cilium_node(node), {"spec": {"addresses": _addresses(address, node)}}),),
        confirm=tunnel_map_says(_A, node.block, f"dst {address} "),
        follows=MESH_PATHS.union(
            follows,
            {
                "NET-ROUTE-009",
                "NET-ROUTE-014",
                "NET-POD-006",
                "NET-POD-008",
                "NET-POD-010",
                "NET-POD-011",
                "NET-POD-012",
                "NET-POD-013",
                "NET-ROUTE-017",
                "NET-ROUTE-021",
                "MESH-CP-010",
                "MESH-CP-011",
                "MESH-CP-012",
                "MESH-CP-015",
                "NET-DNS-012",
                "NET-MTU-005",
                "NET-UNDR-011",
            },
        )
        - {requirement},
    )


FAULTS: tuple[Fault, ...] = (
    Fault(
        name="cluster-id-used-twice",
        summary=f"{WESTUS.name} was installed with the cluster id of {EASTUS.name}",
        layer=Layer.CONTROL,
        requirement="NET-ROUTE-001",
        steps=(
            IdentitiesForgotten(WESTUS.name),
            Restarted(
                Patch(WESTUS.name, CONFIG, {"data": {"cluster-id": str(EASTUS.plan.cluster_id)}}),
                WESTUS.name,
                (AGENT,),
            ),
        ),
        confirm=object_says(WESTUS.name, CONFIG, ("data", "cluster-id"), str(EASTUS.plan.cluster_id)),
        follows=LOST_ON_RESTART,
    ),
    Fault(
        name="cluster-name-misspelt",
        summary=f"{WESTUS.name} calls itself crdb-cilium-wetsus",
        layer=Layer.CONTROL,
        requirement="NET-ROUTE-001",
        steps=(
            IdentitiesForgotten(WESTUS.name),
            Restarted(
                Patch(WESTUS.name, CONFIG, {"data": {"cluster-name": "crdb-cilium-wetsus"}}), WESTUS.name, (AGENT,)
            ),
        ),
        confirm=object_says(WESTUS.name, CONFIG, ("data", "cluster-name"), "crdb-cilium-wetsus"),
        follows=LOST_ON_RESTART,
    ),
    Fault(
        name="agent-reads-one-remote-only",
        summary=f"{_B.name} is not let through to the store of {WESTUS.name}; its agent was started since",
        layer=Layer.UNDERLAY,
        requirement="NET-ROUTE-006",
        steps=(
            Restarted(
                Filter(
                    place(_B),
                    "  chain output { type filter hook output priority -10; "
                    f"tcp dport {WESTUS.store_port} counter drop; }}",
                ),
                EASTUS.name,
                (AGENT,),
                node=_B,
            ),
        ),
        confirm=table_is_loaded(place(_B)),
        follows=LOST_ON_RESTART | {"NET-UNDR-011"},
    ),
    Fault(
        name="store-port-outdated",
        summary=f"{EASTUS.name} dials the port that the store of {WESTUS.name} had before its Service was made anew",
        layer=Layer.CONTROL,
        requirement="NET-ROUTE-007",
        steps=(
            SecretChanged(
                EASTUS.name,
                f"{SYSTEM}/secrets/{CLUSTERMESH_SECRET}",
                lambda values, _: {
                    str(WESTUS.plan.cluster_name): values[str(WESTUS.plan.cluster_name)].replace(
                        dials(WESTUS).encode(), b":32399"
                    )
                },
            ),
        ),
        confirm=secret_says(
            EASTUS.name, f"{SYSTEM}/secrets/{CLUSTERMESH_SECRET}", str(WESTUS.plan.cluster_name), b":32399"
        ),
        follows=LOST_ON_RESTART,
    ),
    Fault(
        name="tunnel-map-entry-missing",
        summary=f"the tunnel map of {_A.name} has no entry for the pods of {_WEST_A.name}",
        layer=Layer.FIB,
        requirement="NET-ROUTE-008",
        steps=(TunnelMapEntry(_A, _WEST_A.block, None),),
        confirm=tunnel_map_says(_A, _WEST_A.block, None),
        follows=MESH_PATHS | {"NET-ROUTE-010", "NET-POD-012", "NET-POD-013", "NET-POD-010", "MESH-CP-015"},
    ),
    Fault(
        name="tunnel-ends-at-the-wrong-node",
        summary=f"{_A.name} sends what is for pods of {_WEST_A.name} to {_WEST_B.name}",
        layer=Layer.FIB,
        requirement="NET-ROUTE-009",
        steps=(TunnelMapEntry(_A, _WEST_A.block, tunnel(_A, _WEST_B)),),
        confirm=tunnel_map_says(_A, _WEST_A.block, f"dst {_WEST_B.address} "),
        # The wrong node sends it on to the right one, under its own address.
        follows=MESH_PATHS
        | {"NET-ROUTE-014", "NET-POD-004", "NET-POD-007", "NET-POD-012", "NET-POD-013", "MESH-CP-015"},
    ),
    Fault(
        name="bare-on-the-underlay",
        summary=f"{_A.name} sends what is for pods of {_WEST_A.name} to its gateway, without a tunnel",
        layer=Layer.ENCAPSULATION,
        requirement="NET-ROUTE-010",
        steps=(
            TunnelMapEntry(_A, _WEST_A.block, None),
            Command(
                place(_A),
                ("ip", "route", "replace", str(_WEST_A.block), "via", str(EASTUS.gateway), "dev", "eth0"),
                (
                    *("ip", "route", "replace", str(_WEST_A.block), "via", str(_A.tunnel_address), "dev", HOST_DEVICE),
                    *("proto", "kernel", "src", str(_A.tunnel_address), "mtu", str(ROUTE_MTU)),
                ),
            ),
        ),
        confirm=lambda control: (
            "eth0" in control.run(place(_A), ["ip", "route", "get", str(_WEST_A.block[9])], check=False).out
        ),
        follows=MESH_PATHS
        | {"NET-ROUTE-008", "NET-ROUTE-009", "NET-POD-012", "NET-POD-013", "NET-MTU-005", "MESH-CP-015"},
    ),
    _moved(
        EUROPE.nodes[2],
        _OUTSIDE,
        "vtep-outside-the-mesh",
        f"{EUROPE.nodes[2].name} is told to be at {_OUTSIDE}, which is no address of the mesh",
        "NET-ROUTE-015",
        "NET-ROUTE-019",
    ),
    _moved(
        _REPLACED,
        _OLD_ADDRESS,
        "vtep-stale",
        f"{_REPLACED.name} was replaced, and everybody still tunnels to the address that it had, {_OLD_ADDRESS}",
        "NET-ROUTE-019",
    ),
    Fault(
        name="identity-of-a-misspelt-cluster",
        summary=f"{WESTUS.name} has identities that name a cluster crdb-cilium-wetsus",
        layer=Layer.RIB,
        requirement="NET-ROUTE-020",
        steps=(
            Create(
                WESTUS.name,
                IDENTITIES,
                {
                    "apiVersion": "cilium.io/v2",
                    "kind": "CiliumIdentity",
                    "metadata": {"name": str((int(str(WESTUS.plan.cluster_id)) << 16) + 60000)},
                    "security-labels": {
                        "k8s:io.cilium.k8s.policy.cluster": "crdb-cilium-wetsus",
                        "k8s:io.kubernetes.pod.namespace": "default",
                    },
                },
            ),
        ),
        confirm=object_is_there(WESTUS.name, f"{IDENTITIES}/{(int(str(WESTUS.plan.cluster_id)) << 16) + 60000}"),
        follows=frozenset({"MESH-CP-003"}),
    ),
    Fault(
        name="route-into-the-service-range",
        summary=f"{_A.name} has a route for {EASTUS.plan.service_cidr}, which every cluster has for itself",
        layer=Layer.FIB,
        requirement="NET-ROUTE-011",
        steps=(
            Command(
                place(_A),
                ("ip", "route", "add", str(EASTUS.plan.service_cidr), "via", str(EASTUS.gateway)),
                ("ip", "route", "del", str(EASTUS.plan.service_cidr), "via", str(EASTUS.gateway)),
            ),
        ),
        confirm=route_is_there(_A, EASTUS.plan.service_cidr),
    ),
    Fault(
        name="mesh-masqueraded",
        summary=f"{_B.name} masquerades whatever its pods send into a tunnel",
        layer=Layer.POLICY,
        requirement="NET-ROUTE-014",
        steps=(
            Filter(
                place(_B),
                "  chain postrouting { type nat hook postrouting priority 90; "
                f'oifname "{TUNNEL_DEVICE}" ip saddr {_B.block} counter snat ip to {_B.tunnel_address}; }}',
            ),
        ),
        confirm=table_is_loaded(place(_B)),
        follows=frozenset({"NET-POD-004"}),
    ),
    Fault(
        name="store-not-deployed",
        summary=f"{EUROPE.name} has no clustermesh API server",
        layer=Layer.CONTROL,
        requirement="NET-ROUTE-004",
        steps=(Delete(EUROPE.name, f"{DEPLOYMENTS}/{STORE}"),),
        confirm=object_is_gone(EUROPE.name, f"{DEPLOYMENTS}/{STORE}"),
        follows=LOST_ON_RESTART | {"MESH-CP-001"},
    ),
)
