"""What checks hold the environment to."""

from __future__ import annotations

from pydantic import Field

from analysis.plan import Budgets
from provision.environment_values import Duration, Ratio
from provision.sections.section import Section


class BudgetSettings(Section):
    """Upper bounds that checks hold the environment to."""

    convergence: Duration = Field(
        default=Budgets().convergence, description="until a new or removed route is known everywhere"
    )
    pod_ready: Duration = Field(
        default=Budgets().pod_ready, description="until a running pod is reachable from the other regions"
    )
    rtt_overhead: Duration = Field(
        default=Budgets().rtt_overhead, description="round trip of pods above that of their nodes"
    )
    throughput_ratio: Ratio = Field(
        default=Budgets().throughput_ratio, description="least throughput of pods as a share of that of their nodes"
    )
    rto: Duration = Field(default=Budgets().rto, description="time without service after the loss of a region")
    dns_answer: Duration = Field(default=Budgets().dns_answer, description="until DNS has answered, whatever it says")
    dns_change: Duration = Field(
        default=Budgets().dns_change, description="until everybody sees a changed address, caches included"
    )
    clock_offset: Duration = Field(default=Budgets().clock_offset, description="between the clocks of any two nodes")
    stall: Duration = Field(default=Budgets().stall, description="how long a transfer may stand still")
    rejoin: Duration = Field(
        default=Budgets().rejoin,
        description="until a region that returned takes part in the database again, with all its replicas",
    )
    certificate: Duration = Field(
        default=Budgets().certificate, description="for so long every certificate must still be valid"
    )
