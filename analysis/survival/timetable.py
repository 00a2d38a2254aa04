"""For reports: how long each region was without service, by outage, with its budget."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.facts.outage import Moment, Outage
from analysis.plan import Plan
from analysis.survival.service import Work, errors, operations_of, service


@dataclass(frozen=True)
class Row:
    """Reads or writes of one region in one outage.

    Attributes:
        outage: its name.
        mode: what was done.
        lost: the regions that it was done to.
        region: whose clients.
        gap: the longest time without an acknowledgement from the last one before the fault to the healing (s).
        budget: that it may be, in a region that the outage was not made to; None elsewhere (s).
        served: whether clients were served again before the healing.
        since_begin: from the first harmful command to the end of that time (s).
        usual: the longest time without one in steady state (s).
        returned: the longest time without one while the lost region came back (s).
        rejoined: from the healing until the database was whole (s); None when that was not seen.
        acknowledged: operations that succeeded, in the whole outage.
        errors: kinds of errors that the clients saw, with their numbers.
    """

    outage: str
    mode: str
    lost: tuple[str, ...]
    region: str
    work: Work
    gap: float
    budget: float | None
    served: bool
    since_begin: float
    usual: float
    returned: float
    rejoined: float | None
    acknowledged: int
    errors: str

    @property
    def kept(self) -> bool:
        """Whether the budget was kept, as far as there is one."""
        return self.budget is None or (self.served and self.gap <= self.budget)


def timetable(plan: Plan, outage: Outage) -> tuple[Row, ...]:
    """One row for reads and one for writes of every region; none when the outage has no beginning or no healing."""
    begun, healed, whole = (outage.at(each) for each in (Moment.BEGUN, Moment.HEALED, Moment.WHOLE))
    majority = 2 * len(outage.regions) < len(plan.regions)
    rows = []
    for region in (region.name for region in plan.regions):
        for work in Work:
            served = service(outage, region, work)
            if served is None or begun is None:
                continue
            made = operations_of(outage, region, work)
            budget = plan.budgets.rto.total_seconds() if majority and region not in outage.regions else None
            rows.append(
                Row(
                    outage=outage.name,
                    mode=outage.mode.value,
                    lost=outage.regions,
                    region=region,
                    work=work,
                    gap=served.gap,
                    budget=budget,
                    served=served.resumed,
                    since_begin=served.until - begun,
                    usual=served.usual,
                    returned=served.returned,
                    rejoined=None if healed is None or whole is None else whole - healed,
                    acknowledged=sum(each.result.value == "ok" for each in made),
                    errors=errors(made),
                )
            )
    return tuple(rows)
