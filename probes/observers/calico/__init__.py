"""Observers of what Calico does: pools and peerings, BIRD's sessions and routes, Felix's sets, who follows whom."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from probes.observers.calico.addressing import observe_addressing
from probes.observers.calico.components import observe_components
from probes.observers.calico.configuration import observe_configuration
from probes.observers.calico.federation import observe_federation
from probes.observers.calico.forwarding import observe_forwarding
from probes.observers.calico.routing import observe_routing
from probes.observers.observer import Observer

OBSERVERS: Mapping[str, Observer] = MappingProxyType(
    {
        "addressing": observe_addressing,
        "configuration": observe_configuration,
        "routing": observe_routing,
        "forwarding": observe_forwarding,
        "components": observe_components,
        "federation": observe_federation,
    }
)
"""By the name that the family has in the fact store."""
