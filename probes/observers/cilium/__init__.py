"""Observers of what Cilium does: its agents' own words, its objects, and the stores of the mesh."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from probes.observers.kernel import observe_kernels
from probes.observers.observer import Observer

OBSERVERS: Mapping[str, Observer] = MappingProxyType({"forwarding": observe_kernels})
"""By the name that the family has in the fact store."""
