"""Flows that were tried, and what follows from each: that it got through, that it was stopped, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from analysis.facts import FlowTrial, Participant, Party, ProbeOutcome, Way

IN_TIME = frozenset({Way.LABELLED_LATER, Way.ESTABLISHED, Way.AFTER_RESTART})
"""Ways that are about when policy takes hold, which NET-POL-015 speaks of."""

ANSWERING = frozenset({"TCP", "ICMP"})
"""Protocols in which a live host always answers, be it by turning the caller away. UDP and SCTP may stay silent."""


class Fate(Enum):
    """What became of a flow."""

    PASSED = "passed"
    """Policy let it through, whoever answered."""

    STOPPED = "stopped"
    """Nothing of it arrived."""

    UNDECIDED = "undecided"
    """The instrument could not tell."""


@dataclass(frozen=True)
class Tried:
    """A trial with both its ends."""

    source: Participant
    target: Participant
    trial: FlowTrial

    @property
    def fate(self) -> Fate:
        """What became of it. A refusal where nobody listens comes from the target itself, so it arrived there."""
        trial = self.trial
        if trial.outcome is ProbeOutcome.OPEN or trial.heard:
            return Fate.PASSED
        if trial.outcome is ProbeOutcome.REFUSED and not self.listened:
            return Fate.PASSED
        return Fate.UNDECIDED if trial.outcome is ProbeOutcome.INCONCLUSIVE else Fate.STOPPED

    @property
    def listened(self) -> bool:
        """Whether a listener of ours was behind the port."""
        return (self.trial.protocol, self.trial.port) in self.target.listening

    @property
    def doubt(self) -> str:
        """Why it does not follow from its silence that it was denied; "" when it does."""
        trial = self.trial
        if self.fate is Fate.UNDECIDED:
            return trial.detail or "the instrument could not tell"
        if not self.target.healthy:
            return "the target's own listeners did not answer it, so nothing follows from a silence"
        if trial.control is None:
            return "no flow between the two that must pass was tried beside it"
        if not trial.control:
            return "the control, which must pass, did not pass either"
        if trial.outcome is ProbeOutcome.PROHIBITED:
            return ""
        if self.listened and trial.heard is None:
            return (
                f"the listener could not be asked whether it had heard anything: {trial.detail or 'no reason was kept'}"
            )
        if not self.listened and trial.protocol not in ANSWERING:
            return "nobody listened there, and silence is no denial"
        return ""

    @property
    def flow(self) -> str:
        """Protocol and port ("TCP 26257")."""
        return flow_words(self.trial.protocol, self.trial.port)

    @property
    def direct(self) -> bool:
        """Whether it was an ordinary new connection."""
        return self.trial.way is Way.DIRECT

    def between(self, source: str, target: str) -> bool:
        """Whether it went from pods of one role to pods of another; members have theirs too."""
        return role_of(self.source) == source and role_of(self.target) == target

    @property
    def crosses(self) -> bool:
        """Whether its ends are in different regions."""
        return self.source.region != self.target.region


def flow_words(protocol: str, port: int) -> str:
    """A protocol and a port in words; ICMP has no ports."""
    return f"{protocol} {port}" if port else protocol


def tried_flows(participants: tuple[Participant, ...], trials: tuple[FlowTrial, ...]) -> list[Tried]:
    """The trials with their ends."""
    return [Tried(participants[trial.source], participants[trial.target], trial) for trial in trials]


def role_of(participant: Participant) -> str:
    """The role that it wears, "" for none."""
    return participant.role if participant.party in (Party.ROLE, Party.MEMBER) else ""


def called(participant: Participant) -> str:
    """A participant in words: "database pods of us-east-1", "node us-east-1-node-2"."""
    region = participant.region
    return {
        Party.ROLE: f"{participant.role} pods of {region}",
        Party.MEMBER: f"{region}/{participant.name}",
        Party.STRANGER: f"pods of {region} without a role",
        Party.NODE: f"node {participant.name} of {region}",
        Party.DNS: f"DNS of {region}",
        Party.OUTSIDE: f"host {participant.address} outside",
        Party.API_SERVER: f"API server of {region}",
    }[participant.party]
