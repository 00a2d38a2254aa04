"""Survival: the loss of a control plane, which no client is to notice."""

import pytest

from analysis.survival.undisturbed import judge_control_plane, judge_routing

pytestmark = pytest.mark.disruptive


@pytest.mark.requirement("DB-SURV-008")
def test_loss_of_a_kubernetes_control_plane_goes_unnoticed(plan, outages, require):
    """The loss of one cluster's control plane leaves the database's traffic alone."""
    require(judge_control_plane(plan, outages))


@pytest.mark.requirement("DB-SURV-009")
def test_a_restart_of_routing_control_goes_unnoticed(plan, outages, require):
    """Established traffic between regions goes on while a region's routing control restarts."""
    require(judge_routing(plan, outages))
