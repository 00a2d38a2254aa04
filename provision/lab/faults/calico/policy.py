"""Faults of Calico's policy objects, and of what Calico knows of other clusters' pods (NET-POL)."""

from __future__ import annotations

import json

from analysis.plan import DatabasePlan
from analysis.rootcause import Layer
from provision.faults import Create, Delete, Fault, Patch
from provision.lab.calico.control_plane import FEDERATION_ACCOUNT, TYPHA
from provision.lab.calico.policy.engine import TABLE
from provision.lab.calico.policy.seed import NAME
from provision.lab.faults.calico.control import UNCONNECTED
from provision.lab.faults.calico.place import CALICO, EAST, LAB, OHIO, WEST
from provision.lab.faults.calico.policy_steps import (
    DATABASE,
    POLICIES,
    POLICY,
    Rules,
    SetOf,
    another,
    blind,
    deny,
    edited,
    for_both,
    is_misspelt,
    misspelt,
    selecting,
    with_rules,
    without_dns,
)
from provision.lab.faults.policy import (
    BETWEEN_REGIONS,
    DENIALS,
    database_pod,
    others_closed,
    policy_faults,
    restarted_member_stopped,
)
from provision.lab.faults.policy_steps import PodRestarted, all_of, says
from provision.lab.faults.steps import Edited

_TYPHA = f"/apis/apps/v1/namespaces/calico-system/deployments/{TYPHA}"
_OHIO_ADDRESSES = str(OHIO.plan.pod_cidr.network_address).removesuffix("0")
_FEDERATION_ROLE = f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{FEDERATION_ACCOUNT}"
_PLAN = LAB.plan.database or DatabasePlan()
_SQL, _CONSOLE = _PLAN.sql_port, _PLAN.console_port
_UNUSED = 26258
_CLIENT = 'app == "cockroachdb-client"'
_IMPOSSIBLE = f'geography == "{OHIO.name}" && geography == "{WEST.name}"'

_ALLOW_ALL: Rules = [{"action": "Allow"}]
_EAST_DATABASE, _OHIO_DATABASE, _WEST_DATABASE = (region.nodes[1] for region in (EAST, OHIO, WEST))
"""The nodes that have a database pod."""

_SET_OF_OHIO = SetOf(EAST, OHIO, database_pod(LAB, OHIO))

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="policy-port-too-many",
        summary=f"{OHIO.name} takes TCP {_UNUSED} from the database of {EAST.name}, and nobody asked for it",
        layer=Layer.POLICY,
        requirement="NET-POL-007",
        steps=for_both("TCP", _UNUSED),
        confirm=all_of(
            says(_OHIO_DATABASE, TABLE, f"tcp dport {_UNUSED}"), says(_EAST_DATABASE, TABLE, f"tcp dport {_UNUSED}")
        ),
    ),
    Fault(
        name="policy-udp-left-open",
        summary=f"{OHIO.name} takes UDP {_SQL} from the database of {EAST.name}: the right port, the wrong protocol",
        layer=Layer.POLICY,
        requirement="NET-POL-007",
        steps=for_both("UDP", _SQL),
        confirm=all_of(
            says(_OHIO_DATABASE, TABLE, f"udp dport {_SQL}"), says(_EAST_DATABASE, TABLE, f"udp dport {_SQL}")
        ),
        follows=frozenset({"NET-POL-017"}),
    ),
    Fault(
        name="policy-stranger-let-in",
        summary=f"a policy that was only for a test lets every pod reach the database of {OHIO.name}",
        layer=Layer.POLICY,
        requirement="NET-POL-011",
        steps=(
            Create(
                OHIO.name,
                POLICIES,
                another(
                    "for-a-test",
                    order=10,
                    selector=DATABASE,
                    types=["Ingress"],
                    ingress=[{"action": "Allow", "protocol": "TCP", "destination": {"ports": [_SQL]}}],
                ),
            ),
        ),
        confirm=says(_OHIO_DATABASE, TABLE, "gnp/for-a-test/ingress/0"),
        follows=frozenset({"NET-POL-015", "NET-POL-017"}),
    ),
    Fault(
        name="policy-egress-left-open",
        summary=f"the policy of {EAST.name} is about what comes in only",
        layer=Layer.POLICY,
        requirement="NET-POL-013",
        steps=(Edited(EAST.name, POLICY, lambda _policy: {"spec": {"types": ["Ingress"], "egress": None}}),),
        confirm=says(_EAST_DATABASE, TABLE, "chain egress", present=False),
        follows=frozenset({"NET-POL-014", "NET-POL-017"}),
    ),
    Fault(
        name="policy-impossible-selector",
        summary=f"{EAST.name} lets in who is of {OHIO.name} and of {WEST.name} at once",
        layer=Layer.POLICY,
        requirement="NET-POL-003",
        steps=(edited(EAST, ingress=lambda rules: [rules[0] | {"source": {"selector": _IMPOSSIBLE}}, *rules[1:]]),),
        confirm=says(_EAST_DATABASE, TABLE, f"gnp/{NAME}/ingress/0", present=False),
        follows=BETWEEN_REGIONS | DENIALS | {"NET-POL-004", "NET-POL-008"},
    ),
    Fault(
        name="policy-selector-of-nobody",
        summary=f"{OHIO.name} lets in the metrics scraper by a label that no pod has",
        layer=Layer.POLICY,
        requirement="NET-POL-004",
        steps=(
            edited(
                OHIO,
                ingress=with_rules(
                    {
                        "action": "Allow",
                        "protocol": "TCP",
                        "source": {"selector": 'app == "prometeus"'},
                        "destination": {"ports": [_CONSOLE]},
                    }
                ),
            ),
        ),
        confirm=lambda control: "prometeus" in json.dumps(control.get(OHIO.name, POLICY)),
    ),
    Fault(
        name="policy-missing-in-one-cluster",
        summary=f"nobody has applied the policy in {WEST.name}: it is not copied from cluster to cluster",
        layer=Layer.POLICY,
        requirement="NET-POL-014",
        steps=(Delete(WEST.name, POLICY),),
        confirm=says(_WEST_DATABASE, TABLE, "chain", present=False),
        follows=DENIALS,
    ),
    Fault(
        name="policy-higher-tier-allows-all",
        summary=f"a tier in front of all others allows everything in {OHIO.name}",
        layer=Layer.POLICY,
        requirement="NET-POL-011",
        steps=(
            Create(
                OHIO.name,
                f"{CALICO}/tiers",
                {
                    "apiVersion": "crd.projectcalico.org/v1",
                    "kind": "Tier",
                    "metadata": {"name": "migration"},
                    "spec": {"order": 1},
                },
            ),
            Create(
                OHIO.name,
                POLICIES,
                another(
                    "migration.allow-all",
                    tier="migration",
                    order=1,
                    selector="all()",
                    types=["Ingress", "Egress"],
                    ingress=_ALLOW_ALL,
                    egress=_ALLOW_ALL,
                ),
            ),
        ),
        confirm=says(_OHIO_DATABASE, TABLE, "gnp/migration.allow-all/ingress/0"),
        # The rules behind it decide nothing any more.
        follows=DENIALS | {"NET-POL-004"},
    ),
    Fault(
        name="policy-leaves-out-own-region",
        summary=f"the policy of {EAST.name} allows the database pods of the other regions, and forgets its own",
        layer=Layer.POLICY,
        requirement="NET-POL-008",
        steps=(
            edited(
                EAST,
                ingress=selecting(f'"{EAST.name}", ', ""),
                egress=selecting(f'"{EAST.name}", ', ""),
            ),
        ),
        confirm=lambda control: (
            f'"{EAST.name}", ' not in (control.get(EAST.name, POLICY) or {})["spec"]["ingress"][0]["source"]["selector"]
        ),
        follows=DENIALS,
    ),
    Fault(
        name="policy-dns-udp-blocked",
        summary=f"database pods of {EAST.name} may ask DNS over TCP only",
        layer=Layer.POLICY,
        requirement="NET-POL-009",
        steps=(edited(EAST, egress=without_dns("UDP")),),
        confirm=says(_EAST_DATABASE, TABLE, "udp dport 53", present=False),
        # Resolvers ask over UDP first: to the database's pods there, no name leads anywhere.
        follows=frozenset({"NET-DNS-007"}),
    ),
    Fault(
        name="policy-dns-tcp-blocked",
        summary=f"database pods of {WEST.name} may ask DNS over UDP only: what is truncated stays so",
        layer=Layer.POLICY,
        requirement="NET-POL-009",
        steps=(edited(WEST, egress=without_dns("TCP")),),
        confirm=says(_WEST_DATABASE, TABLE, "tcp dport 53", present=False),
    ),
    Fault(
        name="policy-clients-blocked",
        summary=f"{WEST.name} lets clients in by a label that they do not have",
        layer=Layer.POLICY,
        requirement="NET-POL-012",
        steps=(edited(WEST, ingress=selecting(_CLIENT, 'app == "cockroachdb-clients"')),),
        confirm=says(_WEST_DATABASE, TABLE, f"gnp/{NAME}/ingress/1", present=False),
        follows=DENIALS | {"NET-POL-004"},
    ),
    Fault(
        name="policy-console-blocked-one-way",
        summary=f"{OHIO.name} denies TCP {_CONSOLE} to the database pods of {EAST.name}, and to nobody else",
        layer=Layer.POLICY,
        requirement="NET-POL-006",
        steps=(Create(OHIO.name, POLICIES, deny("ingress", "source", EAST, _CONSOLE)),),
        confirm=says(_OHIO_DATABASE, TABLE, f"tcp dport {_CONSOLE} counter"),
        follows=DENIALS,
    ),
    Fault(
        name="policy-sql-blocked-one-way",
        summary=f"database pods of {EAST.name} may not call those of {WEST.name}, which may call them",
        layer=Layer.POLICY,
        requirement="NET-POL-005",
        steps=(Create(EAST.name, POLICIES, deny("egress", "destination", WEST, _SQL)),),
        confirm=says(_EAST_DATABASE, TABLE, f"tcp dport {_SQL} counter"),
        follows=DENIALS,
    ),
    others_closed(
        OHIO,
        EAST,
        POLICIES,
        another(
            "quarantine",
            order=500,
            selector='!has(app) && projectcalico.org/namespace == "meshproof"',
            types=["Ingress"],
            ingress=[
                {
                    "action": "Deny",
                    "protocol": "TCP",
                    "source": {"nets": [str(EAST.plan.pod_cidr)]},
                    "destination": {"ports": [_CONSOLE]},
                },
                {"action": "Allow"},
            ],
        ),
        follows=frozenset({"NET-POL-004"}),
    ),
    Fault(
        name="policy-field-misspelt",
        summary=f"the policy of {OHIO.name} was applied with a field that Calico does not know, and came in without it",
        layer=Layer.POLICY,
        requirement="NET-POL-022",
        steps=(Edited(OHIO.name, POLICY, misspelt),),
        confirm=is_misspelt,
    ),
    restarted_member_stopped(
        LAB,
        OHIO,
        edited(OHIO, egress=lambda rules: rules[:2]),
        says(_OHIO_DATABASE, TABLE, f"gnp/{NAME}/egress/2", present=False),
    ),
    Fault(
        name="federation-cannot-read-pods",
        summary=f"the account that other clusters use in {OHIO.name} may not read pods any more",
        layer=Layer.CONTROL,
        requirement="NET-POL-016",
        steps=(
            Edited(OHIO.name, _FEDERATION_ROLE, blind),
            # A watch that is open stays open: it shows when Typha begins anew.
            Patch(EAST.name, _TYPHA, {"spec": {"template": {"metadata": {"annotations": {"restarted": "now"}}}}}),
        ),
        confirm=says(_EAST_DATABASE, TABLE, _OHIO_ADDRESSES, present=False),
        follows=UNCONNECTED,
    ),
    Fault(
        name="policy-network-set-stale",
        summary=f"{EAST.name} knows a database pod of {OHIO.name} by a network set from before it moved",
        layer=Layer.POLICY,
        requirement="NET-POL-016",
        steps=(_SET_OF_OHIO, PodRestarted(OHIO, database_pod(LAB, OHIO))),
        confirm=_SET_OF_OHIO.is_stale,
    ),
    *policy_faults(LAB, TABLE, "cali"),
)
