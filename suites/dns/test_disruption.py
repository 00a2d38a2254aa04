"""DNS: what is found by name while servers and pods come and go."""

from datetime import timedelta

import pytest

from analysis.convergence import judge_followed, judge_undisturbed

WATCHED = timedelta(seconds=1.5)
"""How long the others are watched while servers are away: more than one look of each."""

LOCAL_NAME = "kubernetes.default.svc.cluster.local"


@pytest.mark.disruptive
@pytest.mark.needs("database-pods")
@pytest.mark.requirement("NET-DNS-011")
def test_a_recreated_pod_is_found_at_its_new_address(plan, churn, nameservers, evidence, require):
    """After a pod is recreated, its new address is seen remotely as soon as caches allow."""
    region, budget = plan.regions[0].name, plan.budgets.dns_change
    observers = churn.lookouts(outside=region)
    name, address = nameservers.member(region)
    if address is None:
        churn.miss(region, name, "there is no such pod")
    elif churn.in_order(region, observers, nameservers.leads_to(name, [address]), what=f"{name} at {address}"):
        name, old, new = nameservers.recreate_member(region)
        if old == new:
            churn.remark(f"{name} came back with its old address {old}, so that nothing had to change")
        cause = "an answer is kept for longer than it may, or the cluster itself does not know the new pod"
        look = nameservers.leads_to(name, [new])
        churn.follow(f"{name} at {new}", observers, look, appears=True, budget=budget, cause=cause)

    churn.keep(evidence)
    promise = f"the new address of a recreated pod is seen in the other clusters within {budget.total_seconds():g} s"
    require(judge_followed(promise, churn.history))


@pytest.mark.disruptive
@pytest.mark.requirement("NET-DNS-014")
def test_resolution_goes_on_without_one_server(plan, churn, nameservers, evidence, require):
    """Resolution survives the loss of one upstream node."""
    region = plan.regions[-1].name
    observers, look = churn.lookouts(outside=region), nameservers.forwards_to(region)
    subject = f"answers for the zone of {region}"
    if churn.in_order(region, observers, look, what=subject):
        nameservers.restart(region, only_one=True)
        cause = "questions go on being sent to the server that is gone"
        churn.watch([(subject, observers, look)], lasting=WATCHED, cause=cause)

    churn.keep(evidence)
    promise = f"the other clusters resolve names of {region} while one of its DNS servers is lost"
    require(judge_undisturbed(promise, churn.history))


@pytest.mark.disruptive
@pytest.mark.requirement("NET-DNS-015")
def test_local_names_do_without_a_remote_cluster(plan, churn, nameservers, evidence, require):
    """The loss of a whole remote cluster leaves local resolution as fast and as right as before."""
    region = plan.regions[-1].name
    names = [LOCAL_NAME, *([plan.external_name] if plan.external_name else [])]
    observers, look = churn.lookouts(outside=region), nameservers.resolves_as_fast(*names)
    subject = "local and external names"
    if churn.in_order(region, observers, look, what=subject):
        with nameservers.lost(region):
            cause = f"they are asked of {region}, or its silence holds up the others"
            churn.watch([(subject, observers, look)], lasting=WATCHED, cause=cause)
        nameservers.settle(observers, nameservers.forwards_to(region), within=plan.budgets.dns_change)

    churn.keep(evidence)
    limit = plan.budgets.dns_answer.total_seconds()
    promise = f"local and external names resolve within {limit:g} s while {region} has no DNS at all"
    require(judge_undisturbed(promise, churn.history))


@pytest.mark.disruptive
@pytest.mark.requirement("NET-DNS-016")
def test_forwarding_survives_a_restart_of_the_servers(plan, churn, nameservers, evidence, require):
    """Forwarding survives a restart of the DNS server and of the node it runs on."""
    region, budget = plan.regions[0].name, plan.budgets.dns_change
    observers = churn.standing(on_host=False, inside=region)[-1:]
    look = nameservers.forwards_to(*(other.name for other in plan.others(region)))
    subject = f"answers for the other clusters' zones in {region}"
    if churn.in_order(region, observers, look, what=subject):
        renewed = nameservers.restart(region)

        def served_again(cluster, observer):
            there, detail = renewed(cluster, observer)
            return look(cluster, observer) if there else (there, detail)

        cause = "what a server reads when it starts is not what it ran with, or it is refused"
        churn.follow(f"{subject} from new servers", observers, served_again, appears=True, budget=budget, cause=cause)

    churn.keep(evidence)
    promise = f"{budget.total_seconds():g} s after the DNS servers of {region} restarted, forwarding works again"
    require(judge_followed(promise, churn.history))
