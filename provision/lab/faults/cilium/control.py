"""Faults of the mesh's control plane (MESH-CP), on Cilium: the stores, who may use them, and the agents' settings."""

from __future__ import annotations

from typing import Any

from analysis.rootcause import Layer
from provision.faults import Create, Fault, Filter, Patch, Step
from provision.lab.cilium.names import ADMIN_SECRET, CLUSTERMESH_SECRET, REMOTE_SECRET, SERVER_SECRET
from provision.lab.cilium.settings import FOLDER
from provision.lab.faults import shared
from provision.lab.faults.cilium.place import CONFIG, DEPLOYMENTS, EASTUS, EUROPE, SYSTEM, WESTUS
from provision.lab.faults.cilium.routing import LOST_ON_RESTART, UNREACHED_STORE
from provision.lab.faults.cilium.steps import AGENT, STORE, EntryInStore, Restarted
from provision.lab.faults.foreign import foreign_authority_pem, foreign_certificate
from provision.lab.faults.shared import PODS, stray_pod
from provision.lab.faults.steps import (
    SecretChanged,
    command_succeeds,
    object_is_there,
    object_says,
    place,
    secret_says,
    secret_values,
    started_without,
    table_is_loaded,
)
from provision.lab.topology import API_SERVER_PORT

_SECRETS = f"{SYSTEM}/secrets"
_WEST = str(WESTUS.plan.cluster_name)
_MISSPELT = "crdb-cilium-wetsus"
_OPERATOR = f"{DEPLOYMENTS}/cilium-operator"
_STORE = f"{DEPLOYMENTS}/{STORE}"
_A, _B = EASTUS.nodes[0], EASTUS.nodes[1]
_ILL = EUROPE.nodes[1]
_NO_STORE = UNREACHED_STORE | {
    "MESH-CP-001",
    "MESH-CP-010",
    "MESH-CP-011",
    "NET-ROUTE-004",
    "NET-ROUTE-017",
    "NET-ROUTE-021",
}


def _settings(**changes: bytes | None) -> Step:
    """Other settings in the first region for the other clusters."""
    return SecretChanged(EASTUS.name, f"{_SECRETS}/{CLUSTERMESH_SECRET}", lambda _values, _control: changes)


def _tunnel_protocol(protocol: str) -> Patch:
    return Patch(WESTUS.name, CONFIG, {"data": {"tunnel-protocol": protocol}})


def _host_port(pod: dict[str, Any], port: int) -> dict[str, Any]:
    pod["spec"]["containers"][0]["ports"] = [{"containerPort": port, "hostPort": port, "protocol": "TCP"}]
    return pod


FAULTS: tuple[Fault, ...] = (
    Fault(
        name="component-without-replicas",
        summary=f"the operator of {EUROPE.name} was scaled down and never up again",
        layer=Layer.CONTROL,
        requirement="MESH-CP-001",
        steps=(Patch(EUROPE.name, _OPERATOR, {"spec": {"replicas": 0}}),),
        confirm=object_says(EUROPE.name, _OPERATOR, ("spec", "replicas"), 0),
    ),
    Fault(
        name="store-down",
        summary=f"the store of {EUROPE.name} is down; data flows on",
        layer=Layer.CONTROL,
        requirement="MESH-CP-002",
        steps=(Patch(EUROPE.name, _STORE, {"spec": {"replicas": 0}}),),
        confirm=command_succeeds(
            place(_A),
            ("timeout", "1", "bash", "-c", f": < /dev/tcp/{EUROPE.nodes[0].address}/{EUROPE.store_port}"),
            succeeds=False,
        ),
        follows=_NO_STORE,
    ),
    Fault(
        name="foreign-entries-in-a-store",
        summary=f"the store of {WESTUS.name} holds a node of a cluster that is not of the mesh",
        layer=Layer.RIB,
        requirement="MESH-CP-003",
        steps=(EntryInStore(WESTUS, "cilium/state/nodes/v1/crdb-cilium-test/node1", "{}"),),
        confirm=lambda _: True,
        follows=frozenset({"NET-ROUTE-019"}),
    ),
    Fault(
        name="remote-may-write",
        summary=f"{EASTUS.name} was given the administrator's certificate for the store of {WESTUS.name}",
        layer=Layer.CONTROL,
        requirement="MESH-CP-004",
        steps=(
            SecretChanged(
                EASTUS.name,
                f"{_SECRETS}/{CLUSTERMESH_SECRET}",
                lambda values, control: {
                    "admin.crt": secret_values(control, WESTUS.name, f"{_SECRETS}/{ADMIN_SECRET}")["tls.crt"],
                    "admin.key": secret_values(control, WESTUS.name, f"{_SECRETS}/{ADMIN_SECRET}")["tls.key"],
                    _WEST: values[_WEST]
                    .replace(b"common-etcd-client.crt", b"admin.crt")
                    .replace(b"common-etcd-client.key", b"admin.key"),
                },
            ),
        ),
        confirm=secret_says(EASTUS.name, f"{_SECRETS}/{CLUSTERMESH_SECRET}", _WEST, f"{FOLDER}/admin.key".encode()),
    ),
    Fault(
        name="store-open-to-everybody",
        summary=f"the store of {WESTUS.name} was started without asking for client certificates",
        layer=Layer.CONTROL,
        requirement="MESH-CP-005",
        steps=(started_without(WESTUS.name, _STORE, "etcd", "--client-cert-auth", "--trusted-ca-file"),),
        confirm=command_succeeds(
            place(_A),
            (
                *("curl", "--silent", "--insecure", "--max-time", "2", "--output", "/dev/null"),
                f"https://{WESTUS.nodes[0].address}:{WESTUS.store_port}/version",
            ),
        ),
        follows=_NO_STORE | LOST_ON_RESTART,
    ),
    Fault(
        name="store-certificate-of-another-authority",
        summary=f"the store of {WESTUS.name} shows a certificate that another authority has issued",
        layer=Layer.CONTROL,
        requirement="MESH-CP-006",
        steps=(
            Restarted(
                SecretChanged(
                    WESTUS.name,
                    f"{_SECRETS}/{SERVER_SECRET}",
                    lambda _values, _control: dict(
                        zip(("tls.crt", "tls.key"), foreign_certificate([WESTUS.store_host]), strict=True)
                    ),
                ),
                WESTUS.name,
                (STORE,),
            ),
        ),
        confirm=object_is_there(WESTUS.name, _STORE),
        follows=_NO_STORE,
    ),
    Fault(
        name="authority-not-shared",
        summary=f"{EASTUS.name} was installed with an authority of its own and trusts no other",
        layer=Layer.CONTROL,
        requirement="MESH-CP-007",
        steps=(
            SecretChanged(
                EASTUS.name,
                f"{_SECRETS}/{REMOTE_SECRET}",
                lambda _values, _control: {"ca.crt": foreign_authority_pem()},
            ),
        ),
        confirm=secret_says(EASTUS.name, f"{_SECRETS}/{REMOTE_SECRET}", "ca.crt", foreign_authority_pem()),
        follows=_NO_STORE,
    ),
    Fault(
        name="remote-name-misspelt",
        summary=f"{EASTUS.name} has settings for {_MISSPELT}, and none for {_WEST}",
        layer=Layer.CONTROL,
        requirement="MESH-CP-008",
        steps=(
            SecretChanged(
                EASTUS.name,
                f"{_SECRETS}/{CLUSTERMESH_SECRET}",
                lambda values, _: {_MISSPELT: values[_WEST], _WEST: None},
            ),
        ),
        confirm=secret_says(EASTUS.name, f"{_SECRETS}/{CLUSTERMESH_SECRET}", _MISSPELT, b"endpoints"),
        follows=LOST_ON_RESTART | {"MESH-CP-007", "MESH-CP-009"},
    ),
    Fault(
        name="client-key-missing",
        summary=f"{EASTUS.name} has a certificate for the stores of the others, and no key to it",
        layer=Layer.CONTROL,
        requirement="MESH-CP-009",
        steps=(SecretChanged(EASTUS.name, f"{_SECRETS}/{REMOTE_SECRET}", lambda _values, _control: {"tls.key": b""}),),
        confirm=lambda control: not secret_values(control, EASTUS.name, f"{_SECRETS}/{REMOTE_SECRET}")["tls.key"],
        follows=_NO_STORE,
    ),
    Fault(
        name="store-blocked-from-one-node",
        summary=f"{_A.name} drops new connections to the store of {WESTUS.name}; the one that stands goes on",
        layer=Layer.UNDERLAY,
        requirement="MESH-CP-012",
        steps=(
            Filter(
                place(_A),
                "  chain output { type filter hook output priority -10; "
                f"tcp dport {WESTUS.store_port} tcp flags & (syn | ack) == syn counter drop; }}",
            ),
        ),
        confirm=table_is_loaded(place(_A)),
        follows=UNREACHED_STORE - {"MESH-CP-012"} | {"NET-UNDR-011"},
    ),
    Fault(
        name="api-server-blocked-from-one-node",
        summary=f"{_B.name} cannot open the API server of its own cluster",
        layer=Layer.UNDERLAY,
        requirement="NET-ROUTE-005",
        steps=(
            Filter(
                place(_B),
                "  chain output { type filter hook output priority -10; "
                f"ip daddr {_A.address} tcp dport {API_SERVER_PORT} counter drop; }}",
            ),
        ),
        confirm=command_succeeds(
            place(_B),
            ("timeout", "1", "bash", "-c", f": < /dev/tcp/{_A.address}/{API_SERVER_PORT}"),
            succeeds=False,
        ),
        follows=frozenset({"MESH-CP-001", "NET-UNDR-018"}),
    ),
    Fault(
        name="store-on-the-port-of-etcd",
        summary=f"a load balancer's pod has taken port 2379 of {_B.name}, where the cluster's own etcd serves",
        layer=Layer.CONTROL,
        requirement="MESH-CP-013",
        steps=(Create(EASTUS.name, PODS, _host_port(stray_pod(_B, "svclb-clustermesh-apiserver"), 2379)),),
        confirm=object_says(EASTUS.name, f"{PODS}/svclb-clustermesh-apiserver", ("status", "phase"), "Running"),
    ),
    Fault(
        name="tunnel-protocols-differ",
        summary=f"{WESTUS.name} was set to Geneve, the others have VXLAN",
        layer=Layer.ENCAPSULATION,
        requirement="MESH-CP-014",
        steps=(Restarted(_tunnel_protocol("geneve"), WESTUS.name, (AGENT,)),),
        confirm=object_says(WESTUS.name, CONFIG, ("data", "tunnel-protocol"), "geneve"),
        follows=LOST_ON_RESTART | {"NET-ROUTE-010", "NET-POD-006", "NET-ROUTE-009", "NET-MTU-006"},
    ),
    Fault(
        name="health-port-blocked",
        summary=f"{_ILL.name} does not answer the health probes of the agents",
        layer=Layer.UNDERLAY,
        requirement="MESH-CP-015",
        steps=(
            Filter(
                place(_ILL),
                "  chain input { type filter hook input priority -10; "
                "tcp dport 4240 counter drop; icmp type echo-request counter drop; }",
            ),
        ),
        confirm=command_succeeds(place(_A), ("ping", "-c", "1", "-W", "1", str(_ILL.address)), succeeds=False),
        follows=frozenset({"NET-POD-012", "NET-UNDR-006", "NET-UNDR-018"}),
    ),
    shared.second_plugin(EUROPE.nodes[1]),
    shared.health_script(EUROPE.nodes[-1], tuple(node.address for node in EUROPE.nodes), EUROPE.store_port),
    Fault(
        name="store-cannot-be-filled-again",
        summary=f"the administrator's certificate of {EUROPE.name}'s store is no good; its connection of old goes on",
        layer=Layer.SERVICE,
        requirement="MESH-CP-011",
        steps=(
            SecretChanged(
                EUROPE.name,
                f"{_SECRETS}/{ADMIN_SECRET}",
                lambda _values, _control: dict(
                    zip(("tls.crt", "tls.key"), foreign_certificate(["admin"]), strict=True)
                ),
            ),
        ),
        confirm=object_is_there(EUROPE.name, f"{_SECRETS}/{ADMIN_SECRET}"),
        follows=frozenset({"MESH-CP-010"}),
    ),
    Fault(
        name="global-service-of-one-cluster",
        summary=f"a service of {EASTUS.name} was made global, and no other cluster has it",
        layer=Layer.SERVICE,
        requirement="MESH-CP-018",
        steps=(
            Create(
                EASTUS.name,
                shared.SERVICES,
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": {"name": "everywhere", "annotations": {"service.cilium.io/global": "true"}},
                    "spec": {"ports": [{"port": 80}], "selector": {"app": "nobody"}},
                },
            ),
        ),
        confirm=object_is_there(EASTUS.name, f"{shared.SERVICES}/everywhere"),
    ),
    Fault(
        name="server-without-a-vote",
        summary=f"{_B.name} is a server whose etcd has no vote",
        layer=Layer.CONTROL,
        requirement="MESH-CP-019",
        steps=(
            Patch(
                EASTUS.name,
                f"/api/v1/nodes/{_B.name}/status",
                {
                    "status": {
                        "conditions": [
                            {"type": "Ready", "status": "True", "reason": "KubeletReady"},
                            {"type": "EtcdIsVoter", "status": "False", "reason": "MemberIsLearner"},
                        ]
                    }
                },
            ),
        ),
        confirm=lambda control: "MemberIsLearner" in str(control.get(EASTUS.name, f"/api/v1/nodes/{_B.name}")),
    ),
)
