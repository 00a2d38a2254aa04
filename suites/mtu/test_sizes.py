"""MTU and encapsulation: packets fit through the tunnels, whole, and all clusters are set up alike for it."""

import pytest

from analysis.mtu import (
    judge_bulk_transfers,
    judge_equal_mtu,
    judge_exact_size,
    judge_no_flannel,
    judge_no_ipip,
    judge_room_for_header,
    judge_same_encapsulation,
)
from analysis.serving import judge_large_rows


@pytest.mark.requirement("NET-MTU-001")
def test_pods_leave_room_for_the_header(plan, facts, require):
    """The MTU of pods leaves room for the encapsulation header on the narrowest path."""
    require(judge_room_for_header(plan, facts.mtu))


@pytest.mark.requirement("NET-MTU-002")
def test_the_pod_mtu_is_what_passes(plan, facts, require):
    """A packet of exactly the pod MTU crosses every pair of regions, and one byte more is refused with a reason."""
    require(judge_exact_size(plan, facts.mtu))


@pytest.mark.requirement("NET-MTU-003")
def test_bulk_transfers_do_not_stall(plan, facts, require):
    """A bulk transfer between any two regions finishes in both directions without stalling."""
    require(judge_bulk_transfers(plan, facts.mtu))


@pytest.mark.requirement("NET-MTU-006")
def test_clusters_encapsulate_alike(plan, facts, require):
    """All clusters encapsulate in the same way."""
    require(judge_same_encapsulation(plan, facts.inventory, facts.addressing, facts.components))


@pytest.mark.requirement("NET-MTU-007")
def test_nothing_relies_on_ipip_where_it_is_dropped(plan, facts, require):
    """IP-in-IP is not used where the cloud drops it."""
    require(judge_no_ipip(plan, facts.inventory, facts.addressing, facts.components))


@pytest.mark.requirement("NET-MTU-008")
def test_pods_have_one_mtu(plan, facts, require):
    """Pods have the same MTU in all clusters."""
    require(judge_equal_mtu(plan, facts.inventory, facts.mtu))


@pytest.mark.requirement("NET-MTU-010")
@pytest.mark.needs("database")
def test_large_rows_cross_between_regions(plan, facts, require):
    """A large row or snapshot of the database crosses between regions."""
    require(judge_large_rows(plan, facts.database))


@pytest.mark.requirement("NET-MTU-011")
def test_flannel_is_gone(plan, facts, require):
    """No trace of Flannel is left on any node."""
    require(judge_no_flannel(plan, facts.inventory, facts.forwarding))
