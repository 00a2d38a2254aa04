"""Can some of these transfers, and no others, turn balances into these? Exact as far as the search goes.

The question is a sum of vectors, hard in general and easy here: transfers are settled account by account, the account
with the fewest of them first. Once all of its transfers are settled, only choices that bring it to its balance stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TypeAlias

Transfer: TypeAlias = tuple[int, int, int]
"""From, to, amount."""

SEARCHED = 20_000
"""So many choices are followed side by side: some 20 MB, and a few seconds for a hundred transfers."""

FIRST_TRIED = 100
"""With so many, one that leads there is nearly always found, if many do."""


def apply(balances: Sequence[int], transfers: Sequence[Transfer]) -> tuple[int, ...]:
    """The balances after these transfers."""
    changed = list(balances)
    for source, target, amount in transfers:
        changed[source] -= amount
        changed[target] += amount
    return tuple(changed)


def reachable(
    start: Sequence[int], end: Sequence[int], optional: Sequence[Transfer], limit: int = SEARCHED
) -> bool | None:
    """Whether a subset of the optional transfers leads from the one balances to the others.

    Args:
        start: balances before, by account.
        end: balances after.
        optional: transfers that may have happened, each once or not at all.
        limit: choices that are followed side by side.

    Returns:
        None when more choices than that would have to be followed, and those that were did not lead there.
    """
    missing = tuple(after - before for before, after in zip(start, end, strict=True))
    if not any(missing):
        return True
    if sum(missing):
        return False
    order = _by_account(len(missing), [transfer for transfer in optional if transfer[0] != transfer[1]])
    least, most = _reach(len(missing), order)
    if not all(low <= wanted <= high for low, wanted, high in zip(least, missing, most, strict=True)):
        return False
    found = _search(missing, order, least[:], most[:], min(FIRST_TRIED, limit))
    return _search(missing, order, least, most, limit) if found is None else found


def _search(
    missing: tuple[int, ...], order: Sequence[Transfer], least: list[int], most: list[int], limit: int
) -> bool | None:
    """Follow all choices in that order. `least` and `most`: how far what remains can take each account; used up."""
    states, cut = {missing}, False
    for source, target, amount in order:
        most[target] -= amount
        least[source] += amount
        following = set()
        for state in states:
            for taken in (0, amount):
                at_source, at_target = state[source] + taken, state[target] - taken
                if least[source] <= at_source <= most[source] and least[target] <= at_target <= most[target]:
                    changed = list(state)
                    changed[source], changed[target] = at_source, at_target
                    following.add(tuple(changed))
        if len(following) > limit:
            following, cut = set(islice(following, limit)), True
        states = following
    found = any(not any(state) for state in states)
    return found or (None if cut else False)


def _by_account(accounts: int, transfers: Sequence[Transfer]) -> list[Transfer]:
    """The transfers in an order in which one account after the other is settled."""
    order: list[Transfer] = []
    remaining = list(transfers)
    while remaining:
        touching = [[transfer for transfer in remaining if account in transfer[:2]] for account in range(accounts)]
        fewest = min(filter(None, touching), key=len)
        order += sorted(fewest, key=lambda transfer: -transfer[2])
        account = touching.index(fewest)
        remaining = [transfer for transfer in remaining if account not in transfer[:2]]
    return order


def _reach(accounts: int, transfers: Sequence[Transfer]) -> tuple[list[int], list[int]]:
    """How far all transfers together can take each account down and up."""
    least, most = [0] * accounts, [0] * accounts
    for source, target, amount in transfers:
        least[source] -= amount
        most[target] += amount
    return least, most
