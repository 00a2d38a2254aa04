"""MESH-CP, what runs the mesh: is it well, is it the same everywhere, and is it alone?"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from analysis.expectation import planned_nodes
from analysis.facts import Component, Components, Datapath, Inventory, Pod
from analysis.plan import Cni, Plan
from analysis.rootcause import Layer
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import gap_findings, listed, name_nodes, node_gap, qualified, unseen_regions

MOST_MINORS_APART = 1
"""Clusters of one mesh may be this many minor versions apart, as during an upgrade."""

PLUGIN_PODS = {
    "aws-node": "the AWS VPC CNI",
    "antrea-agent": "Antrea",
    "calico-node": "Calico",
    "canal": "Canal",
    "cilium": "Cilium",
    "kindnet": "kindnet",
    "kube-flannel": "Flannel",
    "kube-ovn-cni": "Kube-OVN",
    "kube-router": "kube-router",
    "weave-net": "Weave Net",
}
"""Names of the DaemonSets of network plug-ins, which their pods' names begin with."""

OWN_PLUGIN = {Cni.CALICO_BGP: "Calico", Cni.CILIUM_CLUSTERMESH: "Cilium"}

FLANNEL_ANNOTATION = "flannel.alpha.coreos.com/"
K3S_ARGUMENTS = "k3s.io/node-args"
"""Annotation in which k3s keeps the arguments that a node was started with."""

K3S_REQUIRED = (
    (re.compile(r'--flannel-backend(=|", ?")none"'), "Flannel is on", "--flannel-backend=none"),
    (re.compile(r'--disable-network-policy"'), "k3s' own network policy controller is on", "--disable-network-policy"),
)


def judge_components_healthy(plan: Plan, components: Components) -> Verdict:
    """MESH-CP-001: every component says that it is well and has all its replicas, and none is missing anywhere."""
    planned = {region.name for region in plan.regions}
    found = [item for item in components.components if item.region in planned]
    present: defaultdict[str, set[str]] = defaultdict(set)
    for item in found:
        if not _of_node(item):
            present[item.name].add(item.region)
    seen = {item.region for item in found}
    silent = {gap.region for gap in components.gaps}
    violations = [
        Finding(f"{item.name} in {item.region}", expected, observed, cause, _ails_at(observed))
        for item in found
        for expected, observed, cause in _ailments(item)
    ]
    violations += [
        Finding(
            f"{name} in {region}",
            "to be there, as in the other clusters",
            "there is none",
            f"{listed(sorted(where))} {'has' if len(where) == 1 else 'have'} it",
        )
        for name, where in sorted(present.items())
        for region in sorted(seen - where - silent)
        if 2 * len(where) > len(seen)
    ]
    return conclude(
        expected="the components of the mesh are healthy in every cluster",
        examined=len(found),
        what="components",
        violations=violations,
        gaps=[
            *gap_findings(components.gaps),
            *unseen_regions(plan, seen, "its components"),
            *(
                Finding(f"{item.name} in {item.region}", "to tell how it is", item.message or "it says nothing")
                for item in found
                if item.healthy is None and item.ready is None
            ),
        ],
    )


def judge_same_datapath(plan: Plan, inventory: Inventory, components: Components) -> Verdict:
    """MESH-CP-014: all nodes forward in the same way, and versions are at most one minor apart between clusters."""
    planned = {region.name for region in plan.regions}
    datapaths = [item for item in components.datapaths if item.region in planned]
    settings = Counter(_setting(item) for item in datapaths)
    usual = max(settings, key=lambda setting: (settings[setting], setting), default="")
    odd: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for item in datapaths:
        if _setting(item) != usual:
            odd[_setting(item)].append((item.region, item.node))
    told = {(item.region, item.node) for item in datapaths}
    versions, remarks, unknown = _versions(plan, components)
    return conclude(
        expected=f"all clusters forward in the same way{f' ({usual})' if usual else ''}, by compatible versions",
        examined=len(datapaths),
        what="nodes",
        violations=[
            *(
                Finding(
                    name_nodes(nodes, inventory),
                    f"{usual}, as on {settings[usual]} of {len(datapaths)} nodes",
                    setting,
                    "the tunnels of the two kinds do not understand each other's packets",
                )
                for setting, nodes in sorted(odd.items())
            ),
            *versions,
        ],
        gaps=[
            *gap_findings(inventory.gaps),
            *(
                node_gap(node, "how the node forwards", components.gaps)
                for node in planned_nodes(plan, inventory)
                if (node.region, node.name) not in told
            ),
            *unknown,
        ],
        warnings=remarks,
    )


def judge_single_plugin(plan: Plan, inventory: Inventory, components: Components) -> Verdict:
    """MESH-CP-017: no node has devices, pods or settings of a second network plug-in."""
    nodes = planned_nodes(plan, inventory)
    told = {(item.region, item.node): item for item in components.datapaths}
    violations = [
        Finding(
            f"node {qualified(key)}",
            "devices of the mesh's own network plug-in only",
            f"{listed(item.foreign_devices)}",
            "another plug-in runs there, or was removed and its devices were left",
        )
        for key, item in sorted(told.items())
        if item.foreign_devices
    ]
    violations += [
        Finding(
            f"pod {pod.namespace}/{pod.name} on {qualified((pod.region, pod.node or 'no node'))}",
            "no other network plug-in",
            f"a pod of {plugin}",
            "two plug-ins give addresses and write routes on one node",
        )
        for pod in inventory.pods
        if (plugin := _plugin(pod)) is not None and plugin != OWN_PLUGIN[plan.cni]
    ]
    for node in nodes:
        flannel = [name for name, _ in node.annotations if name.startswith(FLANNEL_ANNOTATION)]
        arguments = dict(node.annotations).get(K3S_ARGUMENTS, "")
        on = [(problem, wish) for pattern, problem, wish in K3S_REQUIRED if not pattern.search(arguments)]
        where = f"node {qualified((node.region, node.name))}"
        if flannel:
            violations.append(Finding(where, "no trace of Flannel", f"annotation {flannel[0]}", "Flannel runs there"))
        if '"server"' in arguments:
            violations += [
                Finding(where, f"started with {wish}", problem, "k3s was installed with its default network")
                for problem, wish in on
            ]
    return conclude(
        expected=f"{OWN_PLUGIN[plan.cni]} is the only network plug-in on every node",
        examined=sum((node.region, node.name) in told for node in nodes),
        what="nodes",
        violations=violations,
        gaps=[
            *gap_findings(inventory.gaps),
            *(
                node_gap(node, "its network devices", components.gaps)
                for node in nodes
                if (node.region, node.name) not in told
            ),
        ],
        remedy="remove the other plug-in, its devices and its files in /etc/cni/net.d, then restart the pods there",
    )


def _of_node(item: Component) -> bool:
    """Whether a component is the part of one node, and not of its cluster."""
    return " on " in item.name


def _ailments(item: Component) -> list[tuple[str, str, str | None]]:
    message = f" ({item.message})" if item.message else ""
    if item.wanted == 0 and not _of_node(item):
        return [("replicas", f"0 replicas are asked for{message}", "it was scaled down, or no node is chosen for it")]
    if item.wanted is not None and (item.ready or 0) < item.wanted:
        return [(f"{item.wanted} replicas ready", f"{item.ready or 0}{message}", "its pods are not there or not Ready")]
    if item.healthy is False:
        return [("healthy", item.message or "it says that it is not", None)]
    return []


def _ails_at(observed: str) -> Layer:
    """A routing agent that has no sessions says so; whatever else ails a component is its own trouble."""
    return Layer.SESSION if re.search(r"\bBGP\b", observed) else Layer.CONTROL


def _setting(item: Datapath) -> str:
    """How a node forwards, in words that can be compared."""
    parts = [item.routing, item.encapsulation]
    if item.port is not None:
        parts.append(f"port {item.port}")
    if item.vni is not None:
        parts.append(f"VNI {item.vni}")
    return " ".join(parts)


def _versions(plan: Plan, components: Components) -> tuple[list[Finding], list[str], list[Finding]]:
    """Versions that do not go together, those that merely differ, and clusters whose versions are unknown."""
    by_name: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    known = set()
    for item in components.components:
        if item.version:
            by_name[item.name.partition(" on ")[0]][item.version].add(item.region)
            known.add(item.region)
    apart: list[Finding] = []
    remarks: list[str] = []
    for name, where in sorted(by_name.items()):
        if len(where) < 2:
            continue
        text = listed(f"{version} in {listed(sorted(regions))}" for version, regions in sorted(where.items()))
        if _compatible(where):
            remarks.append(f"{name} runs in different versions: {text}")
        else:
            apart.append(
                Finding(
                    name,
                    f"versions at most {MOST_MINORS_APART} minor apart",
                    text,
                    "an upgrade was not carried through in all clusters",
                    Layer.CONTROL,
                )
            )
    return apart, remarks, unseen_regions(plan, known, "the versions of its components")


def _compatible(versions: Iterable[str]) -> bool:
    numbers = [tuple(map(int, found.groups())) for text in versions if (found := re.match(r"v?(\d+)\.(\d+)", text))]
    majors, minors = {number[0] for number in numbers}, [number[1] for number in numbers]
    return len(majors) <= 1 and (not minors or max(minors) - min(minors) <= MOST_MINORS_APART)


def _plugin(pod: Pod) -> str | None:
    """The network plug-in that a pod is the node agent of; None for all others."""
    if not pod.host_network:
        return None
    return next((plugin for name, plugin in PLUGIN_PODS.items() if pod.name.startswith(f"{name}-")), None)
