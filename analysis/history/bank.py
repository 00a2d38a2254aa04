"""Bank: transfers happen whole or not at all, and what was acknowledged has happened.

Every read of all balances shows the same total and nothing below zero. It must further be what the acknowledged
transfers made of the opening balances, together with some choice among those that were under way and those whose
result is unknown; at the end this is searched far, meanwhile less far.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from analysis.history.anomaly import Anomaly, Kind, anomaly, numbers
from analysis.history.chains import Chain, chains
from analysis.history.operation import BANK_ACCOUNTS, BANK_BALANCE, Act, Operation, Result
from analysis.history.transfers import SEARCHED, Transfer, apply, reachable

OPENING = (BANK_BALANCE,) * BANK_ACCOUNTS

_MEANWHILE = 2_000
"""Choices that are followed for a read in the middle of the history: there may be thousands of such reads."""

_SUSPECTS = 500
"""Acknowledged transfers that are tried as the lost one, the latest first."""


def check_bank(
    key: str, operations: Sequence[Operation], finals: Sequence[Operation], opening: tuple[int, ...] = OPENING
) -> list[Anomaly]:
    """Anomalies of one bank.

    Args:
        key: name of the bank.
        operations: TRANSFER and READ_BANK of that bank.
        finals: reads of it once everything was over.
        opening: the balances before the first transfer.
    """
    return list(_Bank(key, operations, finals, opening).anomalies())


@dataclass(frozen=True)
class _Basis:
    """What a read rests on: balances by transfers that were certainly done, and those that may have been."""

    balances: tuple[int, ...]
    optional: tuple[Chain, ...]


class _Bank:
    def __init__(
        self, key: str, operations: Sequence[Operation], finals: Sequence[Operation], opening: tuple[int, ...]
    ) -> None:
        self.key = key
        self.opening = opening
        self.chains = chains(operation for operation in operations if operation.act is Act.TRANSFER)
        self.finals = [read for read in finals if _answered(read) and not read.stale]
        self.reads = [read for read in operations if _answered(read)]

    def anomalies(self) -> Iterator[Anomaly]:
        everything = [*self.reads, *self.finals]
        torn = [read for read in everything if self._is_torn(read) and (read.answer or not read.stale)]
        odd = {read.number for read in torn}
        if torn:
            yield anomaly(
                Kind.TORN,
                torn,
                f"{self.key}: {numbers(torn)} read {len(torn[0].answer)} balances that come to "
                f"{sum(torn[0].answer)} in all, not {len(self.opening)} that come to {sum(self.opening)}: "
                "a transfer was seen or kept in part",
            )
        if negative := [read for read in everything if any(balance < 0 for balance in read.answer)]:
            yield anomaly(
                Kind.NEGATIVE,
                negative,
                f"{self.key}: {numbers(negative)} read a balance of {min(negative[0].answer)}, "
                "which no transfer may leave behind",
            )
        current = sorted(
            (read for read in everything if not read.stale and read.number not in odd), key=attrgetter("invoked")
        )
        yield from self._unexplained(current)
        if self.finals:
            yield from self._differing()
        elif any(chain.result is Result.OK for chain in self.chains):
            yield anomaly(
                Kind.NOT_DECIDED, [], f"{self.key}: no final read, so nobody knows whether its transfers are there"
            )

    def _is_torn(self, read: Operation) -> bool:
        return len(read.answer) != len(self.opening) or sum(read.answer) != sum(self.opening)

    def _unexplained(self, reads: Sequence[Operation]) -> Iterator[Anomaly]:
        last = {read.number for read in self.finals}
        told: set[Kind] = set()
        for read, basis in self._bases(reads):
            final = read.number in last
            limit = SEARCHED if final else _MEANWHILE
            explained = reachable(basis.balances, read.answer, _once(basis.optional), limit)
            if explained is None and final and Kind.NOT_DECIDED not in told:
                told.add(Kind.NOT_DECIDED)
                yield anomaly(
                    Kind.NOT_DECIDED,
                    [read],
                    f"{self.key}: {len(basis.optional)} transfers of unknown result are too many to say whether some "
                    f"of them explain the balances read in {read.region}",
                )
            if explained is False:
                found = self._explain(read, basis, final)
                if found.kind not in told:  # one of a kind: later reads show the same again
                    told.add(found.kind)
                    yield found

    def _bases(self, reads: Sequence[Operation]) -> Iterator[tuple[Operation, _Basis]]:
        """Each read, in the order of invocation, with what it rests on."""
        waiting = sorted((chain for chain in self.chains if chain.result is not Result.FAILED), key=_INVOKED)
        active: list[Chain] = []
        balances, following = self.opening, 0
        for read in reads:
            while following < len(waiting) and waiting[following].invoked <= read.completed:
                active.append(waiting[following])
                following += 1
            done = [chain for chain in active if chain.completed < read.invoked]
            if done:
                balances = apply(balances, _once(done))
                active = [chain for chain in active if chain.completed >= read.invoked]
            yield read, _Basis(balances, tuple(chain for chain in active if chain.invoked <= read.completed))

    def _explain(self, read: Operation, basis: _Basis, final: bool) -> Anomaly:
        """Why a read cannot be: the first of the usual reasons that would explain it."""
        before = [chain for chain in self.chains if chain.invoked <= read.completed]
        optional = _once(basis.optional)
        where = f"{self.key}: the balances read in {read.region} (operation {read.number})"
        repeated = [chain for chain in before if len(chain.effective) > 1]
        again = [_transfer(chain) for chain in repeated for _ in chain.effective[1:]]
        if again and reachable(basis.balances, read.answer, optional + again, _MEANWHILE):
            attempts = [attempt for chain in repeated for attempt in chain.effective]
            return anomaly(
                Kind.APPLIED_TWICE,
                [*attempts, read],
                f"{where} hold a transfer more than once: a client repeated one without knowing the result of its "
                f"first attempt ({numbers(attempts)})",
            )
        failed = [chain for chain in before if chain.result is Result.FAILED]
        for chain in reversed(failed[-_SUSPECTS:]):
            if reachable(basis.balances, read.answer, [*optional, _transfer(chain)], _MEANWHILE):
                return anomaly(
                    Kind.REVIVED,
                    [*chain.attempts, read],
                    f"{where} hold a transfer that was reported as failed ({numbers(chain.attempts)})",
                )
        certain = [chain for chain in before if chain.completed < read.invoked]
        for chain in sorted(certain, key=_COMPLETED, reverse=True)[:_SUSPECTS]:
            source, target, amount = _transfer(chain)
            without = apply(basis.balances, [(target, source, amount)])
            if reachable(without, read.answer, optional, _MEANWHILE):
                kind, words = (Kind.LOST, "no longer hold") if final else (Kind.STALE_READ, "do not hold")
                return anomaly(
                    kind,
                    [*chain.attempts, read],
                    f"{where} {words} a transfer acknowledged before, such as {numbers(chain.attempts)}",
                )
        return anomaly(
            Kind.UNREACHABLE,
            [read],
            f"{where} do not follow from the {len(certain)} acknowledged transfers with any choice of the "
            f"{len(basis.optional)} that were under way or of unknown result",
        )

    def _differing(self) -> Iterator[Anomaly]:
        """Regions that do not end with the same balances."""
        first = self.finals[0]
        others = [read for read in self.finals if read.answer != first.answer]
        if not others:
            return
        unknown = [chain for chain in self.chains if chain.result is Result.UNKNOWN]
        if all(
            len(read.answer) == len(first.answer)
            and reachable(first.answer, read.answer, [*_once(unknown), *map(_back, _once(unknown))]) is not False
            for read in others
        ):
            yield anomaly(
                Kind.NOT_DECIDED,
                self.finals,
                f"{self.key}: the regions' final balances differ by transfers of unknown result, which may have been "
                "committed between these reads",
            )
        else:
            yield anomaly(
                Kind.DIVERGENT,
                [first, *others],
                f"{self.key}: the regions do not hold the same balances at the end "
                f"({first.region} {first.answer}, {others[0].region} {others[0].answer})",
            )


_INVOKED, _COMPLETED = attrgetter("invoked"), attrgetter("completed")


def _answered(operation: Operation) -> bool:
    return operation.act is Act.READ_BANK and operation.result is Result.OK


def _transfer(chain: Chain) -> Transfer:
    source, target, amount = chain.value
    return source, target, amount


def _once(some: Sequence[Chain]) -> list[Transfer]:
    return [_transfer(chain) for chain in some]


def _back(transfer: Transfer) -> Transfer:
    source, target, amount = transfer
    return target, source, amount
