"""A large world of policies, and how long it takes to analyse it: which rules are dead, and why.

Two thousand policies over ten thousand pods of three clusters, drawn with a fixed seed: each service has policies of
its own, a few are for everybody, and one rule in eight repeats what stands before it or asks for somebody who is not
there, because rules that are dead take the longest to be called so.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from analysis.policy.dead import dead_rules_of_calico
from analysis.policy.dead_union import dead_rules_of_union
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

POLICIES, PODS = 2_000, 10_000
_CLUSTERS = ("east", "middle", "west")
_SERVICES = 400
_SEED = 7

Spec = Mapping[str, Any]


@dataclass(frozen=True)
class _Language:
    """How an engine says things."""

    kind: PolicyKind
    dead_rules: Callable[[World], tuple[DeadRule, ...]]
    spec: Callable[[Random, int], Spec]


def measure(engine: Engine) -> float:
    """Seconds of processor time that it takes to find the dead rules of such a world."""
    world = large_world(engine)
    began = time.process_time()
    _LANGUAGES[engine].dead_rules(world)
    return time.process_time() - began


def large_world(engine: Engine, policies: int = POLICIES, pods: int = PODS) -> World:
    """The world, or a smaller one of the same making."""
    random, language = Random(_SEED), _LANGUAGES[engine]
    return World(
        engine=engine,
        endpoints=tuple(_pod(random, number) for number in range(pods)),
        policies=tuple(
            Policy(_CLUSTERS[number % 3], language.kind, f"policy-{number}", (language.spec(random, number),))
            for number in range(policies)
        ),
        namespaces={(cluster, f"team-{team}"): {"team": str(team)} for cluster in _CLUSTERS for team in range(40)},
        options=EngineOptions(federation=True),
    )


def _pod(random: Random, number: int) -> Endpoint:
    service = random.randrange(_SERVICES)
    return Endpoint(
        f"pod-{number}",
        EndpointKind.POD,
        IPv4Address("10.0.0.0") + number,
        _CLUSTERS[number % 3],
        f"team-{service % 40}",
        f"node-{number % 300}",
        labels={
            "app": f"service-{service}",
            "stage": random.choice(("test", "staging", "production")),
            "version": str(random.randrange(6)),
        },
        ports=(("http", Protocol.TCP, 8080), ("metrics", Protocol.TCP, 9090)),
    )


def _drawn(random: Random, number: int) -> Iterator[tuple[str, str, list[int]]]:
    """What the rules of a policy are about: two labels of the peer, and ports."""
    for place in range(4):
        service = f"service-{random.randrange(_SERVICES)}"
        if random.random() < 1 / 8:
            service = random.choice(("service-0", "nobody"))
        yield service, random.choice(("test", "staging", "production")), [8080 + number % 5, 9000 + place]


def _calico(random: Random, number: int) -> Spec:
    def rules(side: str) -> list[dict[str, Any]]:
        found = []
        for service, stage, ports in _drawn(random, number):
            ends: dict[str, dict[str, Any]] = {"source": {}, "destination": {"ports": ports}}
            ends[side]["selector"] = f'app == "{service}" && stage in {{"{stage}", "production"}}'
            action = "Deny" if random.random() < 1 / 10 else "Allow"
            found.append({"action": action, "protocol": "TCP"} | {name: end for name, end in ends.items() if end})
        return found

    own = f'app == "service-{number % _SERVICES}"' if number % 50 else f'stage == "production" && version != "{number}"'
    return {
        "order": number % 90,
        "selector": own,
        "types": ["Ingress", "Egress"],
        "ingress": rules("source"),
        "egress": rules("destination"),
    }


def _cilium(random: Random, number: int) -> Spec:
    def rules(peers: str) -> list[dict[str, Any]]:
        return [
            {
                peers: [
                    {
                        "matchLabels": {"app": service},
                        "matchExpressions": [{"key": "stage", "operator": "In", "values": [stage, "production"]}],
                    }
                ],
                "toPorts": [{"ports": [{"port": str(port), "protocol": "TCP"} for port in ports]}],
            }
            for service, stage, ports in _drawn(random, number)
        ]

    own = {"app": f"service-{number % _SERVICES}"} if number % 50 else {"stage": "production"}
    denied = {"ingressDeny": rules("fromEndpoints")[:1]} if number % 5 == 0 else {}
    return {
        "endpointSelector": {"matchLabels": own},
        "ingress": rules("fromEndpoints"),
        "egress": rules("toEndpoints"),
        **denied,
    }


_LANGUAGES = {
    Engine.CALICO: _Language(PolicyKind.GLOBAL_NETWORK_POLICY, dead_rules_of_calico, _calico),
    Engine.CILIUM: _Language(PolicyKind.CILIUM_CLUSTERWIDE_NETWORK_POLICY, dead_rules_of_union, _cilium),
}
