"""One root cause: what nothing else explains, and what explains most."""

from __future__ import annotations

from graphlib import TopologicalSorter

import pytest

from analysis.rootcause import (
    EXPLAINS,
    Layer,
    RootCause,
    Violation,
    follows_from,
    layer_of,
    regions_named,
    root_cause,
)
from analysis.verdict import Finding, conclude


def violated(*requirements: str) -> list[Violation]:
    return [Violation(requirement) for requirement in requirements]


def named(*requirements: str) -> tuple[Layer, str] | None:
    cause = root_cause(violated(*requirements))
    return (cause.layer, cause.requirement) if cause else None


def test_the_lowest_layer_is_to_be_mended_first():
    assert named("NET-ROUTE-005", "NET-ROUTE-008", "NET-POD-001", "NET-POD-014") == (Layer.SESSION, "NET-ROUTE-005")
    assert named("NET-POD-001", "NET-ROUTE-008") == (Layer.FIB, "NET-ROUTE-008")
    assert named() is None


def test_the_root_cause_says_what_it_explains():
    assert root_cause(violated("NET-ROUTE-005", "NET-ROUTE-008", "NET-POD-001", "NET-POD-014")) == RootCause(
        Layer.SESSION, "NET-ROUTE-005", ("NET-ROUTE-008", "NET-POD-001")
    )


def test_a_violation_may_follow_from_lower_layers_only():
    found = violated("NET-ROUTE-005", "NET-ROUTE-006", "NET-ROUTE-008", "NET-POD-001")
    assert follows_from(Violation("NET-POD-001"), found) == ("NET-ROUTE-005", "NET-ROUTE-006", "NET-ROUTE-008")
    assert follows_from(Violation("NET-ROUTE-008"), found) == ("NET-ROUTE-005", "NET-ROUTE-006")
    assert follows_from(Violation("NET-ROUTE-006"), found) == ()


def test_hygiene_stands_beside_the_layers():
    assert follows_from(Violation("NET-POD-014"), violated("NET-ADDR-003", "NET-POD-014")) == ()
    assert named("NET-POD-014", "NET-POD-001") == (Layer.POLICY, "NET-POD-001")


def test_every_area_has_its_layer():
    assert layer_of("DB-SURV-005") is Layer.SERVICE
    assert layer_of("DB-FORM-001") is Layer.SQL
    assert layer_of("SEC-TLS-001") is Layer.TLS
    assert layer_of("NET-DNS-001") is Layer.DNS
    assert layer_of("NET-UNDR-006") is Layer.UNDERLAY


def test_what_keeps_clusters_from_being_in_session_lies_below_the_session():
    lost_store = ["NET-ROUTE-006", "NET-ROUTE-008", "NET-ROUTE-019", "NET-POD-001", "MESH-CP-002"]
    assert named(*lost_store) == (Layer.SESSION, "NET-ROUTE-006")
    assert named(*lost_store, "MESH-CP-006") == (Layer.CONTROL, "MESH-CP-006")
    assert named("NET-ROUTE-006", "NET-ROUTE-007", "MESH-CP-012") == (Layer.CONTROL, "NET-ROUTE-007")


def test_what_agents_do_not_know_explains_what_is_not_forwarded():
    found = violated("NET-ROUTE-008", "NET-ROUTE-019", "NET-POD-001", "MESH-CP-015")
    assert named(*(one.requirement for one in found)) == (Layer.RIB, "NET-ROUTE-019")
    assert follows_from(Violation("MESH-CP-015"), found) == ("NET-ROUTE-019", "NET-ROUTE-008")


def test_a_route_past_the_tunnel_explains_what_bgp_learns_of_it():
    bare = violated("NET-ROUTE-009", "NET-ROUTE-010", "NET-ROUTE-016", "NET-POD-001")
    cause = root_cause(bare)
    assert cause == RootCause(Layer.ENCAPSULATION, "NET-ROUTE-010", ("NET-ROUTE-009", "NET-ROUTE-016", "NET-POD-001"))
    assert follows_from(Violation("NET-ROUTE-010"), bare) == ()


def test_a_judge_that_sees_deeper_is_believed():
    withheld = [Violation("NET-ROUTE-008", Layer.RIB), Violation("NET-POD-001")]
    assert root_cause(withheld) == RootCause(Layer.RIB, "NET-ROUTE-008", ("NET-POD-001",))


def test_a_cause_must_be_where_its_effect_is():
    east, west = frozenset({"east"}), frozenset({"west"})
    apart = [
        Violation("NET-ADDR-011", regions=east),
        Violation("NET-ROUTE-005", regions=west),
        Violation("NET-POD-001", regions=west | east),
        Violation("NET-POD-002", regions=west),
        Violation("NET-POD-003", regions=west),
    ]
    cause = root_cause(apart)
    assert cause is not None
    assert (cause.requirement, len(cause.explains)) == ("NET-ROUTE-005", 3), "it explains more than the block's size"
    assert follows_from(apart[3], apart) == ("NET-ROUTE-005",)
    assert follows_from(apart[1], apart) == (), "a cause of its own"


def test_findings_that_name_no_region_may_be_anywhere():
    regions = ["eastus", "eastus2", "north-1"]
    assert regions_named(["eastus/node-1 -> north-1/node-2"], regions) == {"eastus", "north-1"}
    assert regions_named(["eastus2-node-1"], regions) == {"eastus2"}
    assert regions_named(["eastus/node-1", "10.0.0.0/24"], regions) == frozenset()
    assert regions_named([], regions) == frozenset()


def test_a_verdict_has_the_lowest_layer_of_its_findings_if_all_of_them_tell():
    rib, fib = (Finding("a", "b", "c", layer=layer) for layer in (Layer.RIB, Layer.FIB))
    assert conclude(expected="", examined=1, violations=[fib, rib]).layer is Layer.RIB
    assert conclude(expected="", examined=1, violations=[fib, Finding("a", "b", "c")]).layer is None
    assert conclude(expected="", examined=1).layer is None


# --- the database -------------------------------------------------------------------------------------------------

UNSERVED = ("DB-FORM-001", "DB-FORM-004", "DB-FORM-010", "DB-FORM-011", "DB-FORM-012", "DB-FORM-018", "DB-FORM-019")
"""What a region without its database pods shows."""


@pytest.mark.parametrize(
    ("cause", "layer"),
    [
        ("NET-ADDR-003", Layer.ADDRESSING),
        ("NET-UNDR-004", Layer.UNDERLAY),
        ("NET-ROUTE-008", Layer.FIB),
        ("NET-MTU-002", Layer.MTU),
        ("NET-POL-003", Layer.POLICY),
        ("NET-DNS-005", Layer.DNS),
        ("SEC-TLS-012", Layer.TLS),
        ("SEC-TLS-009", Layer.TLS),
        ("DB-FORM-007", Layer.SQL),
        ("DB-FORM-009", Layer.SQL),
        ("DB-FORM-017", Layer.SQL),
        ("DB-FORM-022", Layer.SQL),
    ],
)
def test_what_keeps_a_database_from_serving_is_named_and_not_what_it_no_longer_serves(cause, layer):
    surviving = ("DB-SURV-001", "DB-SURV-004", "DB-SURV-010")
    found = root_cause(violated(*UNSERVED, cause, *surviving))
    assert found == RootCause(layer, cause, (*UNSERVED, *surviving))


def test_a_node_that_is_not_live_is_named_before_what_is_missed_of_it():
    assert root_cause(violated("DB-FORM-014", *UNSERVED)) == RootCause(
        Layer.SQL, "DB-FORM-001", ("DB-FORM-014", *UNSERVED[1:])
    )


def test_pods_that_cannot_start_have_no_names_and_no_certificates_to_show():
    found = root_cause(
        violated("NET-DNS-006", "NET-DNS-008", "SEC-TLS-002", "DB-FORM-001", "DB-FORM-004", "DB-FORM-017")
    )
    assert found is not None
    assert (found.requirement, len(found.explains)) == ("DB-FORM-017", 5)


def test_names_that_do_not_resolve_are_a_cause_while_pods_run():
    assert named("NET-DNS-006", "DB-FORM-001", "DB-FORM-010") == (Layer.DNS, "NET-DNS-006")


def test_data_that_a_wrong_locality_spreads_badly_is_not_named_but_the_locality():
    assert named("DB-FORM-014", "DB-FORM-003", "DB-SURV-001", "DB-SURV-005") == (Layer.SQL, "DB-FORM-003")


def test_a_region_that_cannot_be_lost_follows_from_the_goal_of_a_zone():
    assert named("DB-SURV-001", "DB-SURV-012") == (Layer.SQL, "DB-SURV-012")


@pytest.mark.parametrize("beside", ["SEC-TLS-011", "SEC-TLS-008", "DB-FORM-020", "DB-FORM-023", "DB-FORM-015"])
def test_what_nobody_is_kept_from_working_by_explains_nothing(beside):
    cause = root_cause(violated(beside, *UNSERVED))
    assert cause is not None
    assert cause.requirement == "DB-FORM-001"
    assert follows_from(Violation("DB-FORM-001"), violated(beside, *UNSERVED)) == ()


def test_an_expired_certificate_explains_the_handshakes_that_fail():
    assert named("SEC-TLS-002", "SEC-TLS-005", "SEC-TLS-012", *UNSERVED) == (Layer.TLS, "SEC-TLS-012")


def test_no_two_requirements_explain_each_other():
    TopologicalSorter(EXPLAINS).prepare()


@pytest.mark.parametrize(
    ("effects", "cause"),
    [
        (("DB-FORM-001", "DB-FORM-010", "DB-SURV-001", "NET-POL-005", "NET-POL-010", "NET-POL-021"), "NET-POL-005"),
        (("NET-DNS-006", "DB-FORM-010", "NET-POL-009", "NET-POL-021"), "NET-POL-009"),
        (("SEC-TLS-005", "NET-POL-008", "DB-FORM-010"), "NET-POL-008"),
        (("NET-POL-005", "NET-POL-006", "NET-POL-016", "DB-FORM-001"), "NET-POL-016"),
        (("NET-POL-003", "NET-POL-004", "NET-POL-005", "NET-POL-008", "NET-POL-009", "DB-FORM-001"), "NET-POL-003"),
        (("NET-POL-007", "NET-POL-011", "NET-POL-013", "NET-POL-014"), "NET-POL-014"),
        (("NET-POL-007", "NET-POL-013", "NET-POL-022"), "NET-POL-022"),
        (("NET-POL-005", "NET-POL-006", "NET-POL-019"), "NET-POL-019"),
        (("NET-POL-001", "NET-POL-005", "NET-POL-006"), "NET-POL-001"),
        (("NET-POL-005", "NET-POL-011", "NET-POD-004"), "NET-POD-004"),
    ],
)
def test_a_wrong_policy_is_named_before_what_it_breaks(effects, cause):
    assert named(*sorted(effects)) == (Layer.POLICY, cause)


def test_a_database_that_is_unwell_is_not_the_policy_s_doing():
    assert named("DB-FORM-001", "NET-POL-010", "NET-POL-021") == (Layer.SQL, "DB-FORM-001")


def test_a_broken_path_comes_before_the_policy_that_it_looks_like():
    assert named("NET-POD-002", "NET-POL-001", "NET-POL-005", "NET-ROUTE-008") == (Layer.FIB, "NET-ROUTE-008")


def test_an_open_door_keeps_nobody_from_working():
    found = violated("NET-POL-007", "NET-POL-011", "NET-POL-013", "DB-FORM-001")
    assert follows_from(Violation("DB-FORM-001"), found) == ()
