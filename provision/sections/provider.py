"""Who brings the environment up."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictBool

from provision.environment_values import DnsLabel, Whole
from provision.lab.topology import DatabaseTimers, PolicyPeers, Timers
from provision.sections.section import Section


class AttachSettings(Section):
    """Use clusters that are there. Only the probes' own pods are made in them."""

    kind: Literal["attach"] = Field(default="attach", description="attach: use clusters that are there")


class LabSettings(Section):
    """The lab: namespaces on this machine that stand in for clouds, nodes and pods."""

    kind: Literal["lab"] = Field(description="lab: the lab on this machine")
    name: DnsLabel | None = Field(
        default=None, description="the running lab to use; without it one is brought up for the run", examples=["demo"]
    )
    pods: Annotated[int, Whole(0, 50)] = Field(
        default=1, description="sample workload pods on each node of a lab that is brought up"
    )
    timers: Timers = Field(default=Timers.FAST, description="BGP timers of a lab that is brought up")
    database: StrictBool = Field(
        default=False,
        description="whether the database of a lab that is brought up runs; without it, it runs when a check needs it",
    )
    database_timers: DatabaseTimers = Field(
        default=DatabaseTimers.FAST, description="how soon the stand-in for CockroachDB replaces a lost primary"
    )
    policy_peers: PolicyPeers = Field(
        default=PolicyPeers.FEDERATION,
        description="by what Calico's policies know the pods of other clusters: federation or network-sets",
    )


ProviderSettings = Annotated[AttachSettings | LabSettings, Field(discriminator="kind")]
