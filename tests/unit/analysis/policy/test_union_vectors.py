"""What Kubernetes and Cilium promise, flow by flow: every vector that is sure."""

from __future__ import annotations

import pytest

from analysis.policy.decide import Evaluator
from analysis.policy.model import Engine
from tests.unit.analysis.policy.vectors import FlowVector, flow_vectors

VECTORS = [*flow_vectors(Engine.KUBERNETES), *flow_vectors(Engine.CILIUM)]


@pytest.mark.parametrize("vector", VECTORS, ids=[vector.id for vector in VECTORS])
def test_a_flow_meets_what_the_product_promises(vector: FlowVector) -> None:
    decision = Evaluator(vector.world).decide(vector.flow)
    assert (decision.allowed, decision.egress.decider, decision.ingress.decider) == (
        vector.allowed,
        vector.egress,
        vector.ingress,
    )
    assert (decision.egress.layer_7 or decision.ingress.layer_7) is vector.layer_7
