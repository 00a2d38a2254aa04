"""What runs Calico in every cluster, and how every node forwards: the operator's word, workloads, tunnel devices."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from analysis.facts import Component, Components, Datapath, Gap, Link, Pool
from probes.calico import calico_group, calico_namespace, calico_objects
from probes.cluster import Cluster, KubeObject
from probes.deploy import ProbeSet
from probes.errors import ApiError, ProbeError
from probes.mesh import Mesh
from probes.observers.calico.addressing import read_pool
from probes.observers.kernel import observe_kernels
from probes.observers.workloads import read_workload
from probes.permissions import CALICO_WORKLOADS, OPERATOR_GROUP

NO_TABLE = 0
"""Of a node's kernel only the devices are wanted."""

TUNNELS = {("vxlan", "vxlan.calico"): "vxlan", ("ipip", "tunl0"): "ipip"}
"""Calico's tunnel devices, by the kernel's word for their kind and their names."""

FOREIGN_DEVICE = re.compile(r"flannel[.-]|cni0$|cilium_|lxc|weave|kube-bridge$|antrea-|ovn|genev_sys_|eni[0-9a-f]{11}$")


def observe_components(mesh: Mesh, probe_set: ProbeSet) -> Components:
    """Read statuses and workloads through the API, and the devices of every node through its probe."""
    components: list[Component] = []
    pools: dict[str, list[Pool]] = {}
    gaps: list[Gap] = []
    for region, seen in mesh.each_region(_observe):
        if isinstance(seen, ProbeError):
            gaps.append(Gap(region, "Calico's components", str(seen)))
            continue
        components += seen[0]
        pools[region] = seen[1]
    kernels = observe_kernels(mesh, probe_set, NO_TABLE)
    by_node: defaultdict[tuple[str, str], list[Link]] = defaultdict(list)
    for link in kernels.links:
        by_node[link.region, link.node].append(link)
    datapaths = [read_datapath(region, node, links, pools.get(region)) for (region, node), links in by_node.items()]
    return Components(tuple(components), tuple(datapaths), (*gaps, *kernels.gaps))


def _observe(cluster: Cluster) -> tuple[list[Component], list[Pool]]:
    found = [read_tigera_status(cluster.region, item) for item in _tigera_statuses(cluster)]
    namespace = calico_namespace(cluster) or "calico-system"
    for plural, name in CALICO_WORKLOADS:
        try:
            item = cluster.get(f"/apis/apps/v1/namespaces/{namespace}/{plural}/{name}")
        except ApiError as error:
            if error.status != 404:
                raise
            continue  # a manifest installation has no Typha, for one; judges compare the clusters
        found.append(read_workload(cluster.region, plural, item))
    items = calico_objects(cluster, calico_group(cluster), "ippools")
    return found, [pool for item in items if (pool := read_pool(cluster.region, item))]


def _tigera_statuses(cluster: Cluster) -> list[KubeObject]:
    """None where Calico was installed without its operator."""
    try:
        return cluster.items(f"/apis/{OPERATOR_GROUP}/v1/tigerastatuses")
    except ApiError as error:
        if error.status != 404:
            raise
        return []


def read_tigera_status(region: str, item: KubeObject) -> Component:
    """A TigeraStatus. It is healthy when it is available, and neither progressing nor degraded."""
    conditions = {each["type"]: each for each in (item.get("status") or {}).get("conditions") or ()}
    states = {kind: condition.get("status") for kind, condition in conditions.items()}
    told = (
        f"{kind}: {conditions[kind].get('message') or conditions[kind].get('reason', '')}"
        for kind in ("Degraded", "Progressing")
        if states.get(kind) == "True"
    )
    available = states.get("Available") == "True"
    return Component(
        region=region,
        name=f"tigerastatus/{item['metadata']['name']}",
        healthy=available and "True" not in (states.get("Progressing"), states.get("Degraded")) if conditions else None,
        message="; ".join(told) or ("" if available else "not Available"),
    )


def read_datapath(region: str, node: str, links: Iterable[Link], pools: list[Pool] | None) -> Datapath:
    """How a node forwards, by the tunnel device that is up there; `pools` are None where they could not be read."""
    devices = list(links)
    tunnel = next((link for link in devices if (link.kind, link.name) in TUNNELS and link.up), None)
    return Datapath(
        region=region,
        node=node,
        routing="tunnel" if tunnel else "native",
        encapsulation=TUNNELS[tunnel.kind, tunnel.name] if tunnel else "none",
        port=tunnel.port if tunnel else None,
        vni=tunnel.vni if tunnel else None,
        foreign_devices=tuple(sorted(link.name for link in devices if FOREIGN_DEVICE.match(link.name))),
        masquerades=any(pool.nat_outgoing for pool in pools if not pool.disabled) if pools is not None else None,
        not_masqueraded=tuple(pool.cidr for pool in pools or ()),
    )
