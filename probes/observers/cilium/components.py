"""What runs Cilium in every cluster: workloads, the agents' own words, and how every node forwards."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from analysis.cilium import AgentStatus, parse_status
from analysis.facts import Component, Components, Datapath, Gap, Link
from analysis.images import image_tag
from probes.cilium import AgentPod, all_agents, ask_agents, config_map
from probes.cluster import Cluster
from probes.deploy import ProbeSet
from probes.errors import ProbeError
from probes.mesh import Mesh
from probes.observers.cilium.addressing import encapsulation_of
from probes.observers.kernel import MAIN_TABLE, observe_kernels
from probes.observers.workloads import observe_workload
from probes.permissions import CILIUM_CONFIG, CILIUM_DAEMON_SET, CILIUM_DEPLOYMENTS, CILIUM_NAMESPACE

STATUS = {"status": '"$cilium" status -o json'}
WORKLOADS = (("daemonsets", CILIUM_DAEMON_SET), *(("deployments", name) for name in CILIUM_DEPLOYMENTS))
WELL = ("Ok", "Disabled")
FOREIGN_DEVICE = re.compile(
    r"flannel[.-]|cni0$|cbr0$|cali|vxlan\.calico$|vxlan-v6\.calico$|tunl0$|weave|kube-bridge$|antrea-|ovn|ovs-system$"
)
"""Devices that another CNI makes. A `tunl0` that is down is only the kernel's, which makes one in every namespace."""


def observe_components(mesh: Mesh, probe_set: ProbeSet) -> Components:
    """Read workloads and settings through the API, ask every agent, and read the devices through the nodes' probes."""
    components: list[Component] = []
    configured: dict[str, dict[str, str]] = {}
    gaps: list[Gap] = []
    for region, seen in mesh.each_region(_observe):
        if isinstance(seen, ProbeError):
            gaps.append(Gap(region, "Cilium's components", str(seen)))
        else:
            workloads, configured[region] = seen
            components += workloads
    links: defaultdict[tuple[str, str], list[Link]] = defaultdict(list)
    kernels = observe_kernels(mesh, probe_set, table=MAIN_TABLE)
    for link in kernels.links:
        links[link.region, link.node].append(link)
    agents, unasked = all_agents(mesh, "the agents' state")
    datapaths: list[Datapath] = []
    for agent, told in ask_agents(mesh, agents, STATUS):
        try:
            if isinstance(told, ProbeError):
                raise told
            status = told["status"].read(parse_status)
        except ProbeError as error:
            gaps.append(Gap(agent.region, f"node {agent.node}: the agent's state", str(error)))
            continue
        components.append(read_agent(agent, status))
        devices = links.get((agent.region, agent.node))
        if devices:
            datapaths.append(read_datapath(agent, status, configured.get(agent.region, {}), devices))
    return Components(tuple(components), tuple(datapaths), (*gaps, *unasked, *kernels.gaps))


def _observe(cluster: Cluster) -> tuple[list[Component], dict[str, str]]:
    workloads = [observe_workload(cluster, CILIUM_NAMESPACE, plural, name) for plural, name in WORKLOADS]
    return workloads, config_map(cluster, CILIUM_CONFIG)


def read_agent(agent: AgentPod, status: AgentStatus) -> Component:
    """What an agent says of itself. A background task that fails is told, but only its state says that it is unwell."""
    told = [f"{status.state}: {status.message}", *status.failing]
    image = next((image_tag(each["image"]) for each in agent.pod["spec"]["containers"]), "")
    return Component(
        region=agent.region,
        name=f"cilium-agent on {agent.node}",
        healthy=status.state in WELL,
        version=status.version or image.removeprefix("v"),
        message="; ".join(told),
    )


def read_datapath(agent: AgentPod, status: AgentStatus, configured: dict[str, str], links: Sequence[Link]) -> Datapath:
    """How a node forwards: by the agent's word, where it gives one (from 1.16 on), else by its cluster's settings.

    The tunnel's port, and its VNI where it is fixed, are those of the device that is there.
    """
    set_to = encapsulation_of(configured)
    routing = status.routing or ("native" if set_to == "none" else "tunnel")
    encapsulation = "none" if routing == "native" else status.encapsulation or set_to
    device = next((link for link in links if link.name == f"cilium_{encapsulation}"), None)
    return Datapath(
        region=agent.region,
        node=agent.node,
        routing=routing,
        encapsulation=encapsulation,
        port=device.port if device else None,
        vni=(device.vni or None) if device else None,
        foreign_devices=tuple(foreign(links)),
        masquerades=status.masquerades,
        not_masqueraded=status.not_masqueraded,
    )


def foreign(links: Iterable[Link]) -> Iterable[str]:
    """The devices that another CNI has made."""
    return (link.name for link in links if FOREIGN_DEVICE.match(link.name) and (link.up or link.name != "tunl0"))
