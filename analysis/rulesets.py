"""NET-UNDR, security groups: do they let in what the mesh needs and the plan lists, and keep out everybody else?

What nodes and the outside see of the same rules is judged in `analysis.underlay`. Here the rules themselves are read,
so that what nobody happened to try is judged too: every address of a range, every port.
"""

from __future__ import annotations

from collections.abc import Sequence

from analysis.doors import PORTS, plan_doors
from analysis.facts import Door, Inventory, Networks, SecurityRule
from analysis.flows import ANYWHERE, TCP, Flows, flows, union
from analysis.plan import Encapsulation, Plan
from analysis.security import (
    CLOUDS_OWN,
    ECHO_REQUEST,
    FRAGMENTATION_NEEDED,
    Guard,
    Need,
    admits_strangers,
    blocked_flows,
    door_needs,
    exposed_flows,
    flows_of,
    guards,
    icmp_needs,
    inner_bgp_needs,
    inside,
    tunnel_needs,
)
from analysis.verdict import Finding, Verdict, conclude, not_applicable
from analysis.words import gap_findings, listed

ADMINISTRATION = {"SSH": PORTS[Door.SSH], "the Kubernetes API": PORTS[Door.API_SERVER]}
NEIGHBOURS = (Door.KUBELET, Door.API_SERVER, Door.ETCD, Door.TYPHA, Door.HEALTH)
"""What nodes of one cluster need of each other, beside BGP."""


def judge_pings_let_in(plan: Plan, networks: Networks) -> Verdict:
    """NET-UNDR-006: security groups let in pings from the nodes of the other regions."""
    return _judge_needs(plan, networks, icmp_needs(plan, "ping", ECHO_REQUEST), "pings from the nodes of other regions")


def judge_reflectors_let_in(plan: Plan, inventory: Inventory, networks: Networks) -> Verdict:
    """NET-UNDR-009: security groups let in BGP from the reflectors of the other regions."""
    needs = door_needs(plan, plan_doors(plan, inventory), [Door.BGP], across=True)
    return _judge_needs(plan, networks, needs, "BGP from the other regions", inventory)


def judge_tunnels_let_in(plan: Plan, networks: Networks) -> Verdict:
    """NET-UNDR-010: security groups let in the encapsulation from every node subnet, all of it."""
    if plan.encapsulation is Encapsulation.NONE:
        return not_applicable("security groups let in the encapsulation", "the plan has no encapsulation")
    return _judge_needs(plan, networks, tunnel_needs(plan), "the encapsulation between any two nodes")


def judge_stores_let_in(plan: Plan, inventory: Inventory, networks: Networks) -> Verdict:
    """NET-UNDR-011: security groups let in connections to the mesh's control plane from the other regions."""
    needs = door_needs(plan, plan_doors(plan, inventory), [Door.MESH_STORE], across=True)
    return _judge_needs(plan, networks, needs, "the mesh's control plane from the other regions", inventory)


def judge_neighbours_let_in(plan: Plan, inventory: Inventory, networks: Networks) -> Verdict:
    """NET-UNDR-018: security groups let in what the nodes of one cluster need of each other."""
    needs = door_needs(plan, plan_doors(plan, inventory), NEIGHBOURS, across=False)
    return _judge_needs(
        plan,
        networks,
        [*needs, *inner_bgp_needs(plan)] if needs else [],
        "what nodes of one cluster need of each other",
        inventory,
    )


def judge_size_reports_let_in(plan: Plan, networks: Networks) -> Verdict:
    """NET-MTU-002: security groups let in the word that a packet is too large (ICMP type 3 code 4, RFC 1191)."""
    needs = icmp_needs(plan, "the word that a packet is too large", FRAGMENTATION_NEEDED)
    return _judge_needs(plan, networks, needs, "the word that a packet is too large, from the other regions")


def _judge_needs(
    plan: Plan, networks: Networks, needs: Sequence[Need], what: str, inventory: Inventory | None = None
) -> Verdict:
    found, gaps = guards(plan, networks)
    return conclude(
        expected=f"security groups let in {what}",
        examined=len([need for need in needs for guard in found if guard.region == need.region]),
        what="needs of nodes",
        violations=blocked_flows(found, needs),
        gaps=[*gaps, *gap_findings(inventory.gaps if inventory else ())],
        remedy="add a rule for exactly these sources, this protocol and these ports",
    )


def judge_closed_to_the_internet(plan: Plan, inventory: Inventory, networks: Networks) -> Verdict:
    """NET-UNDR-014: security groups keep the internet from tunnels, BGP, etcd and database."""
    found, gaps = guards(plan, networks)
    return conclude(
        expected="security groups let nobody on the internet reach tunnels, BGP, etcd and the database",
        examined=len(found),
        what="sets of security groups",
        violations=exposed_flows(plan, found, plan_doors(plan, inventory)),
        gaps=[*gaps, *gap_findings(inventory.gaps)],
        remedy="give the rule the node subnets as its source, or take it away",
    )


def judge_rules_as_planned(plan: Plan, networks: Networks) -> Verdict:
    """NET-UNDR-013: rules of our own making let in the planned ports, from operators, and nothing else."""
    found, gaps = guards(plan, networks)
    operators, ports = plan.underlay.operators, plan.underlay.open_ports
    # Without operators in the plan only the ports can be compared, whoever may use them.
    planned = union(flows(operators or [ANYWHERE], TCP, span) for span in ports)
    violations = []
    examined = 0
    for guard in found:
        examined += len(ports)
        if operators:
            violations += _missing(guard, planned)
        for rule in guard.rules:
            if rule.builtin or not rule.allow:
                continue
            examined += 1
            if extra := flows_of(rule) - planned:
                violations.append(
                    Finding(
                        f"{guard.name}, rule {rule.name}",
                        f"to let in nothing but {planned}",
                        f"lets in {extra if operators else listed(extra.kinds)}",
                        "its source is everybody" if ANYWHERE in rule.sources and operators else None,
                    )
                )
    return conclude(
        expected="the security groups' own rules let in the ports of the plan, from operators, and nothing else",
        examined=examined,
        what="rules and planned ports",
        violations=violations,
        gaps=[*gaps, *_unplanned_operators(plan)],
        remedy="take the rule away or limit it, or write into underlay of the environment file what is meant",
    )


def _missing(guard: Guard, planned: Flows) -> list[Finding]:
    kept_out = [part for part in guard.decide(planned) if not part.allowed]
    if not kept_out:
        return []
    names = sorted({part.rule.name for part in kept_out if part.rule and not part.rule.builtin})
    return [
        Finding(
            guard.name,
            f"to let in {planned}",
            f"keeps out {union(part.flows for part in kept_out)}",
            f"rule {listed(names)} keeps it out" if names else "the rule is missing, or narrower than planned",
        )
    ]


def judge_administration_limited(plan: Plan, networks: Networks) -> Verdict:
    """NET-UNDR-015: nobody but operators and the regions themselves is let in to SSH and the Kubernetes API."""
    found, gaps = guards(plan, networks)
    operators = plan.underlay.operators
    known = flows([*inside(plan), CLOUDS_OWN, *operators])
    violations: list[Finding] = []
    for guard in found:
        opened: dict[SecurityRule, list[str]] = {}
        for what, ports in ADMINISTRATION.items():
            for port in ports:
                for part in guard.decide(flows([ANYWHERE], TCP, (port, port))):
                    if part.allowed and part.rule and admits_strangers(plan, part.rule) and part.flows - known:
                        opened.setdefault(part.rule, []).append(what)
        violations += [
            Finding(
                f"{guard.name}, rule {rule.name}",
                f"{' and '.join(what)} open to {listed(operators) or 'known addresses'} and the regions' own networks",
                f"open to {listed(rule.sources)}",
                "its source is everybody" if ANYWHERE in rule.sources else "its source is wider than the plan's",
            )
            for rule, what in opened.items()
        ]
    return conclude(
        expected="SSH and the Kubernetes API are let in from operators and from the regions' own networks only",
        examined=len(found) * len(ADMINISTRATION),
        what="ports of security groups",
        violations=violations,
        gaps=[*gaps, *_unplanned_operators(plan)],
        remedy="limit the rule's source to the operators' addresses",
    )


def _unplanned_operators(plan: Plan) -> list[Finding]:
    if plan.underlay.operators:
        return []
    return [
        Finding("the plan", "to name the operators' addresses", "underlay.operators is empty in the environment file")
    ]
