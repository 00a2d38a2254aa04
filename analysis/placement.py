"""DB-FORM and DB-SURV: do the copies of all data lie so that any one region can be lost?

Two ways of replicating are known. Where nodes are peers, a unit (a range) goes on as long as a majority of its voters
is there, so the loss of a region must leave one. Where one node takes all writes, a write is acknowledged once all
voters have it, so the loss of a region must leave one voter, who knows everything that was acknowledged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis.facts import Database, Placement, SurvivalGoal
from analysis.members import database_of, has_primary, is_stand_in, lacking
from analysis.plan import Plan
from analysis.verdict import Finding, Verdict, conclude, not_applicable
from analysis.words import count, gap_findings, listed

SPREAD = 3
"""Regions that the copies of each unit must be spread over; all, where there are fewer."""

MULTI_REGION = "ALTER DATABASE ... SURVIVE REGION FAILURE, which takes three regions"
SYNCHRONOUS = "synchronous_mode and synchronous_mode_strict in Patroni's settings, with a standby in another region"
ZONE, REGION = "zone", "region"
"""Survival goals."""


@dataclass(frozen=True)
class Shape:
    """How a unit is spread, without saying which unit it is: units of one shape give one finding.

    Attributes:
        voters: how many of them each region has, by region.
        others: regions that have copies without a vote only.
    """

    voters: tuple[tuple[str, int], ...]
    others: tuple[str, ...]

    @property
    def regions(self) -> frozenset[str]:
        """All regions that are known to have a copy."""
        return frozenset({*dict(self.voters), *self.others} - {""})

    def __str__(self) -> str:
        """As "voters: 2 in us-east-1, 1 in us-east-2; others in us-west-1"."""
        voters = ", ".join(f"{number} in {region or 'no region'}" for region, number in self.voters) or "none"
        return f"voters: {voters}" + (f"; others in {listed(self.others)}" if self.others else "")


def shape_of(placement: Placement) -> Shape:
    """The shape of a unit."""
    voters: defaultdict[str, int] = defaultdict(int)
    for replica in placement.replicas:
        if replica.voter:
            voters[replica.region] += 1
    others = {replica.region for replica in placement.replicas} - voters.keys()
    return Shape(tuple(sorted(voters.items())), tuple(sorted(others)))


def fatal_regions(shape: Shape, *, primary: bool) -> tuple[str, ...]:
    """The regions whose loss a unit of that shape would not survive.

    A voter whose region is not known may be in any: it is counted as lost with whichever region is.

    Args:
        shape: how the unit is spread.
        primary: whether all voters have what was acknowledged, rather than a majority of them.
    """
    voters = dict(shape.voters)
    needed = 1 if primary else sum(voters.values()) // 2 + 1
    known = sum(voters.values()) - voters.get("", 0)
    regions = sorted({*voters, *shape.others} - {""}) or [""]
    return tuple(region for region in regions if known - voters.get(region, 0) < needed)


def judge_counts(database: Database) -> Verdict:
    """DB-FORM-013: no node counts a range that lacks replicas or cannot be used."""
    expected = "no range lacks replicas or is unavailable"
    if is_stand_in(database):
        return not_applicable(expected, lacking("ranges, which nodes would count"))
    moving = any(placement.moving for placement in database.placement)
    violations: list[Finding] = []
    gaps = gap_findings(database.gaps, "counts")
    regions = {node.name: node.region for node in database.nodes}
    for found in database.counts:
        subject = f"{regions.get(found.node) or 'database'}: node {found.node}"
        if found.unavailable:
            cause = "most of their voters are on nodes that are not live"
            violations.append(Finding(subject, "no range unavailable", count(found.unavailable, "range"), cause))
        elif found.underreplicated and moving:
            gaps.append(Finding(subject, "all replicas to be in their places", "replicas are being moved"))
        elif found.underreplicated:
            observed = f"{count(found.underreplicated, 'range')} under-replicated"
            violations.append(Finding(subject, "no range under-replicated", observed, "a node is not live, or is full"))
        elif None in (found.unavailable, found.underreplicated):
            gaps.append(Finding(subject, "its count of ranges", "it does not tell"))
    silent = {node.name for node in database.nodes if node.live} - {found.node for found in database.counts}
    if not gaps:
        gaps += [Finding(f"node {name}", "its count of ranges", "it was not asked") for name in sorted(silent)]
    return conclude(
        expected=expected,
        examined=len(database.counts),
        what="nodes' counts",
        violations=violations,
        gaps=gaps,
        remedy="bring back the nodes that are not live, and wait until the database has replaced what they held",
    )


def judge_spread(plan: Plan, database: Database) -> Verdict:
    """DB-FORM-014: the copies of every unit are spread over the regions, and any one of these can be lost.

    Data of a database whose goal is "zone" need not survive; DB-SURV-012 says so of it.
    """
    least = min(SPREAD, len(plan.regions))
    zonal = {goal.database for goal in database.goals if goal.goal == ZONE}
    still = [placement for placement in database.placement if not placement.moving]
    violations: list[Finding] = []
    gaps = [*gap_findings(database.gaps, "placement"), *_moving_gaps(database.placement)]
    goals_unknown = gap_findings(database.gaps, "goals")
    for shape, units in _by_shape(still):
        meant = [unit for unit in units if unit.system or not (goals_unknown or _database_of(unit) in zonal)]
        fatal = fatal_regions(shape, primary=has_primary(database))
        if len(shape.regions) < least:
            violations.append(_narrow_finding(shape, units, least))
        elif meant and fatal:
            violations.append(_fatal_finding(shape, meant, fatal))
        elif fatal and goals_unknown:
            gaps += goals_unknown  # it may be data that need not survive
    if database.synchronous is False:
        violations.append(
            Finding(
                "synchronous replication",
                "a write to wait for another region",
                "it waits for none",
                "synchronous_mode is off, or it is not strict",
            )
        )
    return conclude(
        expected=f"the copies of all data are in at least {least} regions, any of which can be lost",
        examined=len(still),
        what="units of data",
        violations=violations,
        gaps=gaps,
        remedy="give every node the region tier of its locality, and let the database move replicas until this holds",
    )


def judge_region_goal(database: Database) -> Verdict:
    """The static part of DB-SURV-011: the goal "region" can be set, and where it is set the placement keeps it."""
    expected = 'the survival goal "region" is accepted, and data with that goal survives the loss of any one region'
    violations = [
        Finding(
            f"database {goal.database}",
            "to accept SURVIVE REGION FAILURE",
            "it was turned down",
            "it has less than three regions, or the licence that this version asks for is missing",
        )
        for goal in database.goals
        if goal.accepts_region is False
    ]
    meant = [unit for goal in database.goals if goal.goal == REGION for unit in _units_of(goal.database, database)]
    for shape, units in _by_shape(placement for placement in dict.fromkeys(meant) if not placement.moving):
        if fatal := fatal_regions(shape, primary=has_primary(database)):
            violations.append(_fatal_finding(shape, units, fatal))
    return conclude(
        expected=expected,
        examined=sum(goal.goal == REGION or goal.accepts_region is not None for goal in database.goals),
        what="databases",
        violations=violations,
        gaps=[*gap_findings(database.gaps, "goals", "placement"), *_moving_gaps(meant)],
    )


def judge_zone_goals(plan: Plan, database: Database) -> Verdict:
    """DB-SURV-012: who relies on a database that may be lost with a region is told so.

    Databases that must survive a region need the goal "region"; every other one with the goal "zone" is named.
    """
    expected = "databases with the survival goal of a zone are reported, and none of them must survive a region"
    needed = database_of(plan).must_survive
    goals = {goal.database: goal for goal in database.goals}
    examined = [goal for goal in goals.values() if goal.goal is not None or goal.database in needed]
    gaps = gap_findings(database.gaps, "goals")
    if not examined and not gaps:
        return not_applicable(expected, "no database has a survival goal: none was given regions")
    violations: list[Finding] = []
    warnings = [f"database {name} must survive a region, and is not there" for name in needed if name not in goals]
    for goal in examined:
        ends = _ends_with(goal, database)
        subject, fate = f"database {goal.database}", f"its data ends with {listed(ends)}"
        if goal.database in needed and (goal.goal == ZONE or (goal.goal is None and ends)):
            observed = f'its goal is "{goal.goal}": {fate}' if goal.goal else f"it has no goal, and {fate}"
            cause = "zone is what a database gets when nobody chooses" if goal.goal else None
            violations.append(Finding(subject, 'the survival goal "region"', observed, cause))
        elif goal.goal == ZONE:
            warnings.append(f"{subject} cannot survive the loss of a region: {fate}")
        elif goal.goal is None:
            warnings.append(f"{subject} survives a region as its replicas lie today, and nothing demands that")
    return conclude(
        expected=expected,
        examined=len(examined),
        what="databases",
        violations=violations,
        gaps=gaps,
        warnings=warnings,
        remedy=SYNCHRONOUS if has_primary(database) else MULTI_REGION,
    )


def _ends_with(goal: SurvivalGoal, database: Database) -> list[str]:
    """The regions that a database must not lose, as its placement shows; by its goal, where that does not tell."""
    shapes = [shape_of(unit) for unit in _units_of(goal.database, database)]
    regions = sorted({region for shape in shapes for region in fatal_regions(shape, primary=has_primary(database))})
    return regions or ([goal.primary or "its primary region"] if goal.goal == ZONE else [])


def _units_of(name: str, database: Database) -> list[Placement]:
    """The units that a database (in the sense of SQL) consists of; with a primary, there is but one for all of them."""
    return [unit for unit in database.placement if has_primary(database) or _database_of(unit) == name]


def _database_of(placement: Placement) -> str:
    return placement.owner.partition(".")[0]


def _by_shape(placements: Iterable[Placement]) -> list[tuple[Shape, list[Placement]]]:
    """Units that are spread alike, those that the database cannot do without first, then the most."""
    alike: defaultdict[Shape, list[Placement]] = defaultdict(list)
    for placement in placements:
        alike[shape_of(placement)].append(placement)
    return sorted(alike.items(), key=lambda group: (not any(p.system for p in group[1]), -len(group[1])))


def _narrow_finding(shape: Shape, units: Sequence[Placement], least: int) -> Finding:
    unknown = "" in {*dict(shape.voters), *shape.others}
    cause = "the locality of a node lacks its region" if unknown else "a node was not there when replicas were placed"
    return Finding(_subject(units, shape.regions), f"copies in {least} regions", str(shape), cause)


def _fatal_finding(shape: Shape, units: Sequence[Placement], regions: Sequence[str]) -> Finding:
    cause = "without it the whole database stops" if any(unit.system for unit in units) else None
    return Finding(_subject(units, regions), f"to survive the loss of {listed(regions)}", str(shape), cause)


def _subject(units: Sequence[Placement], regions: Iterable[str]) -> str:
    owners = listed(dict.fromkeys(unit.owner for unit in units if unit.owner)) or "all data"
    return f"{owners} ({listed(unit.unit for unit in units)}) in {listed(sorted(regions)) or 'no known region'}"


def _moving_gaps(placements: Iterable[Placement]) -> list[Finding]:
    moving = [placement for placement in placements if placement.moving]
    if not moving:
        return []
    return [Finding(_subject(moving, ()), "replicas in their places", "they are being moved: not yet")]
