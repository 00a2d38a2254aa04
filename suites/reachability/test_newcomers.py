"""Pod-to-pod reachability: pods that come and go."""

import pytest

from analysis.convergence import judge_followed


@pytest.mark.requirement("NET-POD-010")
def test_new_pods_are_reachable_soon(plan, churn, evidence, require):
    """A new pod is reachable from every other cluster soon after it runs."""
    budget = plan.budgets.pod_ready
    for region in plan.regions:
        neighbour = churn.standing(on_host=False, inside=region.name)[-1]
        observers = churn.lookouts(outside=region.name)
        if not churn.in_order(region.name, observers, churn.answers(neighbour), what=f"the pod {neighbour.address}"):
            continue
        pod = churn.start(region.name, neighbour.node)
        subject = f"new pod {pod.address} on {neighbour.node}"
        churn.follow(subject, observers, churn.answers(pod), appears=True, budget=budget)

    churn.keep(evidence)
    require(
        judge_followed(
            f"a new pod answers pods of every other cluster within {budget.total_seconds():g} s of running",
            churn.history,
        )
    )


@pytest.mark.requirement("NET-POD-011")
def test_addresses_follow_their_pods(plan, churn, evidence, require):
    """The address of a deleted pod falls silent, and once reused it leads to the new pod."""
    region, budget = plan.regions[0], plan.budgets.pod_ready
    neighbour = churn.standing(on_host=False, inside=region.name)[-1]
    observers = churn.lookouts(outside=region.name)
    if churn.in_order(region.name, observers, churn.answers(neighbour), what=f"the pod {neighbour.address}"):
        reuse_an_address(churn, region.name, neighbour.node, observers, budget)

    churn.keep(evidence)
    require(
        judge_followed(
            "the address of a deleted pod falls silent, and leads to the next pod that is given it, each within "
            f"{budget.total_seconds():g} s",
            churn.history,
        )
    )


def reuse_an_address(churn, region, node, observers, budget):
    """A pod comes, goes, and another one gets its address; the observers look on."""
    first = churn.start(region, node)
    subject = f"first pod at {first.address}"
    churn.follow(subject, observers, churn.answers(first), appears=True, budget=budget)
    churn.stop(first)
    cause = "its device or route was left behind, or something else took its address"
    churn.follow(subject, observers, churn.still_answers(first), appears=False, budget=budget, cause=cause)
    second = churn.start(region, node, address=first.address)
    if second.address == first.address:
        cause = "the address still leads to where the first pod was"
        subject = f"second pod at {second.address}"
        churn.follow(subject, observers, churn.answers(second), appears=True, budget=budget, cause=cause)
    else:
        churn.miss(region, f"a second pod at {first.address}", f"the CNI gave it {second.address}")
