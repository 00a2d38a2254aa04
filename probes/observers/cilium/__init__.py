"""Observers of what Cilium does: its agents' own words, its objects, and the stores of the mesh."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from probes.observers.cilium.addressing import observe_addressing
from probes.observers.cilium.components import observe_components
from probes.observers.cilium.configuration import observe_configuration
from probes.observers.cilium.federation import observe_federation
from probes.observers.cilium.forwarding import observe_forwarding
from probes.observers.observer import Observer

OBSERVERS: Mapping[str, Observer] = MappingProxyType(
    {
        "addressing": observe_addressing,
        "configuration": observe_configuration,
        "forwarding": observe_forwarding,
        "components": observe_components,
        "federation": observe_federation,
    }
)
"""By the name that the family has in the fact store."""
