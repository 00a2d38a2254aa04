"""NET-POL-002: do database pods bear the labels that policy knows them by, from their template on?"""

from __future__ import annotations

from collections.abc import Mapping

from analysis.facts import Policies, PolicyEndpoint
from analysis.members import database_of, planned_members
from analysis.nearest import did_you_mean
from analysis.plan import DATABASE, Plan
from analysis.policy.judging.meant import intent_of
from analysis.verdict import Finding, Verdict, conclude, not_applicable
from analysis.words import gap_findings, listed


def judge_labels(plan: Plan, policies: Policies) -> Verdict:
    """NET-POL-002: the pods, and the template that the next ones are made from, say which region they are in."""
    intent = intent_of(plan)
    if not any(role.name == DATABASE for role in intent.roles):
        return not_applicable("database pods say their region", "the environment does not say what policy is for")
    if not intent.region_label:
        return not_applicable("database pods say their region", "the intent tells regions apart by their clusters")
    pods = {(pod.region, pod.name): pod for pod in database_pods(plan, policies)}
    violations: list[Finding] = []
    gaps = gap_findings(policies.gaps, "endpoints")
    templates: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for pod in pods.values():
        wanted = intent.labels(DATABASE, pod.region)
        if wrong := _wrong(wanted, dict(pod.labels)):
            cause = "labels of the template come to pods only when they are made anew"
            violations.append(
                Finding(
                    f"{pod.region}/{pod.name}", _written(wanted), listed(wrong), cause if _told(pod, wanted) else None
                )
            )
        if pod.template_labels is None:
            gaps.append(Finding(f"{pod.region}/{pod.name}", "the template of its owner", "it could not be read"))
        elif wrong := _wrong(wanted, dict(pod.template_labels)):
            templates.setdefault((pod.region, tuple(wrong)), []).append(pod.name)
    violations += [
        Finding(
            f"the template of {listed(sorted(names))} in {region}",
            _written(intent.labels(DATABASE, region)),
            listed(wrong),
            "a label that was put on the pods by hand is gone with the next restart",
        )
        for (region, wrong), names in templates.items()
    ]
    seen = {pod.region for pod in pods.values()}
    if not gaps:
        gaps += [
            Finding(f"database pods of {region.name}", "to be listed", "there are none by the planned names")
            for region in plan.regions
            if region.name not in seen
        ]
    return conclude(
        expected=f"database pods and their template bear {listed(intent.labels(DATABASE, ''))} of their region",
        examined=len(pods),
        what="database pods",
        violations=violations,
        gaps=gaps,
        remedy=f"put {intent.region_label}: REGION into spec.template.metadata.labels of each region's StatefulSet",
    )


def database_pods(plan: Plan, policies: Policies) -> list[PolicyEndpoint]:
    """The database's own pods, by their planned names and namespaces."""
    database = database_of(plan)
    planned = {(member.region, database.namespace(member.region), member.pod) for member in planned_members(plan)}
    return [pod for pod in policies.endpoints if (pod.region, pod.namespace, pod.name) in planned]


def _told(pod: PolicyEndpoint, wanted: Mapping[str, str]) -> bool:
    return pod.template_labels is not None and not _wrong(wanted, dict(pod.template_labels))


def _wrong(wanted: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """What is missing or different, in words."""
    return [
        f"{key}={there[key]}" if key in there else f"no label {key}{did_you_mean(key, there)}"
        for key, value in wanted.items()
        if there.get(key) != value
    ]


def _written(labels: Mapping[str, str]) -> str:
    return listed(f"{key}={value}" for key, value in labels.items())
