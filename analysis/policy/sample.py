"""The sample policy that is published for multi-region CockroachDB on Calico, and what it comes to.

It is meant to open two ports between regions and to close the rest. Its selectors ask one label for two values at once,
so none of its rules can match, and what is left is the end of the tier: everything is dropped, both ways. Whoever reads
policies must see that, so the reading of this sample is a test of the reader.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from analysis.policy.dead import dead_rules_of_calico
from analysis.policy.effects import DNS_LABEL, DnsEffect, Effects, effects_of
from analysis.policy.model import (
    DeadRule,
    Endpoint,
    EndpointKind,
    Engine,
    EngineOptions,
    Policy,
    PolicyKind,
    Protocol,
    World,
)
from analysis.words import count

REGIONS = ("us-east-1", "us-east-2", "us-west-1")
SAMPLE_REGION = REGIONS[0]
"""Whose pods the sample selects."""

_OTHERS = "(" + " && ".join(f'geography == "{region}"' for region in REGIONS[1:]) + ")"
_PORTS = [26257, 8080]
_SPEC: dict[str, Any] = {
    "tier": "default",
    "selector": f'geography == "{SAMPLE_REGION}"',
    "types": ["Ingress", "Egress"],
    "doNotTrack": False,
    "preDNAT": False,
    "applyOnForward": False,
    "ingress": [
        {"action": "Allow", "protocol": "TCP", "source": {"selector": _OTHERS}, "destination": {"ports": _PORTS}},
        {"action": "Deny", "source": {"selector": _OTHERS}},
    ],
    "egress": [
        {"action": "Allow", "protocol": "TCP", "destination": {"selector": _OTHERS, "ports": _PORTS}},
        {"action": "Deny", "destination": {"selector": _OTHERS}},
    ],
}

SAMPLE = Policy(
    SAMPLE_REGION, PolicyKind.GLOBAL_NETWORK_POLICY, "default.geography-isolation", (_SPEC,), source="published sample"
)


@dataclass(frozen=True)
class Reading:
    """What a policy turns out to be.

    Attributes:
        rules: how many it has.
        dead: those that decide nothing.
        effects: what it comes to for the pods that it selects.
    """

    rules: int
    dead: tuple[DeadRule, ...]
    effects: Effects

    @property
    def isolates_everything(self) -> bool:
        """Whether no rule is alive and the pods are cut off both ways, from DNS too."""
        return len(self.dead) == self.rules and self.effects.isolates and self.effects.dns is DnsEffect.BLOCKED

    @property
    def sentence(self) -> str:
        """The reading in words."""
        effects = self.effects
        told = f"{len(self.dead)} of {count(self.rules, 'rule')} dead"
        told += "; ingress " + effects.ingress.value + ", egress " + effects.egress.value + ", DNS " + effects.dns.value
        if self.dead:
            told += f": {self.dead[0].explanation}"
        return told


def read_sample(policy: Policy = SAMPLE) -> Reading:
    """Reads the sample, or a policy in its place, over a small mesh of the sample's three regions.

    Every region has two database pods with the label, one client and a DNS server, and the regions know each other's.
    """
    world = World(
        engine=Engine.CALICO,
        endpoints=tuple(pod for number, region in enumerate(REGIONS, 1) for pod in _pods(region, number)),
        policies=(policy,),
        namespaces={(region, name): {} for region in REGIONS for name in (region, "kube-system")},
        options=EngineOptions(federation=True),
    )
    return Reading(
        rules=sum(len(policy.specs[0].get(direction) or ()) for direction in ("ingress", "egress")),
        dead=dead_rules_of_calico(world),
        effects=effects_of(world, policy.cluster),
    )


def _pods(region: str, number: int) -> tuple[Endpoint, ...]:
    def pod(name: str, last: int, namespace: str, labels: dict[str, str], port: tuple[str, Protocol, int]) -> Endpoint:
        address = IPv4Address(f"10.{number}.0.{last}")
        return Endpoint(
            name, EndpointKind.POD, address, region, namespace, f"node-{last}", labels=labels, ports=(port,)
        )

    database = {"app": "cockroachdb", "geography": region}
    grpc = ("grpc", Protocol.TCP, _PORTS[0])
    return (
        pod("cockroachdb-0", 1, region, database, grpc),
        pod("cockroachdb-1", 2, region, database, grpc),
        pod("client", 3, region, {"app": "cockroachdb-client"}, ("http", Protocol.TCP, 80)),
        pod("coredns", 4, "kube-system", dict([DNS_LABEL]), ("dns", Protocol.UDP, 53)),
    )
