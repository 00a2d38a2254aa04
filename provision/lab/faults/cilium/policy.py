"""Faults of Cilium's policy objects, and of how its agents hold to them (NET-POL)."""

from __future__ import annotations

from typing import Any

from analysis.rootcause import Layer
from provision.faults import Create, Delete, Fault, Patch, Step
from provision.lab.cilium.isolation import CLUSTER_KEY, NAMESPACE_KEY
from provision.lab.cilium.keys import NAMESPACE_ANNOTATION
from provision.lab.faults.cilium.place import CILIUM, CONFIG, EASTUS, EUROPE, LAB, WESTUS
from provision.lab.faults.cilium.policy_steps import (
    FROM_CLIENTS,
    FROM_DATABASE,
    POLICIES,
    POLICY,
    TO_DATABASE,
    TO_DNS,
    a_peer_is_lost,
    api_has,
    changed,
    comment,
    denial,
    for_a_scraper,
    line_says,
    misspelt_as_applied,
    node_lacks,
    node_says,
    of_any_protocol,
    of_anybody,
    of_no_cluster,
    only_dns,
    polices_nothing,
    unless,
    with_port,
    without,
    without_port,
)
from provision.lab.faults.cilium.steps import AGENT, Restarted
from provision.lab.faults.policy import DENIALS, others_closed, restarted_member_stopped
from provision.lab.faults.steps import object_is_there
from provision.lab.topology import LabRegion

_STRAY_PORT = "26258"
_NAMESPACED = f"{CILIUM}/namespaces/{EASTUS.name}/ciliumnetworkpolicies"

DATABASE_SHUT_OUT = frozenset(
    {
        "DB-FORM-001",
        "DB-FORM-002",
        "DB-FORM-004",
        "DB-FORM-010",
        "DB-FORM-011",
        "DB-FORM-012",
        "DB-FORM-014",
        "DB-FORM-018",
        "DB-FORM-019",
        "DB-FORM-022",
        "DB-SURV-012",
        "NET-POL-010",
        "NET-POL-021",
    }
)
"""What a database tells of that cannot talk to itself, to its store, or to DNS."""


def _restarted(region: LabRegion, **settings: str) -> Step:
    """Other settings for the region's agents, which read them at their start."""
    return Restarted(Patch(region.name, CONFIG, {"data": settings}), region.name, (AGENT,))


_DENIAL = denial({"matchLabels": {"app": "cockroachdb"}}, WESTUS, 26257)
_STRANGERS = {
    "matchLabels": {NAMESPACE_KEY: "meshproof"},
    "matchExpressions": [{"key": "app", "operator": "DoesNotExist"}],
}
_QUARANTINE = denial(_STRANGERS, EASTUS, 8080, ingress=[{"fromEntities": ["all"]}])

_LET_CLIENTS_IN: dict[str, Any] = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "let-clients-in"},
    "spec": {
        "endpointSelector": {"matchLabels": {"app": "cockroachdb"}},
        "ingress": [
            {
                "fromEndpoints": [
                    {
                        "matchLabels": {"app": "cockroachdb-client"},
                        "matchExpressions": [
                            {"key": CLUSTER_KEY, "operator": "In", "values": [str(WESTUS.plan.cluster_name)]}
                        ],
                    }
                ],
                "toPorts": [{"ports": [{"port": "26257", "protocol": "TCP"}]}],
            }
        ],
    },
}

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="policy-opens-a-port-too-many",
        summary=f"the policy of {WESTUS.name} opens port {_STRAY_PORT} between database pods, too",
        layer=Layer.POLICY,
        requirement="NET-POL-007",
        steps=(
            changed(WESTUS, ingress=with_port(FROM_DATABASE, _STRAY_PORT), egress=with_port(TO_DATABASE, _STRAY_PORT)),
        ),
        confirm=line_says(WESTUS, "egress", TO_DATABASE, _STRAY_PORT),
    ),
    Fault(
        name="policy-lets-unlabelled-pods-in",
        summary=f"the policy of {EASTUS.name} asks of clients where they are, and not who they are",
        layer=Layer.POLICY,
        requirement="NET-POL-011",
        steps=(changed(EASTUS, ingress=of_anybody(FROM_CLIENTS)),),
        confirm=api_has(EASTUS, of_anybody(FROM_CLIENTS)),
    ),
    Fault(
        name="policy-names-no-protocol",
        summary=f"the policy of {EUROPE.name} opens the database's ports for any protocol",
        layer=Layer.POLICY,
        requirement="NET-POL-007",
        steps=(changed(EUROPE, ingress=of_any_protocol(FROM_DATABASE), egress=of_any_protocol(TO_DATABASE)),),
        confirm=line_says(EUROPE, "egress", TO_DATABASE, "udp"),
    ),
    Fault(
        name="policy-without-egress",
        summary=f"the policy of {WESTUS.name} has no rules for what database pods send",
        layer=Layer.POLICY,
        requirement="NET-POL-013",
        steps=(Patch(WESTUS.name, POLICY, {"spec": {"egress": None}}),),
        confirm=node_lacks(WESTUS, "chain egress-"),
        follows=frozenset({"NET-POL-014"}),
    ),
    Fault(
        name="policy-selector-contradicts-itself",
        summary=f"peers of {EASTUS.name}'s policy must be of a region and must not",
        layer=Layer.POLICY,
        requirement="NET-POL-003",
        steps=(
            changed(
                EASTUS,
                ingress=unless(FROM_DATABASE, "geography", *(region.name for region in LAB.regions)),
            ),
        ),
        confirm=node_lacks(EASTUS, comment("ingress", FROM_DATABASE)),
        follows=DATABASE_SHUT_OUT | DENIALS | {"NET-POL-005", "NET-POL-006", "NET-POL-008"},
    ),
    Fault(
        name="policy-missing-in-a-cluster",
        summary=f"{EUROPE.name} was forgotten when the policies were applied",
        layer=Layer.POLICY,
        requirement="NET-POL-014",
        steps=(Delete(EUROPE.name, POLICY),),
        confirm=polices_nothing(EUROPE),
        follows=DENIALS,
    ),
    Fault(
        name="policy-selector-of-nobody",
        summary=f"{WESTUS.name} lets the metrics scraper in by a label that no pod has",
        layer=Layer.POLICY,
        requirement="NET-POL-004",
        steps=(changed(WESTUS, ingress=for_a_scraper),),
        confirm=api_has(WESTUS, for_a_scraper),
    ),
    others_closed(WESTUS, EASTUS, POLICIES, _QUARANTINE),
    restarted_member_stopped(LAB, WESTUS, changed(WESTUS, egress=only_dns), node_lacks(WESTUS, "dport 2379")),
    Fault(
        name="policy-only-audited",
        summary=f"the agents of {WESTUS.name} only note what policy would have stopped",
        layer=Layer.POLICY,
        requirement="NET-POL-011",
        steps=(_restarted(WESTUS, **{"policy-audit-mode": "true"}),),
        confirm=polices_nothing(WESTUS),
        follows=DENIALS,
    ),
    Fault(
        name="policy-never-enforced",
        summary=f"the agents of {EASTUS.name} are set to enforce no policy",
        layer=Layer.POLICY,
        requirement="NET-POL-013",
        steps=(_restarted(EASTUS, **{"enable-policy": "never"}),),
        confirm=polices_nothing(EASTUS),
        follows=DENIALS,
    ),
    Fault(
        name="policy-peers-of-any-cluster",
        summary=f"peers of {WESTUS.name}'s policy do not say of which cluster they are",
        layer=Layer.POLICY,
        requirement="NET-POL-019",
        steps=(changed(WESTUS, ingress=of_no_cluster, egress=of_no_cluster),),
        confirm=api_has(WESTUS, of_no_cluster),
    ),
    Fault(
        name="policy-peers-of-an-unsaid-namespace",
        summary=f"a policy of {EASTUS.name} lets clients in that it takes for its own namespace's",
        layer=Layer.POLICY,
        requirement="NET-POL-020",
        steps=(Create(EASTUS.name, _NAMESPACED, _LET_CLIENTS_IN),),
        confirm=object_is_there(EASTUS.name, f"{_NAMESPACED}/{_LET_CLIENTS_IN['metadata']['name']}"),
        follows=frozenset({"NET-POL-004"}),
    ),
    Fault(
        name="policy-forgets-its-own-region",
        summary=f"the policy of {EASTUS.name} lets in database pods of the other regions only",
        layer=Layer.POLICY,
        requirement="NET-POL-008",
        steps=(changed(EASTUS, ingress=unless(FROM_DATABASE, "geography", EASTUS.name)),),
        confirm=api_has(EASTUS, unless(FROM_DATABASE, "geography", EASTUS.name)),
        follows=DATABASE_SHUT_OUT | DENIALS,
    ),
    Fault(
        name="policy-blocks-dns",
        summary=f"the policy of {WESTUS.name} has no rule for DNS",
        layer=Layer.POLICY,
        requirement="NET-POL-009",
        steps=(changed(WESTUS, egress=without(TO_DNS)),),
        confirm=node_lacks(WESTUS, "dport 53"),
        follows=DATABASE_SHUT_OUT,
    ),
    Fault(
        name="policy-blocks-clients",
        summary=f"the policy of {EUROPE.name} lets no clients in",
        layer=Layer.POLICY,
        requirement="NET-POL-012",
        steps=(changed(EUROPE, ingress=without(FROM_CLIENTS)),),
        confirm=node_lacks(EUROPE, comment("ingress", FROM_CLIENTS)),
        follows=DATABASE_SHUT_OUT | DENIALS,
    ),
    Fault(
        name="policy-blocks-sql-one-way",
        summary=f"database pods of {EASTUS.name} may not begin what goes to port 26257",
        layer=Layer.POLICY,
        requirement="NET-POL-005",
        steps=(changed(EASTUS, egress=without_port(TO_DATABASE, 26257)),),
        confirm=line_says(EASTUS, "egress", TO_DATABASE, "26257", present=False),
        follows=DATABASE_SHUT_OUT | DENIALS | {"NET-POL-008"},
    ),
    Fault(
        name="policy-blocks-console-one-way",
        summary=f"database pods of {WESTUS.name} let nobody of the database in at port 8080",
        layer=Layer.POLICY,
        requirement="NET-POL-006",
        steps=(changed(WESTUS, ingress=without_port(FROM_DATABASE, 8080)),),
        confirm=line_says(WESTUS, "ingress", FROM_DATABASE, "8080", present=False),
        follows=DATABASE_SHUT_OUT | DENIALS | {"NET-POL-008"},
    ),
    Fault(
        name="policy-denied-by-another",
        summary=f"a policy of {EASTUS.name} denies what its neighbour allows: SQL from {WESTUS.name}",
        layer=Layer.POLICY,
        requirement="NET-POL-005",
        steps=(Create(EASTUS.name, POLICIES, _DENIAL),),
        confirm=node_says(EASTUS, '"ccnp/quarantine/ingressDeny/0"'),
        follows=DATABASE_SHUT_OUT | DENIALS | {"NET-POL-012"},
    ),
    Fault(
        name="policy-remote-pods-unknown",
        summary=f"{WESTUS.name} does not tell the other clusters of the pods in its database's namespace",
        layer=Layer.POLICY,
        requirement="NET-POL-016",
        steps=(
            Patch(
                WESTUS.name,
                f"/api/v1/namespaces/{WESTUS.name}",
                {"metadata": {"annotations": {NAMESPACE_ANNOTATION: "false"}}},
            ),
        ),
        confirm=a_peer_is_lost(EASTUS, WESTUS),
        follows=DATABASE_SHUT_OUT | {"NET-POL-005", "NET-POL-006"},
    ),
    Fault(
        name="policy-with-a-misspelt-field",
        summary=f"a field of {EUROPE.name}'s policy was misspelt and thrown away, and with it whom a rule is for",
        layer=Layer.POLICY,
        requirement="NET-POL-022",
        steps=(misspelt_as_applied(EUROPE),),
        confirm=line_says(EUROPE, "ingress", FROM_CLIENTS, "saddr", present=False),
        follows=frozenset({"NET-POL-011"}),
    ),
)
