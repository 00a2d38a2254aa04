"""NET-POL-016: does each cluster's policy engine know the database pods of the other clusters?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from analysis.facts import Policies, RemoteKnowledge
from analysis.plan import Plan
from analysis.policy.judging.labels import database_pods
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import gap_findings, listed

NETWORK_SET = "network-set"
_CAUSES = {
    "federation": "the other cluster's API is not reached, or the credentials of its configuration have expired",
    NETWORK_SET: "the set was written by hand, and pods have got other addresses since",
    "identity": "the agent has not read the identities of the other cluster from its store",
}


def judge_remote_endpoints(plan: Plan, policies: Policies) -> Verdict:
    """NET-POL-016: every engine knows the database pods of every other cluster, and nobody else as such."""
    knowledge: defaultdict[tuple[str, str], list[RemoteKnowledge]] = defaultdict(list)
    for known in policies.knowledge:
        knowledge[known.region, known.remote].append(known)
    gaps = gap_findings(policies.gaps, "knowledge", "endpoints")
    unread = {gap.region for gap in policies.gaps if not gap.parts or {"knowledge", "endpoints"} & set(gap.parts)}
    violations: list[Finding] = []
    examined = 0
    for here, there in plan.ordered_pairs():
        told = knowledge.get((here.name, there.name), [])
        subject = f"engine of {here.name}, pods of {there.name}"
        if not told:
            if here.name not in unread:
                cause = "the engine knows pods of its own cluster only: their addresses match no selector elsewhere"
                observed = "neither federation, nor network sets, nor identities of that cluster"
                violations.append(Finding(subject, "to be known by their labels", observed, cause))
            continue
        examined += len(told)
        apart = [known for known in told if known.in_sync is False]
        if apart:
            where = f" on {listed(known.node for known in apart)}" if apart[0].node else ""
            observed = f"{apart[0].source}{where} is not in sync: {apart[0].detail or 'the engine gives no reason'}"
            violations.append(Finding(subject, "to be known, and in sync", observed, _CAUSES.get(apart[0].source)))
            continue
        violations += _addresses(plan, policies, there.name, told, subject)
        if all(known.in_sync is None and not known.networks for known in told):
            gaps.append(
                Finding(subject, "to be told whether they are known", told[0].detail or "the engine does not tell")
            )
    return conclude(
        expected="every cluster's policy engine knows the database pods of every other cluster",
        examined=examined,
        what="accounts of other clusters' pods",
        violations=violations,
        gaps=gaps,
        remedy="federate the endpoints (RemoteClusterConfiguration, Cluster Mesh), or keep labelled GlobalNetworkSets "
        "of the other regions' pods in each cluster",
    )


def _addresses(
    plan: Plan, policies: Policies, remote: str, told: Iterable[RemoteKnowledge], subject: str
) -> list[Finding]:
    """Findings about the addresses that an engine holds for those of the remote database pods."""
    pods = [pod for pod in database_pods(plan, policies) if pod.region == remote and pod.address is not None]
    others = [pod for pod in policies.endpoints if pod.region == remote and pod not in pods and pod.address is not None]
    found = []
    for known in told:
        if not known.networks:
            continue
        missing = [pod for pod in pods if not any(pod.address in network for network in known.networks)]
        strange = [
            pod for pod in others if known.source == NETWORK_SET and not pod.host_network and _alone(known, pod.address)
        ]
        who = f"{known.source}{f' on {known.node}' if known.node else ''}"
        if missing:
            names = listed(f"{pod.name} ({pod.address})" for pod in missing)
            found.append(
                Finding(
                    subject, "all of its database pods to be known", f"{who} lacks {names}", _CAUSES.get(known.source)
                )
            )
        elif strange:
            names = listed(f"{pod.namespace}/{pod.name} ({pod.address})" for pod in strange)
            cause = "an address that a database pod had is another pod's now, which is let in for it"
            found.append(Finding(subject, "nobody else to pass for one", f"{who} holds {names}", cause))
    return found


def _alone(known: RemoteKnowledge, address: object) -> bool:
    """Whether a set names that very address; a whole range of pods is what its writer meant."""
    return any(network.prefixlen == network.max_prefixlen and address == network[0] for network in known.networks)
