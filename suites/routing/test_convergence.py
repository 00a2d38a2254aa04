"""Route exchange: changes are known everywhere in time, and routes come back by themselves."""

import time
from datetime import timedelta

import pytest

from analysis.addressing import spare_block
from analysis.convergence import judge_followed
from analysis.expectation import remote_blocks
from fixtures.outage import knows_address

BOOKKEEPING = timedelta(seconds=5)
"""How long a cluster may take to note that a block was claimed, and whether it gives up an empty one."""


@pytest.mark.disruptive
@pytest.mark.needs("bgp")
@pytest.mark.requirement("NET-ROUTE-017")
def test_blocks_come_and_go_everywhere_in_time(plan, churn, evidence, require):
    """What comes up in a cluster is known in the others within the convergence time, and what goes is forgotten."""
    region, budget = plan.regions[0], plan.budgets.convergence
    host = churn.standing(on_host=True, inside=region.name)[-1]
    observers = churn.standing(on_host=True, outside=region.name)
    addressing = churn.addressing()
    known = [block.cidr for block in addressing.blocks if (block.region, block.node) == (region.name, host.node)]
    spare = spare_block(region, addressing)
    if spare is None:
        churn.miss(region.name, "a new block", f"every block of {region.pod_cidr} is taken")
    elif churn.in_order(region.name, observers, churn.holds_routes(known), what=f"the routes to {host.node}"):
        claim_and_release(churn, host, spare, observers, budget)

    churn.keep(evidence)
    require(
        judge_followed(
            f"a new block is known on every node of the other clusters within {budget.total_seconds():g} s, "
            "and a released one is gone within it",
            churn.history,
        )
    )


def claim_and_release(churn, host, block, observers, budget):
    """A node claims a block for a pod and gives it up again; the observers look on."""
    since = time.monotonic()
    pod = churn.start(host.region, host.node, address=block[1])
    if churn.block_is(block, owned=True, within=BOOKKEEPING):
        cause = f"{host.node} does not announce it, or a filter on the way drops it"
        churn.follow(
            str(block), observers, churn.holds_routes([block]), appears=True, budget=budget, cause=cause, since=since
        )
    else:
        churn.miss(host.region, f"block {block}", "no node claimed it for the address that was asked for")
    churn.stop(pod)
    if churn.block_is(block, owned=False, within=BOOKKEEPING):
        cause = f"{host.node} goes on announcing it, or its withdrawal was lost"
        churn.follow(str(block), observers, churn.holds_routes([block]), appears=False, budget=budget, cause=cause)
    else:
        churn.remark(f"{host.node} kept the empty block {block}, so that its removal could not be watched")


@pytest.mark.disruptive
@pytest.mark.needs("tunnel-map")
@pytest.mark.requirement("NET-ROUTE-017")
def test_addresses_come_and_go_everywhere_in_time(plan, churn, evidence, require):
    """What comes up in a cluster is known in the others within the convergence time, and what goes is forgotten."""
    region, budget = plan.regions[0], plan.budgets.convergence
    neighbour = churn.standing(on_host=False, inside=region.name)[-1]
    observers = churn.standing(on_host=False, outside=region.name)
    what = f"the pod {neighbour.address}"
    if churn.in_order(region.name, observers, knows_address(neighbour.address), what=what):
        pod = churn.start(region.name, neighbour.node)
        subject, look = f"the address {pod.address} of a pod on {pod.node}", knows_address(pod.address)
        cause = f"it did not come into the store of {region.name}, or the agent does not follow that store"
        churn.follow(subject, observers, look, appears=True, budget=budget, cause=cause)
        churn.stop(pod)
        cause = f"it stayed in the store of {region.name}, or the agent did not hear of its end"
        churn.follow(subject, observers, look, appears=False, budget=budget, cause=cause)

    churn.keep(evidence)
    require(
        judge_followed(
            f"the address of a new pod is known to agents of the other clusters within {budget.total_seconds():g} s, "
            "and that of a removed pod is forgotten within it",
            churn.history,
        )
    )


@pytest.mark.disruptive
@pytest.mark.requirement("NET-ROUTE-021")
def test_routes_come_back_after_the_agent_restarts(plan, facts, churn, evidence, require):
    """Routes come back by themselves after the routing agent of a node restarts."""
    region, budget = plan.regions[0], plan.budgets.convergence
    host = churn.standing(on_host=True, inside=region.name)[-1]
    observers = churn.standing(on_host=True, outside=region.name)
    to_others = [block.cidr for block in remote_blocks(plan, facts.inventory, facts.addressing)[region.name]]
    to_node = [
        block.cidr for block in facts.addressing.blocks if (block.region, block.node) == (region.name, host.node)
    ]

    expected = (
        (f"routes of {host.node} to the other clusters", [host], churn.holds_routes(to_others)),
        (f"routes of the other clusters to {host.node}", observers, churn.holds_routes(to_node)),
    )
    if all(churn.in_order(region.name, watching, look, what=subject) for subject, watching, look in expected):
        churn.restart_routing_agent(region.name, host.node, within=budget)
        restarted = time.monotonic()
        cause = "its sessions did not come back"
        for subject, watching, look in expected:
            churn.follow(subject, watching, look, appears=True, budget=budget, cause=cause, since=restarted)

    churn.keep(evidence)
    require(
        judge_followed(
            f"within {budget.total_seconds():g} s after the routing agent of {host.node} restarted, "
            "the node has its routes again and the others have theirs to it",
            churn.history,
        )
    )
