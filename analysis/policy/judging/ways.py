"""Ways between nodes: what does not arrive says something about policy only where anything at all does."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.facts import Participant
from analysis.policy.judging.tried import Fate, Tried

Place = tuple[str, str]


class Ways:
    """The ordered pairs of places between which something got through, whatever it was."""

    def __init__(self, flows: Iterable[Tried]) -> None:
        self._open: set[tuple[Place, Place]] = set()
        for tried in flows:
            if tried.fate is Fate.PASSED:
                here, there = _place(tried.source), _place(tried.target)
                self._open |= {(here, there), (here, (there[0], ""))}

    def is_open(self, tried: Tried) -> bool:
        """Whether something got through from the node of the one to that of the other.

        Who is on no node, as the address of a Service, is taken to be anywhere in its region.
        """
        return (_place(tried.source), _place(tried.target)) in self._open


def _place(party: Participant) -> Place:
    return party.region, party.node
