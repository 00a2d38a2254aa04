"""What is said: how the policy objects decide a flow that was tried."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from ipaddress import IPv4Address

from analysis.facts import Participant, Party, Policies
from analysis.plan import Plan
from analysis.policy.decide import Evaluator
from analysis.policy.judging.tried import Fate, Tried, role_of
from analysis.policy.model import Decision, EndDecision, Endpoint, EndpointKind, Flow, Protocol, World
from analysis.policy.openings import is_dns
from analysis.policy.read import world_of

_KINDS = {
    Party.NODE: EndpointKind.NODE,
    Party.API_SERVER: EndpointKind.NODE,
    Party.OUTSIDE: EndpointKind.EXTERNAL,
}
"""What the address of a party belongs to; those that are not here are pods."""

_END_WORDS = {
    "not-policed": "nothing of {region} polices that end",
    "non-isolated": "no policy of {region} selects it",
    "default-allow": "no policy of {region} selects it",
    "default-deny": "no rule of {region} allows it",
    "isolated": "no rule of {region} allows it",
    "node-to-local-pod": "a node reaches its own pods",
    "localhost": "a node reaches its own pods",
}
"""What decides where no rule does, in words."""


class Said:
    """The policy objects of all clusters, ready to be asked about flows.

    Pods of ours are gone again when the objects are read, so they are known by what they wore.
    """

    def __init__(self, plan: Plan, policies: Policies, participants: tuple[Participant, ...] = ()) -> None:
        self._plan = plan
        self._policies = policies
        self._participants = participants

    @cached_property
    def _world(self) -> World:
        world = world_of(self._policies, self._plan)
        known = {endpoint.address for endpoint in world.endpoints}
        ours = (self._made_up(party) for party in self._participants if party.address not in known)
        return replace(world, endpoints=(*world.endpoints, *ours))

    @cached_property
    def _evaluator(self) -> Evaluator:
        return Evaluator(self._world)

    @cached_property
    def _by_address(self) -> dict[IPv4Address, Endpoint]:
        """Who is behind an address. That of a Service is judged as one of its pods, as engines do."""
        dns = {endpoint.cluster: endpoint for endpoint in self._world.endpoints if is_dns(endpoint)}
        return {endpoint.address: endpoint for endpoint in self._world.endpoints} | {
            party.address: dns[party.region]
            for party in self._participants
            if party.party is Party.DNS and party.region in dns
        }

    def decide(self, tried: Tried) -> Decision | None:
        """What the objects say of a flow; None where nobody read the objects of both its ends."""
        unread = {gap.region for gap in self._policies.gaps if not gap.parts or "objects" in gap.parts}
        if not self._policies.endpoints or {tried.source.region, tried.target.region} & unread:
            return None
        trial = tried.trial
        return self._evaluator.decide(
            Flow(
                self._by_address[tried.source.address],
                self._by_address[tried.target.address],
                Protocol(trial.protocol),
                trial.port,
            )
        )

    def told(self, tried: Tried) -> str:
        """What the objects say of a flow, against what became of it, in words; "" where they cannot be asked."""
        decision = self.decide(tried)
        if decision is None:
            return ""
        passed = tried.fate is Fate.PASSED
        ends = "; ".join(_ends(tried, decision))
        if decision.allowed:
            return f"the objects allow it ({ends})" + ("" if passed else ", yet nothing came through")
        return f"the objects deny it ({ends})" + (", yet it got through" if passed else "")

    def denies(self, tried: Tried) -> bool:
        """Whether the objects are known to stop a flow."""
        decision = self.decide(tried)
        return decision is not None and not decision.allowed

    def disagrees(self, tried: Tried) -> bool:
        """Whether what was done is not what the objects say."""
        decision = self.decide(tried)
        return decision is not None and decision.allowed is not (tried.fate is Fate.PASSED)

    def _made_up(self, party: Participant) -> Endpoint:
        """A participant as engines know it."""
        kind = _KINDS.get(party.party, EndpointKind.POD)
        role, intent = role_of(party), self._plan.policy
        return Endpoint(
            party.name,
            kind,
            party.address,
            "" if kind is EndpointKind.EXTERNAL else party.region,
            party.namespace,
            party.node,
            "default" if kind is EndpointKind.POD else "",
            intent.labels(role, party.region) if role and intent else {},
        )


def _ends(tried: Tried, decision: Decision) -> Iterator[str]:
    """The ends that explain the decision: the first that denies, or both that allow."""
    ends = (("egress", tried.source, decision.egress), ("ingress", tried.target, decision.ingress))
    for direction, party, end in ends:
        if decision.allowed or not end.allowed:
            yield f"{direction}: {_rule(end, party.region)}"
            if not decision.allowed:
                return


def _rule(end: EndDecision, region: str) -> str:
    known = _END_WORDS.get(end.decider)
    if known is not None:
        return known.format(region=region or "no region")
    if end.decider.startswith("tier/"):
        return f"no rule of {region} allows it ({end.decider})"
    if end.decider.startswith("profile/"):
        return f"no policy of {region} selects it"
    return f"rule {end.decider} of {region}"
