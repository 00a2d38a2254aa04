"""Observers: each gathers one family of facts, in bulk and once per run.

An observer never fails for a part that it could not see: that part becomes a `Gap` with the instrument's words, and
the rest is kept. Which verdict follows from a gap is the judges' business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from probes.deploy import ProbeSet
from probes.mesh import Mesh
from probes.observers.addressing import observe_addressing
from probes.observers.configuration import observe_configuration
from probes.observers.forwarding import observe_forwarding
from probes.observers.inventory import observe_inventory
from probes.observers.paths import observe_paths
from probes.observers.quality import observe_quality
from probes.observers.reachability import observe_reachability
from probes.observers.routing import observe_routing

Observer: TypeAlias = Callable[[Mesh, ProbeSet], Any]

OBSERVERS: Mapping[str, Observer] = MappingProxyType(
    {
        "inventory": observe_inventory,
        "addressing": observe_addressing,
        "configuration": observe_configuration,
        "routing": observe_routing,
        "forwarding": observe_forwarding,
        "reachability": observe_reachability,
        "paths": observe_paths,
        "quality": observe_quality,
    }
)
"""By the name that the family has in the fact store."""
