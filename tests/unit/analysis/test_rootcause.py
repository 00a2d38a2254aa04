"""The lowest broken layer explains those above it."""

from __future__ import annotations

from analysis.rootcause import Layer, RootCause, follows_from, layer_of, root_cause


def test_the_lowest_layer_is_to_be_mended_first():
    violated = ["NET-ROUTE-005", "NET-ROUTE-008", "NET-POD-001", "NET-POD-014"]
    assert root_cause(violated) == RootCause(Layer.SESSION, "NET-ROUTE-005")
    assert root_cause(["NET-POD-001", "NET-ROUTE-008"]) == RootCause(Layer.FIB, "NET-ROUTE-008")
    assert root_cause([]) is None


def test_a_violation_may_follow_from_lower_layers_only():
    violated = ["NET-ROUTE-005", "NET-ROUTE-006", "NET-ROUTE-008", "NET-POD-001"]
    assert follows_from("NET-POD-001", violated) == ("NET-ROUTE-005", "NET-ROUTE-006", "NET-ROUTE-008")
    assert follows_from("NET-ROUTE-008", violated) == ("NET-ROUTE-005", "NET-ROUTE-006")
    assert follows_from("NET-ROUTE-006", violated) == ()


def test_hygiene_stands_beside_the_layers():
    violated = ["NET-ADDR-003", "NET-POD-014"]
    assert follows_from("NET-POD-014", violated) == ()
    assert root_cause(["NET-POD-014", "NET-POD-001"]) == RootCause(Layer.POLICY, "NET-POD-001")


def test_what_runs_on_the_network_is_a_service():
    assert layer_of("DB-SURV-005") is Layer.SERVICE
    assert layer_of("NET-DNS-001") is Layer.DNS
    assert layer_of("NET-UNDR-006") is Layer.UNDERLAY


def test_what_keeps_clusters_from_being_in_session_lies_below_the_session():
    lost_store = ["NET-ROUTE-006", "NET-ROUTE-008", "NET-ROUTE-019", "NET-POD-001", "MESH-CP-001", "MESH-CP-002"]
    assert root_cause(lost_store) == RootCause(Layer.SESSION, "NET-ROUTE-006")
    assert root_cause([*lost_store, "MESH-CP-006"]) == RootCause(Layer.CONTROL, "MESH-CP-006")
    assert root_cause(["NET-ROUTE-006", "NET-ROUTE-007", "MESH-CP-012"]) == RootCause(Layer.CONTROL, "NET-ROUTE-007")


def test_what_agents_do_not_know_explains_what_is_not_forwarded():
    violated = ["NET-ROUTE-008", "NET-ROUTE-019", "NET-POD-001", "MESH-CP-015"]
    assert root_cause(violated) == RootCause(Layer.RIB, "NET-ROUTE-019")
    assert follows_from("MESH-CP-015", violated) == ("NET-ROUTE-008", "NET-ROUTE-019")
