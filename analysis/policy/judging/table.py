"""What is open between whom, as a table for whoever audits it: as it was meant, as it is said, and as it is done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from analysis.facts import Enforcement, Policies
from analysis.plan import Plan
from analysis.policy.judging.flows import by_pair, flows_of
from analysis.policy.judging.meant import intent_of, meant
from analysis.policy.judging.said import Said
from analysis.policy.judging.tried import Fate, Tried
from analysis.words import count, listed

NOTHING = "nothing"
_HEADER = (
    "| from | to | meant to be open | open by the objects | open in fact | tried |",
    "| --- | --- | --- | --- | --- | --- |",
)


def openings_table(plan: Plan, policies: Policies, enforcement: Enforcement) -> str:
    """Everything that was tried over ordinary new connections, as Markdown; rows that differ come first."""
    said = Said(plan, policies, enforcement.participants)
    flows = [tried for tried in flows_of(enforcement) if tried.direct]
    rows = [_row(plan, said, pair, group) for pair, group in by_pair(flows).items()]
    differing = [row for row in rows if row.differs]
    return "\n".join(
        [
            f"# What is open: {plan.name}",
            "",
            f"{count(len(flows), 'new connection')} and datagrams were tried between {len(enforcement.participants)} "
            "places.",
            "",
            *_over_ipv6(enforcement),
            *_told("Meant, said and done differ", differing),
            *_told("As meant, as said", [row for row in rows if not row.differs]),
        ]
    )


@dataclass(frozen=True)
class _Row:
    """One line of the table. What nobody says or has read is ""."""

    source: str
    target: str
    meant: str
    said: str
    done: str
    tried: str

    @property
    def differs(self) -> bool:
        """Whether what is meant, said and done are not all the same, as far as they are known."""
        return len({self.meant, self.said, self.done} - {""}) > 1

    def __str__(self) -> str:
        cells = (
            self.source,
            self.target,
            self.meant or "not spoken of",
            self.said or "not read",
            self.done,
            self.tried,
        )
        return f"| {' | '.join(cells)} |"


def _row(plan: Plan, said: Said, pair: tuple[str, str], group: list[Tried]) -> _Row:
    intent = intent_of(plan)
    spoken = [tried for tried in group if meant(intent, tried) is not None]
    decided = [(tried, decision) for tried in group if (decision := said.decide(tried)) is not None]
    return _Row(
        *pair,
        meant=_ports(tried for tried in spoken if meant(intent, tried)) if spoken else "",
        said=_ports(tried for tried, decision in decided if decision.allowed) if decided else "",
        done=_ports(tried for tried in group if tried.fate is Fate.PASSED),
        tried=f"{len(group)}{_unclear(group)}",
    )


def _over_ipv6(enforcement: Enforcement) -> Iterator[str]:
    if enforcement.ipv6 is not None:
        where = f"pods of {listed(enforcement.ipv6)} have" if enforcement.ipv6 else "No pod has"
        yield from (f"{where[0].upper()}{where[1:]} IPv6 addresses, and nothing was tried over IPv6.", "")


def _told(title: str, rows: list[_Row]) -> Iterator[str]:
    if rows:
        yield from (f"## {title}", "", *_HEADER, *map(str, rows), "")


def _unclear(group: list[Tried]) -> str:
    unclear = sum(tried.fate is not Fate.PASSED and bool(tried.doubt) for tried in group)
    return f", {unclear} of them unclear" if unclear else ""


def _ports(flows: Iterable[Tried]) -> str:
    """Protocols and their ports: "TCP 8080, 26257; UDP 53"."""
    ports: defaultdict[str, set[int]] = defaultdict(set)
    for tried in flows:
        ports[tried.trial.protocol].add(tried.trial.port)
    told = (
        f"{protocol} {', '.join(map(str, sorted(numbers)))}" if any(numbers) else protocol
        for protocol, numbers in sorted(ports.items())
    )
    return "; ".join(told) or NOTHING
