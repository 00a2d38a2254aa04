"""What becomes of flows in a world, by the engine that enforces policy there."""

from __future__ import annotations

from typing import Protocol

from analysis.policy.calico import CalicoEngine
from analysis.policy.cilium import CiliumEngine
from analysis.policy.dead import dead_rules_of_calico
from analysis.policy.dead_union import dead_rules_of_union
from analysis.policy.kubernetes import KubernetesEngine
from analysis.policy.model import DeadRule, Decision, Direction, EndDecision, Engine, Flow, World


class _Judges(Protocol):
    def end(self, flow: Flow, direction: Direction) -> EndDecision: ...


class Evaluator:
    """Decides flows. Policies are indexed once, so one of these serves for all flows of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._engine = _engine(world)

    def decide(self, flow: Flow) -> Decision:
        """What both ends say: of the source's egress, and of the target's ingress."""
        return Decision(
            egress=self._engine.end(flow, Direction.EGRESS), ingress=self._engine.end(flow, Direction.INGRESS)
        )


def dead_rules(world: World) -> tuple[DeadRule, ...]:
    """The rules that never decide anything, and why: from what can never be to what merely is not now."""
    return dead_rules_of_calico(world) if world.engine is Engine.CALICO else dead_rules_of_union(world)


def _engine(world: World) -> _Judges:
    if world.engine is Engine.CILIUM:
        return CiliumEngine(world)
    if world.engine is Engine.KUBERNETES:
        return KubernetesEngine(world)
    return CalicoEngine(world)
