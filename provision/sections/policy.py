"""What the network policy is meant to do."""

from __future__ import annotations

from typing import Self

from pydantic import Field, StrictBool

from analysis.plan import AllowedFlow, PolicyPlan, PolicyRole
from provision.environment_values import DnsLabel, LabelKey, Ports, Selector, Word
from provision.sections.section import Section


class Flow(Section):
    """Traffic that the policy must let through; everything between roles that is not listed must be blocked."""

    source: Word = Field(alias="from", description="the role that opens the connection", examples=["client"])
    target: Word = Field(alias="to", description="the role that is connected to", examples=["database"])
    ports: Ports = Field(description="TCP ports", examples=[[26257, 8080]])
    regions: tuple[str, ...] = Field(
        default=(), description="the regions of the target where this holds; by default all", examples=[["us-east-1"]]
    )
    same_region: StrictBool = Field(default=False, description="whether it holds between pods of one region only")


class PolicyIntent(Section):
    """What the network policy is meant to do, in the words of its owner and not of its implementation."""

    roles: dict[str, Selector] = Field(
        default_factory=dict,
        description="a name for the pods that have a label",
        examples=[{"database": "app=cockroachdb", "client": "app=cockroachdb-client"}],
    )
    allow: tuple[Flow, ...] = Field(default=(), description="what must get through")
    region_label: LabelKey = Field(
        default="geography", description="the label by which database pods say their region; empty where none does"
    )
    namespace: DnsLabel | None = Field(
        default=None,
        description="where pods that wear the roles' labels are put to try what gets through; by default with the "
        "probes",
    )

    def plan(self) -> PolicyPlan:
        """The same as judges know it."""
        return PolicyPlan(
            roles=tuple(PolicyRole(name, *label.split("=", 1)) for name, label in self.roles.items()),
            allow=tuple(
                AllowedFlow(flow.source, flow.target, flow.ports, flow.regions, flow.same_region) for flow in self.allow
            ),
            region_label=self.region_label,
            namespace=self.namespace or "",
        )

    @classmethod
    def from_plan(cls, plan: PolicyPlan) -> Self:
        """The section that says the same."""
        return cls(
            roles={role.name: f"{role.key}={role.value}" for role in plan.roles},
            allow=tuple(
                Flow.model_validate(
                    {
                        "from": flow.source,
                        "to": flow.target,
                        "ports": flow.ports,
                        "regions": flow.regions,
                        "same_region": flow.same_region,
                    }
                )
                for flow in plan.allow
            ),
            region_label=plan.region_label,
            namespace=plan.namespace or None,
        )
