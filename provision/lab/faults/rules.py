"""Faults of security groups that keep out what nodes need: for want of a rule on AWS, because of one more on Azure.

Nothing that stands breaks by them: security groups let in what belongs to a connection. It is the next one that fails.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from analysis.facts import SecurityRule
from analysis.rootcause import Layer
from provision.faults import Fault
from provision.lab.cloud import ICMP, TCP
from provision.lab.faults.cloud import from_sources, group_changed, group_says, with_rule, without_rule
from provision.lab.topology import API_SERVER_PORT, AZURE, OPERATOR, LabRegion, LabTopology

_KUBELET = 10250
_PRIORITY = 400


@dataclass(frozen=True)
class _KeptOut:
    """Something that a region's security group does not let in.

    Attributes:
        missing: the rule for it, which AWS's group has lost, or which has lost all its sources but these.
        sources: what they are, in `nft`'s words; none where the rule is gone.
        protocol, ports, icmp: what the rule that Azure's group has gained denies.
    """

    name: str
    what: str
    requirement: str
    missing: str
    protocol: int
    sources: str = ""
    ports: tuple[int, int] | None = None
    icmp: tuple[int, int | None] | None = None
    follows: frozenset[str] = frozenset()


def rules_faults(lab: LabTopology) -> tuple[Fault, ...]:
    """What the security groups of this lab's nodes may keep out."""
    first, second, third = lab.regions[:3]
    store = second.store_port if lab.cloud == AZURE else API_SERVER_PORT
    return (
        _kept_out(
            lab,
            third,
            _KeptOut(
                "pings-not-let-in",
                "pings",
                "NET-UNDR-006",
                "ping",
                protocol=ICMP,
                icmp=(8, None),
                # Paths are traced by pings, and pairs that a peering's loss must not touch are tried by them.
                follows=frozenset({"NET-UNDR-007", "NET-UNDR-008"}),
            ),
        ),
        _kept_out(
            lab,
            second,
            _KeptOut(
                "control-plane-not-let-in",
                "what other clusters ask its mesh control plane",
                "NET-UNDR-011",
                "kubernetes-api",
                protocol=TCP,
                sources=f"{{ {second.plan.node_cidr}, {OPERATOR} }}",
                ports=(store, store),
                # Who asks the stores from the nodes of other regions does not get in either.
                follows=frozenset(
                    {"MESH-CP-003", "MESH-CP-004", "MESH-CP-005", "MESH-CP-006", "MESH-CP-009", "MESH-CP-012"}
                ),
            ),
        ),
        _kept_out(
            lab,
            first,
            _KeptOut(
                "kubelet-not-let-in",
                "what its own control plane asks its kubelets",
                "NET-UNDR-018",
                "kubelet",
                protocol=TCP,
                ports=(_KUBELET, _KUBELET),
            ),
        ),
        _kept_out(
            lab,
            third,
            _KeptOut(
                "size-reports-not-let-in",
                "the word that a packet is too large",
                "NET-MTU-002",
                "path-mtu",
                protocol=ICMP,
                icmp=(3, 4),
            ),
        ),
    )


def _kept_out(lab: LabTopology, region: LabRegion, lost: _KeptOut) -> Fault:
    if lab.cloud == AZURE:
        networks = tuple(each.plan.network for each in lab.regions if each.plan.network)
        rule = SecurityRule(f"Deny-{lost.missing}", False, lost.protocol, networks, lost.ports, lost.icmp, _PRIORITY)
        change, sign = with_rule(rule), group_says(lab, region, rule.name)
    elif lost.sources:
        change = from_sources(lost.missing, lost.sources)
        sign = group_says(lab, region, rf'{re.escape(lost.sources)} .*"{lost.missing}"')
    else:
        change, sign = without_rule(lost.missing), group_says(lab, region, f'"{lost.missing}"', says=False)
    return Fault(
        name=lost.name,
        summary=f"the security group of {region.name} does not let in {lost.what}",
        layer=Layer.UNDERLAY,
        requirement=lost.requirement,
        steps=(group_changed(lab, region, change),),
        confirm=sign,
        follows=lost.follows,
    )
