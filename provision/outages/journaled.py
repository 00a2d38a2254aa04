"""Outages that are written down before they are made: what all providers have in common."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from analysis.facts.outage import PodEnd
from analysis.fleet import Capability, Fleet, OutageMode
from provision.outages import OutageError, OutageOrder
from provision.outages.journal import journal_of
from provision.outages.remedy import Remedy

ENDINGS = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Course:
    """How one outage goes.

    Attributes:
        remedies: what undoes it, known before it is made.
        harm: does it, and returns when the effect is seen. Raises OutageError.
    """

    remedies: tuple[Remedy, ...]
    harm: Callable[[], tuple[PodEnd, ...]]


Prepare = Callable[[OutageOrder], Course]
"""Looks at the environment, changes nothing, and says how the outage goes. Raises OutageError."""


class JournaledOutages:
    """Makes outages of one environment.

    Args:
        fleet: the environment.
        courses: how each mode is prepared; those that the fleet does not list stay unused.
    """

    def __init__(self, fleet: Fleet, courses: Mapping[OutageMode, Prepare]) -> None:
        self._environment = fleet.plan.name
        self._regions = {handle.region for handle in fleet.clusters}
        self._journal = journal_of(fleet)
        allowed = fleet.outage_modes if Capability.DISRUPTION in fleet.capabilities else frozenset()
        self._prepare = {mode: prepare for mode, prepare in courses.items() if mode in allowed}
        self._handlers: dict[signal.Signals, Any] = {}

    @property
    def modes(self) -> frozenset[OutageMode]:
        """What can be done here."""
        return frozenset(self._prepare)

    def begin(self, order: OutageOrder) -> tuple[PodEnd, ...]:
        """Make it, and return when it has its effect; see `provision.outages.Outages`."""
        if order.mode not in self._prepare:
            raise OutageError(
                f"an outage of mode {order.mode.value} cannot be made here",
                where=self._environment,
                expected=f"one of {', '.join(sorted(mode.value for mode in self.modes)) or 'none at all'}",
            )
        if not order.regions or not self._regions.issuperset(order.regions):
            raise OutageError(
                "an outage of no region of this environment",
                where=self._environment,
                expected=f"one or more of {', '.join(sorted(self._regions))}",
                observed=", ".join(order.regions) or "none",
            )
        self._journal.heal()
        course = self._prepare[order.mode](order)
        self._raise_on_endings()
        try:
            self._journal.write(self._environment, order, course.remedies)
            return course.harm()
        except BaseException:
            self.heal()
            raise

    def heal(self) -> tuple[str, ...]:
        """Put everything back that the journal holds; see `provision.outages.Outages`."""
        try:
            return self._journal.heal()
        finally:
            self._handle_endings_as_before()

    def give_back(self, region: str) -> tuple[str, ...]:
        """Put back what makes one of several lost regions; see `provision.outages.Outages`."""
        return self._journal.heal(region)

    def _raise_on_endings(self) -> None:
        """From now on a signal that would end this process on the spot unwinds it, as Ctrl-C does."""
        if threading.current_thread() is threading.main_thread():
            for number in ENDINGS:
                self._handlers.setdefault(number, signal.signal(number, _interrupt))

    def _handle_endings_as_before(self) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)
