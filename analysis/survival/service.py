"""Service as a region's clients see it: acknowledgements, and the time between them."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from analysis.facts.outage import Moment, Outage
from analysis.history.operation import READS, Operation, Result
from analysis.words import count, listed

LULL_S = 2.0
"""Clients may well be without an acknowledgement for so long, on a busy machine, with nothing being wrong."""

ENOUGH = 5
"""Acknowledgements that make service: one or two may come from a connection that has not noticed yet."""


class Work(str, Enum):
    """What clients do; the loss of a region can stop one and not the other."""

    READS = "reads"
    WRITES = "writes"


@dataclass(frozen=True)
class Service:
    """How the clients of one region were served around an outage.

    Attributes:
        before: acknowledgements in steady state.
        usual: the longest time between two of them then (s).
        since: when the longest time without an acknowledgement began, from the last one before the fault on.
        until: when it ended: with an acknowledgement, or with the healing.
        resumed: whether it ended with an acknowledgement.
        meanwhile: acknowledgements from then until the healing began; from the fault on, where service hardly paused.
        tried: whether a client was at work in that time.
        afterwards: acknowledgements after the healing.
        returned: the longest time without one from the beginning of the healing to the end (s).
    """

    region: str
    work: Work
    before: int
    usual: float
    since: float
    until: float
    resumed: bool
    meanwhile: int
    tried: bool
    afterwards: int
    returned: float

    @property
    def gap(self) -> float:
        """The time without service: the RTO that clients saw, or as much of it as was seen (s)."""
        return self.until - self.since

    @property
    def subject(self) -> str:
        """Whom it is about, in words."""
        return f"{self.work.value} in {self.region}"


def operations_of(outage: Outage, region: str, work: Work) -> list[Operation]:
    """What the clients of that region did, by time of completion; reads that asked for old data count for nothing."""
    wanted = [
        operation
        for operation in outage.operations
        if operation.region == region and (operation.act in READS) is (work is Work.READS) and not operation.stale
    ]
    return sorted(wanted, key=lambda operation: operation.completed)


def service(outage: Outage, region: str, work: Work, until: Moment = Moment.HEALING) -> Service | None:
    """How the clients of that region were served; None when the outage has no beginning or no such end.

    The time without service is the longest between two acknowledgements from the last one before the fault to the
    healing, because some may still come from what the fault has not reached yet; it is open when nothing was
    acknowledged from then until the healing. Where nobody heals, it is looked for `until` a later moment.
    """
    begun, healing = outage.at(Moment.BEGUN), outage.at(until)
    if begun is None or healing is None:
        return None
    operations = operations_of(outage, region, work)
    acknowledged = [operation.completed for operation in operations if operation.result is Result.OK]
    steady = outage.at(Moment.STEADY)
    first = 0 if steady is None else bisect_left(acknowledged, steady)
    split, end = bisect_left(acknowledged, begun), bisect_left(acknowledged, healing)
    last = acknowledged[split - 1] if split else begun
    usual = _longest(acknowledged[first:split])
    pauses = [*pairwise([last, *acknowledged[split:end]]), (acknowledged[end - 1] if end > split else last, healing)]
    start, stop = max(pauses, key=_length)
    if stop == healing and len(pauses) > 1 and _length(pauses[-1]) <= max(LULL_S, 2 * usual):
        start, stop = max(pauses[:-1], key=_length)  # the healing began between two acknowledgements
    resumed = stop < healing
    paused = stop - start > max(LULL_S, usual)
    healed, ended = outage.at(Moment.HEALED), outage.at(Moment.ENDED)
    final = acknowledged[end:]
    return Service(
        region,
        work,
        before=split - first,
        usual=usual,
        since=start,
        until=stop,
        resumed=resumed,
        meanwhile=end - (bisect_left(acknowledged, stop) if paused else split) if resumed else 0,
        tried=any(operation.completed > start and operation.invoked < stop for operation in operations),
        afterwards=0 if healed is None else len(acknowledged) - bisect_left(acknowledged, healed),
        returned=_longest([healing, *final, *([ended] if ended is not None and not final else [])]),
    )


def services(outage: Outage, regions: Iterable[str], until: Moment = Moment.HEALING) -> list[Service]:
    """Reads and writes of each of these regions."""
    told = (service(outage, region, work, until) for region in regions for work in Work)
    return [each for each in told if each]


def errors(operations: Iterable[Operation]) -> str:
    """What kinds of errors clients saw, in words: "57P01 8, connection refused 6"; "none" for none."""
    kinds = Counter(_error(operation) for operation in operations if went_wrong(operation))
    return listed((f"{kind} {number}" for kind, number in kinds.most_common()), limit=5) or "none"


def product(outages: Sequence[Outage]) -> str:
    """Engine and version of the databases that these outages were made of: "postgresql 18.1"."""
    return listed(dict.fromkeys(f"{outage.engine} {outage.version}".strip() for outage in outages)) or "no database"


def remark(outages: Sequence[Outage]) -> str:
    """What ran, and which errors its clients saw: the end of every verdict on outages."""
    failed = [operation for outage in outages for operation in outage.operations if went_wrong(operation)]
    seen = f"{count(len(failed), 'operation')} with an error: {errors(failed)}" if failed else "no client saw an error"
    return f"{product(outages)}; {seen}"


def went_wrong(operation: Operation) -> bool:
    """Whether it ended otherwise than it should: without success, and not merely in vain."""
    return operation.result is not Result.OK and not operation.declined


def _length(pause: tuple[float, float]) -> float:
    return pause[1] - pause[0]


def _longest(times: Sequence[float]) -> float:
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0)


def _error(operation: Operation) -> str:
    """The kind of an error: its SQLSTATE; without one, what happened to the connection, whichever it was."""
    if operation.code:
        return operation.code
    for kind, words in _CONNECTIONS.items():
        if words.search(operation.message):
            return kind
    return " ".join(operation.message.split()[:4]) or "no answer"


_CONNECTIONS = {
    "read-only session": re.compile(r"read-only"),
    "no answer in time": re.compile(r"no answer"),
    "connection lost": re.compile(r"closed|unexpected eof|reset|broken pipe|terminat", re.I),
    "connection refused": re.compile(r"refused"),
    "no connection in time": re.compile(r"no connection within|timeout expired|timed out", re.I),
    "name not resolved": re.compile(r"resolve|name or service|getaddrinfo", re.I),
    "certificate not believed": re.compile(r"certificate|verify"),
}
"""Kinds of trouble with connections, the more telling ones first: a client that tries several hosts tells of each."""
