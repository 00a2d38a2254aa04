"""Observers: each gathers one family of facts, in bulk and once per run.

An observer never fails for a part that it could not see: that part becomes a `Gap` with the instrument's words, and
the rest is kept. Which verdict follows from a gap is the judges' business. Probing is the same whatever the CNI; what a
CNI knows is asked by observers of its own, which deliver the same facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from analysis.facts import Addressing, Components, Federation, Forwarding, MeshConfiguration, Routing
from analysis.plan import Cni
from probes.deploy import ProbeSet
from probes.mesh import Mesh
from probes.observers import calico, cilium
from probes.observers.database import observe_database
from probes.observers.database_workloads import observe_database_workloads
from probes.observers.dns import observe_dns
from probes.observers.enforcement import observe_enforcement
from probes.observers.inventory import observe_inventory
from probes.observers.mtu import observe_mtu
from probes.observers.observer import Observer
from probes.observers.paths import observe_paths
from probes.observers.policies import observe_policies
from probes.observers.quality import observe_quality
from probes.observers.reachability import observe_reachability
from probes.observers.tls import observe_tls
from probes.observers.underlay import observe_underlay
from probes.observers.wire import observe_wire

COMMON: Mapping[str, Observer] = MappingProxyType(
    {
        "inventory": observe_inventory,
        "reachability": observe_reachability,
        "paths": observe_paths,
        "quality": observe_quality,
        "underlay": observe_underlay,
        "mtu": observe_mtu,
        "wire": observe_wire,
        "dns": observe_dns,
        "workloads": observe_database_workloads,
        "database": observe_database,
        "tls": observe_tls,
        "policies": observe_policies,
        "enforcement": observe_enforcement,
    }
)
BY_CNI: Mapping[Cni, Mapping[str, Observer]] = MappingProxyType(
    {Cni.CALICO_BGP: calico.OBSERVERS, Cni.CILIUM_CLUSTERMESH: cilium.OBSERVERS}
)
EMPTY = MappingProxyType(
    {
        "addressing": Addressing((), ()),
        "configuration": MeshConfiguration(()),
        "routing": Routing((), ()),
        "forwarding": Forwarding((), ()),
        "components": Components(()),
        "federation": Federation(),
    }
)
"""Families that a CNI may not have at all: Cilium keeps no BGP sessions."""


def observe(family: str, mesh: Mesh, probe_set: ProbeSet) -> Any:
    """Gather the family of that name in the way of the plan's CNI.

    Raises:
        KeyError: no such family.
    """
    observer = COMMON.get(family) or BY_CNI[mesh.fleet.plan.cni].get(family)
    return observer(mesh, probe_set) if observer else EMPTY[family]
