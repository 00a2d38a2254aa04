"""Ledger: whatever was acknowledged is there, once, and nothing else is.

Every read of current data is held to that, those at the end in each region included: it must show every entry that had
been acknowledged, or read by somebody, before it began; it may show what was under way; it must not show what failed,
or what nobody had written yet. An entry whose result is unknown may be there or not, but not first there and then not.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

from analysis.history.anomaly import Anomaly, Kind, anomaly, numbers, things
from analysis.history.operation import Act, Operation, Result


def check_ledger(key: str, operations: Sequence[Operation], finals: Sequence[Operation]) -> list[Anomaly]:
    """Anomalies of one ledger.

    Args:
        key: name of the ledger.
        operations: APPEND and READ_LEDGER of that ledger.
        finals: reads of it once everything was over.
    """
    return list(_Ledger(key, operations, finals).anomalies())


class _Ledger:
    """One ledger's attempts by entry, and what each read must and may show."""

    def __init__(self, key: str, operations: Sequence[Operation], finals: Sequence[Operation]) -> None:
        self.key = key
        self.appends = [operation for operation in operations if operation.act is Act.APPEND]
        self.finals = [read for read in finals if _is_read(read) and not read.stale]
        during = [operation for operation in operations if _is_read(operation)]
        self.stale = [read for read in during if read.stale]
        self.reads = sorted([*(read for read in during if not read.stale), *self.finals], key=attrgetter("invoked"))
        self.acknowledged = {operation.value[0] for operation in self.appends if operation.result is Result.OK}
        self.attempted = {operation.value[0] for operation in self.appends if operation.result is not Result.FAILED}
        self.failed = {operation.value[0] for operation in self.appends} - self.attempted
        self.at_last = set(self.finals[-1].answer) if self.finals else set()

    def anomalies(self) -> Iterator[Anomaly]:
        if not self.finals:
            if self.acknowledged:
                yield anomaly(
                    Kind.NOT_DECIDED,
                    [],
                    f"{self.key}: no final read, so nobody knows whether its {len(self.acknowledged)} acknowledged "
                    "entries are there",
                )
        elif any(read.answer != self.finals[0].answer for read in self.finals):
            yield from self._differing({frozenset(read.answer) for read in self.finals})
        yield from self._missing()
        yield from self._unexpected()
        yield from self._repeated()

    def _missing(self) -> Iterator[Anomaly]:
        """Entries that a read must show and does not. The set of what must be there grows as time goes on."""
        acknowledgements = sorted(
            (operation for operation in self.appends if operation.result is Result.OK), key=attrgetter("completed")
        )
        seen = sorted(self.reads, key=attrgetter("completed"))
        must: set[int] = set()
        next_append = next_seen = 0
        known: set[int] = set()  # missing entries are told of once, at the first read that lacks them
        final_numbers = {read.number for read in self.finals}
        for read in self.reads:
            while next_append < len(acknowledgements) and acknowledgements[next_append].completed < read.invoked:
                must.update(acknowledgements[next_append].value)
                next_append += 1
            while next_seen < len(seen) and seen[next_seen].completed < read.invoked:
                must.update(self.attempted.intersection(seen[next_seen].answer))
                next_seen += 1
            lacking = must.difference(read.answer)
            if read.number not in final_numbers:
                # Entries that are gone for good are told of at the final read.
                lacking = {entry for entry in lacking if not self.finals or entry in self.at_last}
            lacking -= known
            known |= lacking
            yield from self._lacking(read, lacking, last=read.number in final_numbers)

    def _lacking(self, read: Operation, lacking: set[int], last: bool) -> Iterator[Anomaly]:
        lost = lacking & self.acknowledged if last else set()
        vanished = lacking - self.acknowledged if last else set()
        for kind, entries, words in (
            (Kind.LOST, lost, "acknowledged"),
            (Kind.VANISHED, vanished, "read by a client before"),
            (Kind.STALE_READ, lacking - lost - vanished, "acknowledged or read before it began"),
        ):
            if entries:
                which = "final read" if last else f"read {read.number}"
                made = self._appends_of(entries)
                yield anomaly(
                    kind,
                    [*made, read],
                    f"{self.key}: {things(len(entries), 'entry')} {words} "
                    f"{'is' if len(entries) == 1 else 'are'} missing from the {which} in {read.region} "
                    f"({numbers(made)})",
                )

    def _unexpected(self) -> Iterator[Anomaly]:
        """Entries that a read must not show: those that failed, and those that nobody had tried to write yet."""
        starting = sorted(
            (operation for operation in self.appends if operation.result is not Result.FAILED),
            key=attrgetter("invoked"),
        )
        started: set[int] = set()
        next_start = 0
        known: set[int] = set()
        for read in sorted([*self.reads, *self.stale], key=attrgetter("completed")):
            while next_start < len(starting) and starting[next_start].invoked <= read.completed:
                started.update(starting[next_start].value)
                next_start += 1
            extra = set(read.answer) - started - known
            known |= extra
            if revived := extra & self.failed:
                made = self._appends_of(revived)
                yield anomaly(
                    Kind.REVIVED,
                    [*made, read],
                    f"{self.key}: {things(len(revived), 'entry')} reported as failed "
                    f"{'is' if len(revived) == 1 else 'are'} there ({numbers(made)}, read in {read.region}); "
                    "either the error was taken for a certain one, or the database took back what it had said",
                )
            if early := extra & self.attempted:
                made = self._appends_of(early)
                yield anomaly(
                    Kind.PHANTOM, [read, *made], f"{self.key}: {numbers(made)} was read before it was invoked"
                )
            if phantoms := extra - self.failed - self.attempted:
                yield anomaly(
                    Kind.PHANTOM,
                    [read],
                    f"{self.key}: {things(len(phantoms), 'entry')} that nobody wrote "
                    f"{'is' if len(phantoms) == 1 else 'are'} there ({', '.join(map(str, sorted(phantoms)[:3]))}, "
                    f"read in {read.region})",
                )

    def _repeated(self) -> Iterator[Anomaly]:
        """Entries that are there more than once, in the first read that shows them."""
        known: set[int] = set()
        for read in [*self.reads, *self.stale]:
            if len(set(read.answer)) == len(read.answer):
                continue
            twice = {entry for entry, times in Counter(read.answer).items() if times > 1} - known
            known |= twice
            attempts: defaultdict[int, list[Operation]] = defaultdict(list)
            for operation in self._appends_of(twice):
                if operation.result is not Result.FAILED:
                    attempts[operation.value[0]].append(operation)
            retried = [operation for made in attempts.values() if len(made) > 1 for operation in made]
            if retried:
                yield anomaly(
                    Kind.APPLIED_TWICE,
                    [*retried, read],
                    f"{self.key}: {numbers(retried)} are attempts at the same entry, and more than one took effect: "
                    "a client repeated a write without knowing the result of the first attempt",
                )
            if once := [operation for made in attempts.values() if len(made) == 1 for operation in made]:
                yield anomaly(
                    Kind.DUPLICATE, [*once, read], f"{self.key}: {numbers(once)} was written once and is there twice"
                )

    def _differing(self, contents: set[frozenset[int]]) -> Iterator[Anomaly]:
        """Regions that do not end with the same entries."""
        if len(contents) == 1:
            return
        disputed = frozenset.union(*contents) - frozenset.intersection(*contents)
        if disputed <= self.attempted - self.acknowledged and not self._has_vanished(disputed):
            yield anomaly(
                Kind.NOT_DECIDED,
                [*self._appends_of(disputed), *self.finals],
                f"{self.key}: the regions' final reads differ by {things(len(disputed), 'entry')} whose result is "
                "unknown; it may have been committed between these reads",
            )
        else:
            have = ", ".join(f"{read.region} {len(set(read.answer))}" for read in self.finals)
            yield anomaly(
                Kind.DIVERGENT,
                self.finals,
                f"{self.key}: the regions do not hold the same entries at the end ({have}; they differ by "
                f"{len(disputed)})",
            )

    def _has_vanished(self, disputed: Iterable[int]) -> bool:
        """Whether one of them was there at one final read, and not there at a later one."""
        return any(
            earlier.completed < later.invoked and entry in set(earlier.answer) - set(later.answer)
            for entry in disputed
            for earlier in self.finals
            for later in self.finals
        )

    def _appends_of(self, entries: Iterable[int]) -> list[Operation]:
        wanted = set(entries)
        return [operation for operation in self.appends if operation.value[0] in wanted] if wanted else []


def _is_read(operation: Operation) -> bool:
    return operation.act is Act.READ_LEDGER and operation.result is Result.OK
