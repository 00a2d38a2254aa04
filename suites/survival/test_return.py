"""Survival: what is left when all outages are over."""

import pytest

from analysis.survival.recovery import judge_nothing_lost, judge_rejoin, judge_shutdown
from analysis.survival.undisturbed import judge_no_restarts

pytestmark = pytest.mark.disruptive


@pytest.mark.requirement("DB-SURV-004")
def test_regions_rejoin_by_themselves(plan, outages, require):
    """After a region returns, its nodes rejoin by themselves and all ranges regain their replicas in time."""
    require(judge_rejoin(plan, outages))


@pytest.mark.requirement("DB-SURV-005")
def test_no_acknowledged_write_is_lost(plan, outages, require):
    """No acknowledged write is lost when regions fail and return."""
    require(judge_nothing_lost(plan, outages))


@pytest.mark.requirement("DB-SURV-010")
def test_healthy_regions_do_not_restart(plan, outages, require):
    """Database nodes of healthy regions do not restart while another region is out."""
    require(judge_no_restarts(plan, outages))


@pytest.mark.requirement("DB-SURV-013")
def test_pods_end_cleanly(plan, outages, require):
    """A database pod shuts down cleanly within its grace period."""
    require(judge_shutdown(plan, outages))
