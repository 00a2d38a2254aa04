"""DB-FORM: has Kubernetes started all pods of the database, each in a place of its own, with the volume it needs?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from math import ceil
from typing import Protocol, TypeVar

from analysis.facts import DisruptionBudget, NodeRoom, VolumeClaim, Workloads
from analysis.members import database_of, planned_members, untold
from analysis.plan import Plan
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import count, gap_findings, listed

BOUND = "Bound"
GIB = 1 << 30


def judge_pods_ready(plan: Plan, workloads: Workloads) -> Verdict:
    """DB-FORM-004: the StatefulSet of every region has all planned pods, and they are Ready."""
    replicas = database_of(plan).replicas
    found = {stateful_set.region: stateful_set for stateful_set in workloads.stateful_sets}
    gaps = gap_findings(workloads.gaps, "stateful_sets")
    unseen = {gap.region for gap in workloads.gaps if not gap.parts or "stateful_sets" in gap.parts}
    pods = _by_region(workloads.pods)
    violations = []
    for region in plan.regions:
        stateful_set = found.get(region.name)
        if stateful_set is None:
            if region.name not in unseen:
                name = f"{database_of(plan).namespace(region.name)}/{database_of(plan).service}"
                violations.append(Finding(f"{region.name}: StatefulSet {name}", f"{replicas} pods", "it is not there"))
        elif (stateful_set.ready, stateful_set.wanted) != (replicas, replicas):
            waiting = [f"{pod.name} is {pod.phase}" for pod in pods[region.name] if not pod.ready]
            told = f"{stateful_set.ready} of {stateful_set.wanted} Ready"
            violations.append(
                Finding(
                    f"{region.name}: StatefulSet {stateful_set.name}",
                    f"{replicas} of {replicas} pods Ready",
                    f"{told}; {listed(waiting)}" if waiting else told,
                    "it was scaled" if stateful_set.wanted != replicas else None,
                )
            )
    return conclude(
        expected=f"every region's StatefulSet has {replicas} of {replicas} pods Ready",
        examined=len(found),
        what="StatefulSets",
        violations=violations,
        gaps=gaps,
        remedy="kubectl describe pod, and the log of its database container",
    )


def judge_pods_apart(plan: Plan, workloads: Workloads) -> Verdict:
    """DB-FORM-015: no two pods of the database are on the same node."""
    places: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for pod in workloads.pods:
        if pod.node:
            places[pod.region, pod.node].append(pod.name)
    nodes = Counter(room.region for room in workloads.rooms)
    return conclude(
        expected="every database pod is on a node of its own",
        examined=sum(map(len, places.values())),
        what="pods",
        violations=[
            Finding(
                f"{region}: node {node}",
                "one database pod at most",
                listed(names),
                "there are fewer nodes than pods" if 0 < nodes[region] < database_of(plan).replicas else None,
            )
            for (region, node), names in places.items()
            if len(names) > 1
        ],
        gaps=gap_findings(workloads.gaps, "pods") or untold(plan, (pod.region for pod in workloads.pods), "its pods"),
        remedy="add a pod anti-affinity on kubernetes.io/hostname, and enough nodes",
    )


def judge_volumes(plan: Plan, workloads: Workloads) -> Verdict:
    """DB-FORM-016: clusters have a default StorageClass, and every database pod a bound volume of the planned size."""
    planned = database_of(plan).storage
    gaps = gap_findings(workloads.gaps, "claims", "storage_classes")
    unseen = {(gap.region, part) for gap in workloads.gaps for part in gap.parts or ("claims", "storage_classes")}
    violations: list[Finding] = []
    warnings: list[str] = []
    for region in plan.regions:
        defaults = [each.name for each in workloads.storage_classes if each.region == region.name and each.default]
        if not defaults and (region.name, "storage_classes") not in unseen:
            names = [each.name for each in workloads.storage_classes if each.region == region.name]
            observed = f"none of {listed(names)} is" if names else "there is no StorageClass"
            violations.append(Finding(f"cluster {region.name}", "a default StorageClass", observed))
        if len(defaults) > 1:
            warnings.append(f"cluster {region.name} has {len(defaults)} default StorageClasses: {listed(defaults)}")
    claims: defaultdict[tuple[str, str], list[VolumeClaim]] = defaultdict(list)
    for claim in workloads.claims:
        for member in planned_members(plan):
            if claim.region == member.region and claim.name.endswith(f"-{member.pod}"):
                claims[member.region, member.pod].append(claim)
    for member in planned_members(plan):
        if not claims[member.region, member.pod] and (member.region, "claims") not in unseen:
            violations.append(Finding(str(member), "a volume of its own", "it has no claim", "its data ends with it"))
        violations += _claim_findings(claims[member.region, member.pod], planned)
    return conclude(
        expected="a default StorageClass, and a bound volume"
        + (f" of {_gib(planned)}" if planned else "")
        + " for every database pod",
        examined=len(workloads.claims) and len(workloads.storage_classes),
        what="volume claims",
        violations=violations,
        gaps=gaps,
        warnings=warnings,
        remedy="kubectl describe pvc; the StorageClass's provisioner says why it makes no volume",
    )


def _claim_findings(claims: Iterable[VolumeClaim], planned: int | None) -> list[Finding]:
    findings = []
    for claim in claims:
        subject = f"{claim.region}: volume claim {claim.name}"
        if claim.phase != BOUND:
            cause = "there is no default StorageClass" if not claim.storage_class else "nothing provides its volume"
            findings.append(Finding(subject, "to be Bound", claim.phase, cause))
        elif planned and (claim.wanted != planned or (claim.size is not None and claim.size < planned)):
            size = _gib(claim.size if claim.wanted == planned else claim.wanted)
            findings.append(Finding(subject, _gib(planned), size))
    return findings


def judge_room(plan: Plan, workloads: Workloads) -> Verdict:
    """DB-FORM-017: the nodes of every region have room for all its pods, with what they request."""
    database, replicas = database_of(plan), database_of(plan).replicas
    pods, rooms = _by_region(workloads.pods), _by_region(workloads.rooms)
    violations: list[Finding] = []
    warnings: list[str] = []
    for region in plan.regions:
        own = pods[region.name]
        cpu = max((pod.cpu for pod in own if pod.cpu is not None), default=database.cpu)
        memory = max((pod.memory for pod in own if pod.memory is not None), default=database.memory)
        if own and not cpu and not memory:
            warnings.append(f"the database pods of {region.name} request nothing, so that any node is taken for enough")
        if not rooms[region.name]:
            continue
        fitting = _places(rooms[region.name], cpu or 0, memory or 0, limit=replicas)
        if fitting < replicas:
            empty = [replace(room, cpu_taken=0, memory_taken=0) for room in rooms[region.name]]
            small = _places(empty, cpu or 0, memory or 0, limit=replicas) < replicas
            best = max(
                rooms[region.name], key=lambda room: (room.cpu - room.cpu_taken, room.memory - room.memory_taken)
            )
            free = _amounts(best.cpu - best.cpu_taken, best.memory - best.memory_taken)
            violations.append(
                Finding(
                    f"nodes of {region.name}",
                    f"room for {count(replicas, 'pod')} of {_amounts(cpu, memory)}",
                    f"room for {fitting}; {best.node} has {free} left",
                    "the machines are smaller than what is requested" if small else "other pods have taken it",
                )
            )
    gaps = gap_findings(workloads.gaps, "pods", "rooms")
    return conclude(
        expected="the nodes have room for what the database pods request",
        examined=len(workloads.rooms),
        what="nodes",
        violations=violations,
        gaps=gaps or untold(plan, (room.region for room in workloads.rooms), "what its nodes can give"),
        warnings=warnings,
        remedy="take larger machines, or request less in the StatefulSet",
    )


def _places(rooms: Iterable[NodeRoom], cpu: int, memory: int, *, limit: int) -> int:
    """How many pods of that size the nodes have room for beside what others took; of one node, at most `limit`."""
    places = 0
    for room in rooms:
        shares = ((room.cpu - room.cpu_taken, cpu), (room.memory - room.memory_taken, memory))
        places += max(0, min([limit, *(free // asked for free, asked in shares if asked)]))
    return places


def judge_disruption_budget(plan: Plan, workloads: Workloads) -> Verdict:
    """DB-FORM-020: in every region a disruption budget lets one pod of the database go at a time, and no more."""
    pods = _by_region(workloads.pods)
    gaps = gap_findings(workloads.gaps, "budgets", "pods")
    unseen = {gap.region for gap in workloads.gaps if not gap.parts or {"budgets", "pods"} & set(gap.parts)}
    violations: list[Finding] = []
    warnings: list[str] = []
    for region in plan.regions:
        for pod in pods[region.name] if region.name not in unseen else ():
            own = [each for each in workloads.budgets if each.region == region.name and pod.name in each.covers]
            subject = f"{region.name}/{pod.name}"
            if not own:
                observed = "no budget covers it"
                violations.append(Finding(subject, "a disruption budget with maxUnavailable 1", observed))
            elif len(own) > 1:
                cause = "Kubernetes evicts no pod that has two"
                violations.append(Finding(subject, "one disruption budget", listed(each.name for each in own), cause))
    for budget in workloads.budgets:
        allowed = allowed_disruptions(budget)
        subject = f"{budget.region}: budget {budget.name}"
        if budget.covers and allowed > 1:
            violations.append(
                Finding(subject, "at most 1 pod to go at a time", f"lets {allowed} go ({_limits(budget)})")
            )
        elif budget.covers and allowed < 1:
            warnings.append(f"{subject} lets no pod go ({_limits(budget)}): nodes cannot be drained")
    return conclude(
        expected="a disruption budget lets at most one database pod of a region go at a time",
        examined=len(workloads.pods),
        what="pods",
        violations=violations,
        gaps=gaps or untold(plan, (pod.region for pod in workloads.pods), "its pods"),
        warnings=warnings,
        remedy="apply a PodDisruptionBudget (policy/v1) with maxUnavailable: 1 that selects the database's pods",
    )


def allowed_disruptions(budget: DisruptionBudget) -> int:
    """How many of the pods that it covers may go at a time, all being healthy; percentages are rounded up."""
    covered = len(budget.covers)
    if budget.max_unavailable:
        return _amount(budget.max_unavailable, covered)  # as it is meant, however few pods there are today
    return max(0, covered - _amount(budget.min_available, covered)) if budget.min_available else covered


def _amount(text: str, of: int) -> int:
    return ceil(of * int(text[:-1]) / 100) if text.endswith("%") else int(text)


def _limits(budget: DisruptionBudget) -> str:
    limits = (("maxUnavailable", budget.max_unavailable), ("minAvailable", budget.min_available))
    return " ".join(f"{name}: {value}" for name, value in limits if value) or "no limit"


class _Regional(Protocol):
    @property
    def region(self) -> str: ...


R = TypeVar("R", bound=_Regional)


def _by_region(items: Iterable[R]) -> defaultdict[str, list[R]]:
    grouped: defaultdict[str, list[R]] = defaultdict(list)
    for item in items:
        grouped[item.region].append(item)
    return grouped


def _amounts(cpu: int | None, memory: int | None) -> str:
    parts = [f"{cpu / 1000:g} CPU"] if cpu is not None else []
    return " and ".join([*parts, *([_gib(memory)] if memory is not None else [])])


def _gib(size: int | None) -> str:
    return "nothing" if size is None else f"{size / GIB:g} GiB"
