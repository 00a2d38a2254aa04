"""NET-POL-016: does each cluster's policy engine know the database pods of the other clusters?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

from analysis.facts import Policies, RemoteKnowledge
from analysis.plan import Plan
from analysis.policy.judging.labels import database_pods
from analysis.rootcause import Layer
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import gap_findings, listed

FEDERATION, NETWORK_SET, IDENTITY = "federation", "network-set", "identity"
_CAUSES = {
    FEDERATION: "the other cluster's API is not reached, or the credentials of its configuration have expired",
    NETWORK_SET: "the set was written by hand, and pods have got other addresses since",
    IDENTITY: "the agent has not read the identities of the other cluster from its store",
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
            layer = Layer.CONTROL if apart[0].source == FEDERATION else None
            cause = _CAUSES[apart[0].source]
            violations.append(Finding(subject, "to be known, and in sync", observed, cause, layer))
            continue
        violations += _addresses(plan, policies, there.name, told, subject)
        if all(known.in_sync is None and known.source == FEDERATION for known in told):
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
    lacking: defaultdict[tuple[str, str], list[RemoteKnowledge]] = defaultdict(list)
    found = []
    for known in _together(told):
        if known.source == FEDERATION and not known.networks:
            continue  # Typha says that it knows all of them, and not whom
        if missing := [pod for pod in pods if not any(pod.address in network for network in known.networks)]:
            names = listed(f"{pod.name} ({pod.address})" for pod in missing)
            lacking[known.source, names].append(known)
        elif known.source == NETWORK_SET and (
            strange := [pod for pod in others if not pod.host_network and _alone(known, pod.address)]
        ):
            names = listed(f"{pod.namespace}/{pod.name} ({pod.address})" for pod in strange)
            cause = "an address that a database pod had is another pod's now, which is let in for it"
            found.append(Finding(subject, "nobody else to pass for one", f"{known.source} holds {names}", cause))
    for (source, names), alike in lacking.items():
        nodes = listed(known.node for known in alike if known.node)
        who = f"{source} on {nodes}" if nodes else source
        found.append(Finding(subject, "all of its database pods to be known", f"{who} lacks {names}", _CAUSES[source]))
    return found


def _together(told: Iterable[RemoteKnowledge]) -> Iterator[RemoteKnowledge]:
    """The network sets as one, for a set may hold a single pod; everything else as it is."""
    sets = []
    for known in told:
        if known.source == NETWORK_SET:
            sets.append(known)
        else:
            yield known
    if sets:
        yield replace(sets[0], networks=tuple(network for known in sets for network in known.networks))


def _alone(known: RemoteKnowledge, address: object) -> bool:
    """Whether a set names that very address; a whole range of pods is what its writer meant."""
    return any(network.prefixlen == network.max_prefixlen and address == network[0] for network in known.networks)
