"""Outages: a region lost on purpose, and healed whatever happens.

Whoever makes an outage writes it down first, in a journal that outlives the process (`journal`), and so whoever comes
next, a run or `python -m provision heal NAME`, heals what is found there before anything else. Where the provider can,
a dead-man timer in the environment heals it without anybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from analysis.facts.outage import PodEnd
from analysis.fleet import OutageMode
from provision.errors import ProvisionError


@dataclass(frozen=True)
class OutageOrder:
    """What is to be done to whom.

    Attributes:
        mode: what.
        regions: to whom, at once.
        within: after so long, nobody having healed it, it heals by itself where the provider can.
    """

    mode: OutageMode
    regions: tuple[str, ...]
    within: timedelta = timedelta(minutes=5)

    def __str__(self) -> str:
        """In words: "power of us-east-1, us-east-2"."""
        return f"{self.mode.value} of {', '.join(self.regions)}"


class Outages(Protocol):
    """Makes outages in one environment, one at a time."""

    @property
    def modes(self) -> frozenset[OutageMode]:
        """What it can do."""

    def begin(self, order: OutageOrder) -> tuple[PodEnd, ...]:
        """Make it, and return when it has its effect. What a dead process left behind is healed first.

        Between this and `heal`, SIGTERM and SIGHUP raise KeyboardInterrupt, so that whoever heals in a `finally` does.

        Returns:
            how the pods ended that were told to end; none where the mode tells no pod.

        Raises:
            OutageError: it could not be made. What had been done is healed.
        """

    def give_back(self, region: str) -> tuple[str, ...]:
        """Put one of several lost regions back, and return what was healed, in words; the others stay lost until then.

        Raises:
            OutageError: it could not be put back.
        """

    def heal(self) -> tuple[str, ...]:
        """Put everything back that the journal holds, and return what was healed, in words; nothing to do is fine.

        Raises:
            OutageError: something could not be put back, and stays in the journal; or the outage is that of another
                process, which is still alive.
        """


DATABASE_POD_MODES = frozenset({OutageMode.PODS, OutageMode.POD_EACH, OutageMode.SHUTDOWN})
"""What can be done through the Kubernetes API, wherever there are database pods and leave to disrupt them."""


class OutageError(ProvisionError):
    """An outage could not be made or healed; the text says what is left, and what to do."""
