"""Mesh control plane: what its loss in one cluster does to the others, and what they learn when it is back."""

import time
from datetime import timedelta

import pytest

from analysis.convergence import judge_followed, judge_undisturbed
from analysis.expectation import mesh_name
from fixtures.outage import connected_to, knows_address

WATCHED = timedelta(seconds=3)
"""How long the others are watched while a control plane is away: enough for every agent to have noticed."""

CAUSE = "the data path hangs on the control plane of another cluster"


@pytest.mark.disruptive
@pytest.mark.requirement("MESH-CP-010")
def test_traffic_goes_on_without_a_control_plane(plan, churn, control_plane, evidence, require):
    """When one cluster's mesh control plane fails, the other clusters and running traffic do not notice."""
    lost = plan.regions[-1]
    watches = [
        (f"pod {target.address} of {target.region}", churn.lookouts(outside=target.region), churn.answers(target))
        for target in (churn.standing(on_host=False, inside=region.name)[-1] for region in plan.regions)
    ]
    if all(churn.in_order(lost.name, observers, look, what=subject) for subject, observers, look in watches):
        with control_plane.lost(lost.name):
            churn.watch(watches, lasting=WATCHED, cause=CAUSE)

    churn.keep(evidence)
    require(
        judge_undisturbed(
            f"pods of all clusters go on answering each other while the control plane of {lost.name} is away",
            churn.history,
        )
    )


@pytest.mark.disruptive
@pytest.mark.needs("tunnel-map")
@pytest.mark.requirement("MESH-CP-010")
def test_the_others_stay_connected_without_a_control_plane(plan, churn, control_plane, evidence, require):
    """When one cluster's mesh control plane fails, the other clusters and running traffic do not notice."""
    lost = plan.regions[-1]
    watches = [
        (
            f"connections of {region.name} to the others that are there",
            churn.standing(on_host=False, inside=region.name),
            connected_to([mesh_name(other) for other in plan.others(region.name) if other is not lost]),
        )
        for region in plan.others(lost.name)
    ]
    if all(churn.in_order(lost.name, observers, look, what=subject) for subject, observers, look in watches):
        with control_plane.lost(lost.name):
            churn.watch(watches, lasting=WATCHED, cause="agents give up all clusters when they lose one")

    churn.keep(evidence)
    require(
        judge_undisturbed(
            f"the other clusters stay connected to each other while the control plane of {lost.name} is away",
            churn.history,
        )
    )


@pytest.mark.disruptive
@pytest.mark.needs("bgp")
@pytest.mark.requirement("MESH-CP-011")
def test_pods_made_meanwhile_are_reachable_afterwards(plan, churn, control_plane, evidence, require):
    """Once a failed control plane is back, changes in its cluster spread again within the convergence time."""
    make_a_pod_during_an_outage(plan, churn, control_plane, churn.answers, "answers pods of the other clusters")

    churn.keep(evidence)
    require(judge_followed(promise(plan, "a pod made meanwhile answers pods of the other clusters"), churn.history))


@pytest.mark.disruptive
@pytest.mark.needs("tunnel-map")
@pytest.mark.requirement("MESH-CP-011")
def test_agents_learn_afterwards_what_came_meanwhile(plan, churn, control_plane, evidence, require):
    """Once a failed control plane is back, changes in its cluster spread again within the convergence time."""
    make_a_pod_during_an_outage(
        plan, churn, control_plane, lambda pod: knows_address(pod.address), "is known to agents of the other clusters"
    )

    churn.keep(evidence)
    require(judge_followed(promise(plan, "agents of the other clusters know a pod made meanwhile"), churn.history))


def make_a_pod_during_an_outage(plan, churn, control_plane, look, doing):
    """A pod comes while its cluster's control plane is away; the observers look for it once that is back."""
    region = plan.regions[-1]
    neighbour = churn.standing(on_host=False, inside=region.name)[-1]
    observers = churn.lookouts(outside=region.name)
    if not churn.in_order(region.name, observers, look(neighbour), what=f"the pod {neighbour.address}"):
        return
    with control_plane.lost(region.name):
        pod = churn.start(region.name, neighbour.node)
    back = time.monotonic()
    cause = "the control plane came back without what its cluster had done meanwhile, or the others do not ask it again"
    churn.follow(
        f"pod {pod.address} {doing}",
        observers,
        look(pod),
        appears=True,
        budget=plan.budgets.convergence,
        cause=cause,
        since=back,
    )


def promise(plan, what):
    """The promise with its budget."""
    return f"within {plan.budgets.convergence.total_seconds():g} s after the control plane is back, {what}"
