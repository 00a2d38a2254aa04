"""What was meant: what the plan's intent says of a flow."""

from __future__ import annotations

from analysis.facts import Party, Way
from analysis.plan import DATABASE, Plan, PolicyPlan
from analysis.policy.judging.tried import Tried, role_of

DNS_PORT = 53
DNS_PROTOCOLS = ("UDP", "TCP")


def meant(intent: PolicyPlan, tried: Tried) -> bool | None:
    """Whether a flow was to get through; None where the intent does not speak of it.

    The intent is a closed world about pods of the database: what is not listed is to be blocked. It says nothing about
    flows between others, nor about a node's own pods, which it must always reach: that is how kubelets ask for health.
    The DNS of other clusters is not spoken of: a rule that allows the own one by its label means theirs too, where they
    are known.
    """
    source, target, trial = tried.source, tried.target, tried.trial
    if asks_dns(tried):
        return True if role_of(source) and source.region == target.region else None
    if DATABASE not in (role_of(source), role_of(target)):
        return None
    if source.party is Party.NODE and (source.region, source.node or source.name) == (target.region, target.node):
        return None
    listed = trial.protocol == "TCP" and trial.port in intent.ports(
        (role_of(source), source.region), (role_of(target), target.region)
    )
    if trial.way is Way.NODE_PORT and listed:
        return None  # it arrives with the address of a node, which an intent about pods does not speak of
    return listed


def asks_dns(tried: Tried) -> bool:
    """Whether it is a question to the DNS of a cluster."""
    trial = tried.trial
    return tried.target.party is Party.DNS and trial.port == DNS_PORT and trial.protocol in DNS_PROTOCOLS


def asks_own_dns(tried: Tried) -> bool:
    """Whether it is a question to the DNS of the asker's own cluster."""
    return asks_dns(tried) and tried.target.region == tried.source.region


def intent_of(plan: Plan) -> PolicyPlan:
    """What policy is for; nothing where the plan does not say."""
    return plan.policy or PolicyPlan((), ())
