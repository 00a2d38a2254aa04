"""Faults of the mesh's control plane (MESH-CP), on Calico: operator, Typha, and the federation of API servers."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from analysis.rootcause import Layer
from provision.faults import Confirm, Control, Create, Delete, Fault, Filter, Patch
from provision.lab.calico.control_plane import (
    FEDERATION_ACCOUNT,
    FEDERATION_NAMESPACE,
    KUBE_CONTROLLERS,
    TYPHA,
    TYPHA_HEALTH_PORT,
    remote_cluster_name,
)
from provision.lab.calico.seed import empty_block
from provision.lab.faults import shared
from provision.lab.faults.calico.bird import Birdcl, BirdConfig, birdcl, protocol, session_is
from provision.lab.faults.calico.place import CALICO, EAST, OHIO, WEST
from provision.lab.faults.calico.routing import CUT_OFF
from provision.lab.faults.foreign import foreign_authority_pem
from provision.lab.faults.policy import BETWEEN_REGIONS, DENIALS
from provision.lab.faults.steps import (
    SecretChanged,
    Values,
    command_succeeds,
    object_is_gone,
    object_is_there,
    object_says,
    place,
    retagged,
    runs_image_with_tag,
    secret_values,
)
from provision.lab.topology import API_SERVER_PORT

_SYSTEM = "/apis/apps/v1/namespaces/calico-system/deployments"
_BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
_OHIO_ACCESS = f"/api/v1/namespaces/calico-system/secrets/remote-cluster-secret-cluster-{OHIO.name}"
_OHIO_REMOTE = f"{CALICO}/remoteclusterconfigurations/{remote_cluster_name(OHIO.name)}"
_OHIO_API = OHIO.nodes[0].address
_STRAY_PEER = EAST.plan.node_cidr[99]
_APART = EAST.nodes[2]
"""A node that neither serves a control plane nor runs Typha."""

_ACCOUNT = {"kind": "ServiceAccount", "name": FEDERATION_ACCOUNT, "namespace": FEDERATION_NAMESPACE}
_ANYBODY = {"kind": "Group", "name": "system:unauthenticated", "apiGroup": "rbac.authorization.k8s.io"}

UNCONNECTED = (
    BETWEEN_REGIONS
    | DENIALS
    | {
        "MESH-CP-002",
        "MESH-CP-003",
        "MESH-CP-004",
        "MESH-CP-005",
        "MESH-CP-010",
        "MESH-CP-011",
        "NET-POL-012",
        "NET-POL-016",
    }
)
"""What cannot be done, or proven, with an access that is of no use: pods that have come since are not known."""


def _binding(name: str, role: str, subject: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [dict(subject)],
    }


def _kubeconfig(values: Values, section: str, entry: str, key: str, value: str | None) -> dict[str, bytes]:
    """The access with one field of its kubeconfig changed, or, for None, taken out."""
    document = json.loads(values["kubeconfig"])
    fields = document[section][0][entry]
    document[section][0][entry] = {name: each for name, each in (fields | {key: value}).items() if each is not None}
    return {"kubeconfig": json.dumps(document).encode()}


def _kubeconfig_says(section: str, entry: str, key: str, value: str | None) -> Confirm:
    def confirm(control: Control) -> bool:
        document = json.loads(secret_values(control, EAST.name, _OHIO_ACCESS)["kubeconfig"])
        return bool(document[section][0][entry].get(key) == value)

    return confirm


_STRANGE_BLOCK = empty_block(EAST.nodes[1].name, list(OHIO.plan.pod_cidr.subnets(new_prefix=OHIO.plan.block_size))[50])
_FOREIGN = b64encode(foreign_authority_pem()).decode()

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="component-without-replicas",
        summary=f"{KUBE_CONTROLLERS} of {WEST.name} was scaled down and never up again",
        layer=Layer.CONTROL,
        requirement="MESH-CP-001",
        steps=(Patch(WEST.name, f"{_SYSTEM}/{KUBE_CONTROLLERS}", {"spec": {"replicas": 0}}),),
        confirm=object_says(WEST.name, f"{_SYSTEM}/{KUBE_CONTROLLERS}", ("spec", "replicas"), 0),
    ),
    Fault(
        name="federation-token-revoked",
        summary=f"{EAST.name} holds a token for {OHIO.name} that is not valid any more",
        layer=Layer.CONTROL,
        requirement="MESH-CP-002",
        steps=(
            SecretChanged(
                EAST.name, _OHIO_ACCESS, lambda values, _: _kubeconfig(values, "users", "user", "token", "revoked")
            ),
        ),
        confirm=_kubeconfig_says("users", "user", "token", "revoked"),
        follows=UNCONNECTED,
    ),
    Fault(
        name="block-of-another-cluster",
        summary=f"the datastore of {OHIO.name} has a block of a node of {EAST.name}: two clusters wrote to one",
        layer=Layer.RIB,
        requirement="MESH-CP-003",
        steps=(Create(OHIO.name, f"{CALICO}/ipamblocks", _STRANGE_BLOCK),),
        confirm=object_is_there(OHIO.name, f"{CALICO}/ipamblocks/{_STRANGE_BLOCK['metadata']['name']}"),
        follows=frozenset({"NET-ROUTE-008", "NET-ROUTE-009", "NET-ROUTE-021"}),
    ),
    Fault(
        name="federation-account-may-write",
        summary=f"the account that other clusters use in {OHIO.name} was made an administrator",
        layer=Layer.CONTROL,
        requirement="MESH-CP-004",
        steps=(Create(OHIO.name, _BINDINGS, _binding("federation-in-a-hurry", "cluster-admin", _ACCOUNT)),),
        confirm=object_is_there(OHIO.name, f"{_BINDINGS}/federation-in-a-hurry"),
    ),
    Fault(
        name="anybody-may-write",
        summary=f"{OHIO.name} lets everybody change everything who reaches its API server",
        layer=Layer.CONTROL,
        requirement="MESH-CP-005",
        steps=(Create(OHIO.name, _BINDINGS, _binding("open-house", "cluster-admin", _ANYBODY)),),
        confirm=object_is_there(OHIO.name, f"{_BINDINGS}/open-house"),
    ),
    Fault(
        name="authority-of-another-cluster",
        summary=f"{EAST.name} verifies the API server of {OHIO.name} by an authority that did not sign for it",
        layer=Layer.CONTROL,
        requirement="MESH-CP-006",
        steps=(
            SecretChanged(
                EAST.name,
                _OHIO_ACCESS,
                lambda values, _: _kubeconfig(values, "clusters", "cluster", "certificate-authority-data", _FOREIGN),
            ),
        ),
        confirm=_kubeconfig_says("clusters", "cluster", "certificate-authority-data", _FOREIGN),
        follows=UNCONNECTED,
    ),
    Fault(
        name="remote-cluster-not-configured",
        summary=f"{EAST.name} has lost its RemoteClusterConfiguration for {OHIO.name}",
        layer=Layer.CONTROL,
        requirement="MESH-CP-008",
        steps=(Delete(EAST.name, _OHIO_REMOTE),),
        confirm=object_is_gone(EAST.name, _OHIO_REMOTE),
        follows=UNCONNECTED | {"MESH-CP-006", "MESH-CP-009", "MESH-CP-012"},
    ),
    Fault(
        name="federation-token-missing",
        summary=f"the Secret by which {EAST.name} reaches {OHIO.name} has no token in it",
        layer=Layer.CONTROL,
        requirement="MESH-CP-009",
        steps=(
            SecretChanged(
                EAST.name, _OHIO_ACCESS, lambda values, _: _kubeconfig(values, "users", "user", "token", None)
            ),
        ),
        confirm=_kubeconfig_says("users", "user", "token", None),
        follows=UNCONNECTED,
    ),
    Fault(
        name="api-server-blocked-from-one-node",
        summary=f"{_APART.name} cannot open the API server of {OHIO.name}",
        layer=Layer.UNDERLAY,
        requirement="MESH-CP-012",
        steps=(
            Filter(
                place(_APART),
                "  chain output { type filter hook output priority -10; "
                f"ip daddr {_OHIO_API} tcp dport {API_SERVER_PORT} counter drop; }}",
            ),
        ),
        confirm=command_succeeds(
            place(_APART),
            ("timeout", "1", "bash", "-c", f": < /dev/tcp/{_OHIO_API}/{API_SERVER_PORT}"),
            succeeds=False,
        ),
        follows=frozenset({"NET-UNDR-011"}),
    ),
    Fault(
        name="old-typha",
        summary=f"Typha of {OHIO.name} was left out of an upgrade long ago",
        layer=Layer.CONTROL,
        requirement="MESH-CP-014",
        steps=(retagged(OHIO.name, f"{_SYSTEM}/{TYPHA}", "v3.20.6"),),
        confirm=runs_image_with_tag(OHIO.name, f"{_SYSTEM}/{TYPHA}", "v3.20.6"),
        follows=UNCONNECTED | {"MESH-CP-001"},
    ),
    Fault(
        name="worker-of-a-neighbour-down",
        summary=f"{OHIO.nodes[2].name} has shut its session to the reflector",
        layer=Layer.SESSION,
        requirement="MESH-CP-015",
        steps=(Birdcl(OHIO.nodes[2], ("disable", protocol(OHIO.nodes[0])), ("enable", protocol(OHIO.nodes[0]))),),
        confirm=session_is(OHIO.nodes[0], protocol(OHIO.nodes[2]), up=False),
        follows=CUT_OFF | {"NET-ROUTE-005"},
    ),
    Fault(
        name="undeclared-peer",
        summary=f"somebody has told {EAST.nodes[1].name} by hand to peer with {_STRAY_PEER}",
        layer=Layer.SESSION,
        requirement="MESH-CP-016",
        steps=(
            BirdConfig(
                EAST.nodes[1],
                append=f"protocol bgp byhand {{ local as {EAST.plan.as_number}; neighbor {_STRAY_PEER} as 65001; "
                "multihop; ipv4 { import none; export none; }; }",
            ),
        ),
        confirm=lambda control: "byhand" in birdcl(control, EAST.nodes[1], "show", "protocols"),
        follows=frozenset({"MESH-CP-015"}),
    ),
    shared.second_plugin(WEST.nodes[1]),
    shared.health_script(WEST.nodes[-1], tuple(node.address for node in WEST.nodes), TYPHA_HEALTH_PORT),
    shared.no_room_after_an_outage(WEST.nodes[-1]),
)
