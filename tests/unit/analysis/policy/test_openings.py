"""The whole set: what all policies together open between regions, against what was meant."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from analysis.plan import CLIENT, DATABASE, AllowedFlow, PolicyPlan, PolicyRole
from analysis.policy.decide import Evaluator
from analysis.policy.model import Endpoint, Engine, Flow, Protocol, World
from analysis.policy.openings import deviations, openings, port_edges
from tests.unit.analysis.policy.vectors import Raw, set_vectors, world_of

INTENT = PolicyPlan(
    roles=(PolicyRole(DATABASE, "app", "cockroachdb"), PolicyRole(CLIENT, "app", "cockroachdb-client")),
    allow=(AllowedFlow(DATABASE, DATABASE, (26257, 8080)), AllowedFlow(CLIENT, DATABASE, (26257, 8080))),
)
LOOKED_AT = [("TCP", port) for port in (22, 53, 8080, 26257, 26258)] + [("UDP", 53), ("UDP", 26257)]
VECTORS = [*set_vectors(Engine.CALICO), *set_vectors(Engine.CILIUM)]


@pytest.mark.parametrize("vector", VECTORS, ids=[vector.id for vector in VECTORS])
def test_a_set_opens_what_the_vector_says(vector: Raw) -> None:
    evaluator = Evaluator(vector.world)
    expect = vector.fields["expect"]
    database = [named(vector.world, f"{cluster}-db-0") for cluster in "abc"]
    found = {(each.source.cluster, each.target.cluster): each for each in openings(evaluator, database, database)}

    for pair, expected in expect["open"].items():
        opening = found[tuple(pair.split("->"))]
        assert [
            f"{protocol}/{port}" for protocol, port in LOOKED_AT if opening.is_open(Protocol(protocol), port)
        ] == expected
    exact = {(Protocol.TCP, 8080, 8080), (Protocol.TCP, 26257, 26257)}
    assert all(set(each.ranges) == exact for each in found.values()) is expect["exact_between_regions"]
    assert allowed(evaluator, "a-db-0", "a-db-1", 26257) is (expect["intra_region_26257"] == "allow")
    assert allowed(evaluator, "a-db-0", "a-dns", 53, Protocol.UDP) is (expect["dns_from_db"] == "allow")
    assert allowed(evaluator, "b-plain", "a-db-0", 26257) is (expect["unlabelled_remote_to_26257"] == "allow")


def test_every_port_is_in_exactly_one_stretch() -> None:
    edges = port_edges(world_of(CILIUM_SET))
    assert edges[0][0] == 1
    assert edges[-1][1] == 65535
    assert all(one[1] + 1 == other[0] for one, other in pairwise(edges))
    assert {(53, 53), (8080, 8080), (26257, 26257)} <= set(edges)


def test_a_stretch_tells_of_every_port_in_it() -> None:
    """The port in the middle of each stretch meets the same fate as its first."""
    world = world_of(CILIUM_SET)
    evaluator = Evaluator(world)
    source, target = named(world, "a-client"), named(world, "a-db-0")
    for first, last in port_edges(world):
        fates = {
            evaluator.decide(Flow(source, target, Protocol.TCP, port)).allowed
            for port in (first, (first + last) // 2, last)
        }
        assert len(fates) == 1


def test_deviations_name_what_opens_and_what_closes() -> None:
    """Region c has no policy: whoever knocks there is let in; and clients are forgotten in the others."""
    world = world_of(CILIUM_SET)
    found = deviations(Evaluator(world), INTENT)
    told = {(each.source.name, each.target.name, each.protocol.value, each.first, each.intended) for each in found}

    assert ("a-client", "c-db-0", "TCP", 26257, False) not in told  # A client may use every region.
    assert ("a-client", "a-db-0", "TCP", 26257, True) in told
    plain = [each for each in found if (each.source.name, each.target.name) == ("a-plain", "c-db-0")]
    assert {(each.protocol.value, each.first, each.last) for each in plain} == {
        ("TCP", 1, 65535),
        ("UDP", 1, 65535),
        ("SCTP", 1, 65535),
        ("ICMP", 0, 0),
    }
    assert {each.decider for each in plain} == {"default-allow"}
    closed = next(each for each in found if (each.source.name, each.target.name) == ("a-client", "a-db-0"))
    assert closed.decider == "default-deny"


def test_a_set_without_deviations_between_database_pods_is_exact() -> None:
    world = world_of(CILIUM_SET)
    database = tuple(each for each in world.endpoints if each.name.endswith("db-0"))
    assert deviations(Evaluator(replace(world, endpoints=database)), INTENT) == ()


def named(world: World, name: str) -> Endpoint:
    return next(each for each in world.endpoints if each.name == name)


def allowed(evaluator: Evaluator, source: str, target: str, port: int, protocol: Protocol = Protocol.TCP) -> bool:
    ends = named(evaluator.world, source), named(evaluator.world, target)
    return evaluator.decide(Flow(*ends, protocol, port)).allowed


CILIUM_SET = {"engine": "cilium", "policies": ["cil-a", "cil-b"]}
