"""DB-FORM: is the database there for clients in every region?"""

from __future__ import annotations

from collections.abc import Callable

from analysis.facts import Database, Gateway
from analysis.members import database_of, host_of, planned_members, untold
from analysis.plan import Plan
from analysis.rootcause import Layer
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import gap_findings, megabytes

OK = 200


def judge_entrances(plan: Plan, database: Database) -> Verdict:
    """DB-FORM-018: SQL is reachable at the public Service of every region, from inside it."""
    public = database_of(plan).public_service
    entered = [gateway for gateway in database.gateways if host_of(gateway.entrance).partition(".")[0] == public]
    entered = entered or list(database.gateways)  # an environment may name other entrances, at the runner's side
    return conclude(
        expected=f"SQL answers at {public}:{database_of(plan).sql_port} in every region",
        examined=len(entered),
        what="entrances",
        violations=[
            Finding(
                f"{gateway.region}: {gateway.entrance}",
                "a node of the database to answer",
                gateway.detail or "nobody answered",
                "no pod behind the Service is Ready, or something lies between it and the client",
            )
            for gateway in entered
            if not gateway.node
        ],
        gaps=gap_findings(database.gaps, "gateways")
        or untold(plan, (gateway.region for gateway in entered), "an answer at its public Service"),
        warnings=[
            f"a client in {gateway.region} was served by {gateway.node} in {gateway.node_region}"
            for gateway in entered
            if gateway.node and gateway.node_region not in ("", gateway.region)
        ],
        remedy="look at the endpoints of the Service, and at the log of a pod behind it",
    )


def judge_reads_and_writes(plan: Plan, database: Database) -> Verdict:
    """DB-FORM-012: a client in any region can read current data, and write."""
    violations: list[Finding] = []
    gaps = gap_findings(database.gaps, "gateways")
    parts: tuple[tuple[str, Callable[[Gateway], bool | None]], ...] = (
        ("reads", lambda gateway: gateway.read),
        ("writes", lambda gateway: gateway.written),
    )
    for region in plan.regions:
        gateways = [gateway for gateway in database.gateways if gateway.region == region.name]
        detail = next((gateway.detail for gateway in gateways if gateway.detail), "")
        for what, outcome in parts:
            outcomes = {outcome(gateway) for gateway in gateways}
            subject = f"clients in {region.name}"
            if True in outcomes:
                continue
            if False in outcomes:
                violations.append(Finding(subject, f"{what} to succeed", detail or f"none of their {what} did"))
            elif not gaps:
                gaps.append(Finding(subject, f"{what} to be tried", detail or "none were"))
    return conclude(
        expected="clients in every region can read and write",
        examined=len({gateway.region for gateway in database.gateways}),
        what="regions",
        violations=violations,
        gaps=gaps,
        remedy="see whether enough nodes are live for a quorum, and whether the client's region reaches them",
    )


def judge_crossings(plan: Plan, database: Database) -> Verdict:
    """DB-FORM-011: a row that was committed through one region is there at once through every other."""
    tried = {(crossing.written_in, crossing.read_in): crossing for crossing in database.crossings}
    violations: list[Finding] = []
    gaps = gap_findings(database.gaps, "crossings")
    for source, target in plan.ordered_pairs():
        crossing = tried.get((source.name, target.name))
        subject = f"written in {source.name}, read in {target.name}"
        if crossing and crossing.seen is False:
            took = f" {crossing.after * 1000:.0f} ms after its acknowledgement" if crossing.after is not None else ""
            cause = "the reader is not given current data, or it asked another database"
            violations.append(Finding(subject, "the row to be there at once", f"it was not there{took}", cause))
        elif (crossing is None and not gaps) or (crossing and crossing.seen is None):
            reason = crossing.detail if crossing and crossing.detail else "it was not tried"
            gaps.append(Finding(subject, "the row to be looked for", reason))
    return conclude(
        expected="a row committed in one region is read at once in every other",
        examined=len(tried),
        what="ordered pairs of regions",
        violations=violations,
        gaps=gaps,
    )


def judge_large_rows(plan: Plan, database: Database) -> Verdict:
    """NET-MTU-010: a row of megabytes, written through one region's client, is read whole through another's.

    That small rows from the same region arrive is the control: without it, nothing follows about their size.
    """
    tried = {crossing.written_in: crossing for crossing in database.large_rows}
    small = {crossing.written_in for crossing in database.crossings if crossing.seen}
    violations: list[Finding] = []
    gaps = gap_findings(database.gaps, "large_rows")
    for region in plan.regions:
        crossing = tried.get(region.name)
        if crossing is None:
            if not gaps:
                gaps.append(Finding(f"written in {region.name}", "a large row to be tried", "it was not"))
            continue
        subject = f"written in {crossing.written_in}, read in {crossing.read_in}"
        if crossing.seen is None and crossing.written_in not in small:
            gaps.append(Finding(subject, "a large row to arrive", f"{crossing.detail}; neither did small ones"))
        elif not crossing.seen:
            seen = crossing.detail or "it came back as another"
            violations.append(
                Finding(
                    subject,
                    f"a row of {megabytes(crossing.size)} to arrive whole",
                    f"{seen}, while small rows arrive",
                    "full packets are lost on the way, or take too long",
                    Layer.MTU,
                )
            )
    return conclude(
        expected="a large row that is written in one region is read whole in another",
        examined=len(tried),
        what="rows",
        violations=violations,
        gaps=gaps,
        remedy="see what NET-MTU-001 to NET-MTU-003 say of the path between these regions",
    )


def judge_health(plan: Plan, database: Database) -> Verdict:
    """DB-FORM-019: every database pod says over verified HTTPS that it is alive and ready."""
    answers = {(answer.region, answer.pod) for answer in database.health}
    gaps = gap_findings(database.gaps, "health")
    if not gaps:
        gaps = [
            Finding(str(member), "its health address to be asked", "it was not")
            for member in planned_members(plan)
            if (member.region, member.pod) not in answers
        ]
    return conclude(
        expected=f"every database pod answers its health addresses over HTTPS with {OK}",
        examined=len(database.health),
        what="answers",
        violations=[
            Finding(
                f"{answer.region}/{answer.pod}",
                f"{OK} at {answer.path}",
                f"{answer.status or 'no answer'}{f': {answer.detail}' if answer.detail else ''}",
                None if answer.status is None else "it is starting, draining, or without a quorum",
            )
            for answer in database.health
            if answer.status != OK
        ],
        gaps=gaps,
    )
