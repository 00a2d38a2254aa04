"""What the probes may do in a cluster: the whole list, and why each entry is there.

`docs/rbac.yaml` and the two files beside it grant exactly these rules and a test keeps them equal. Secrets are read in
the database's namespace alone. Only what disrupts writes outside the probe namespace, and dry runs of policies, which
need the same right. What only one of the two CNIs has is asked for only where it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from analysis.plan import Cni

CALICO_GROUPS = ("crd.projectcalico.org", "projectcalico.org")
"""Calico's objects are read in whichever of the two groups the cluster serves."""

CALICO_RESOURCES = (
    "bgpconfigurations",
    "bgppeers",
    "blockaffinities",
    "felixconfigurations",
    "ipamblocks",
    "ippools",
    "remoteclusterconfigurations",
)
CALICO_POLICY_RESOURCES = (
    "globalnetworkpolicies",
    "globalnetworksets",
    "hostendpoints",
    "networkpolicies",
    "networksets",
    "stagedglobalnetworkpolicies",
    "stagednetworkpolicies",
    "tiers",
)
CALICO_NAMESPACES = ("calico-system", "kube-system")
"""Where calico-node runs: the operator's place first, the plain manifest's second."""

CALICO_WORKLOADS = (
    ("daemonsets", "calico-node"),
    ("deployments", "calico-typha"),
    ("deployments", "calico-kube-controllers"),
)
OPERATOR_GROUP = "operator.tigera.io"
RBAC_GROUP = "rbac.authorization.k8s.io"

CILIUM_GROUP = "cilium.io"
CILIUM_RESOURCES = ("ciliumendpoints", "ciliumnodes")
CILIUM_POLICY_RESOURCES = ("ciliumcidrgroups", "ciliumclusterwidenetworkpolicies", "ciliumnetworkpolicies")
CILIUM_NAMESPACE = "kube-system"
CILIUM_CONFIG = "cilium-config"
CILIUM_DAEMON_SET = "cilium"
CILIUM_DEPLOYMENTS = ("cilium-operator", "clustermesh-apiserver")

CONTROL_PLANES = {Cni.CALICO_BGP: "calico-typha", Cni.CILIUM_CLUSTERMESH: "clustermesh-apiserver"}
"""The Deployment by which a cluster's control plane has its part in the mesh."""

NETWORKING_GROUP = "networking.k8s.io"
POLICIES = {
    Cni.CALICO_BGP: ("globalnetworkpolicies", "globalnetworksets", "networkpolicies"),
    Cni.CILIUM_CLUSTERMESH: ("ciliumclusterwidenetworkpolicies", "ciliumnetworkpolicies"),
}
"""The kinds of the CNI that are offered to the API once more as a dry run, and taken away for a moment."""

DNS_NAMESPACE = "kube-system"
COREDNS_CONFIG = "coredns"
COREDNS_CUSTOM = "coredns-custom"
COREDNS_DEPLOYMENT = "coredns"


@dataclass(frozen=True)
class Rule:
    """One thing the probes must be allowed to do.

    Attributes:
        verb: the API verb.
        group: the API group, "" for core.
        resource: the plural, with its subresource ("pods/exec").
        namespace: where it is needed; None for the whole cluster.
        purpose: what cannot be done without it, for the error message.
        name: the only object that it is needed for; None for all.
    """

    verb: str
    group: str
    resource: str
    namespace: str | None
    purpose: str
    name: str | None = None

    def __str__(self) -> str:
        """The rule as `kubectl auth can-i` would be asked."""
        kind = f"{self.resource}.{self.group}" if self.group else self.resource
        what = f"{kind}/{self.name}" if self.name else kind
        where = f"in namespace {self.namespace}" if self.namespace else "in the whole cluster"
        return f"{self.verb} {what} {where}"


def cluster_rules(cni: Cni) -> tuple[Rule, ...]:
    """What is read in the whole cluster."""
    inventory = tuple(
        Rule("list", "", resource, None, "for the inventory of nodes, pods and services")
        for resource in ("nodes", "pods", "services")
    )
    namespaces = (Rule("get", "", "namespaces", None, "to see whether the probe namespace exists"),)
    review = (
        Rule("create", "authorization.k8s.io", "selfsubjectaccessreviews", None, "to find missing rights at the start"),
    )
    return inventory + namespaces + _OBJECTS[cni] + review


_OBJECTS = {
    Cni.CALICO_BGP: (
        *(
            Rule("list", group, resource, None, "for Calico's pools, blocks and peerings")
            for group in CALICO_GROUPS
            for resource in CALICO_RESOURCES
        ),
        Rule("list", OPERATOR_GROUP, "tigerastatuses", None, "for the operator's word on Calico's health"),
        Rule(
            "create", "authorization.k8s.io", "subjectaccessreviews", None, "to ask what other clusters' account may do"
        ),
    ),
    Cni.CILIUM_CLUSTERMESH: tuple(
        Rule("list", CILIUM_GROUP, resource, None, "for the nodes' blocks, and the addresses in use of them")
        for resource in CILIUM_RESOURCES
    ),
}


def dns_rules() -> tuple[Rule, ...]:
    """What is read of the cluster's DNS."""
    purpose = "to see where DNS sends questions about other clusters"
    return (
        *(Rule("get", "", "configmaps", DNS_NAMESPACE, purpose, name) for name in (COREDNS_CONFIG, COREDNS_CUSTOM)),
        Rule("get", "", "pods/log", DNS_NAMESPACE, "to read whether DNS servers refused their configuration"),
    )


def dns_disruption_rules() -> tuple[Rule, ...]:
    """What `--allow-disruption` needs besides, of the cluster's DNS."""
    purpose = "to take a cluster's DNS away for a moment (--allow-disruption)"
    return (
        Rule("delete", "", "pods", DNS_NAMESPACE, "to restart a DNS server (--allow-disruption)"),
        *(
            Rule(verb, "apps", "deployments/scale", DNS_NAMESPACE, purpose, COREDNS_DEPLOYMENT)
            for verb in ("get", "update")
        ),
    )


def database_rules(namespace: str) -> tuple[Rule, ...]:
    """What is asked in database pods.

    Args:
        namespace: where they run.
    """
    return _exec_rules(namespace, "to see by which names database pods know themselves and each other")


def workload_rules(namespace: str) -> tuple[Rule, ...]:
    """What is read of the objects that the database consists of, in its namespace.

    Args:
        namespace: where its pods run.
    """
    return (
        Rule("list", "apps", "statefulsets", namespace, "to see what the database's pods run, and whether all do"),
        Rule("list", "", "persistentvolumeclaims", namespace, "to see whether the database's volumes are bound"),
        Rule("list", "policy", "poddisruptionbudgets", namespace, "to see how many database pods may go at a time"),
        Rule("list", RBAC_GROUP, "rolebindings", namespace, "to see whether they name the namespace in use"),
    )


def workload_cluster_rules() -> tuple[Rule, ...]:
    """What is read for the database in the whole cluster."""
    return (
        Rule("list", "storage.k8s.io", "storageclasses", None, "to see where volumes come from by default"),
        Rule("list", RBAC_GROUP, "clusterrolebindings", None, "to see those that name the database's account"),
    )


def certificate_rules(namespace: str) -> tuple[Rule, ...]:
    """What is read to judge certificates and keys. Who may list Secrets sees all that is in them: no lesser right does.

    Args:
        namespace: where the database's pods run.
    """
    purpose = "to read the database's certificates, and to search its namespace for the authority's key"
    return (Rule("list", "", "secrets", namespace, purpose),)


def database_disruption_rules(namespace: str) -> tuple[Rule, ...]:
    """What `--allow-disruption` needs besides, of the database."""
    scale = "to take a region's database pods away and bring them back (--allow-disruption)"
    return (
        Rule("delete", "", "pods", namespace, "to recreate a database pod (--allow-disruption)"),
        Rule("watch", "", "pods", namespace, "to see when and how a database pod ends (--allow-disruption)"),
        Rule("get", "", "pods/log", namespace, "to keep what one said that does not come back (--allow-disruption)"),
        *(Rule(verb, "apps", "statefulsets/scale", namespace, scale) for verb in ("get", "update")),
    )


def policy_rules(cni: Cni, namespace: str) -> tuple[Rule, ...]:
    """What is read of network policy, in the whole cluster, and done where pods that wear the roles' labels are.

    Args:
        cni: whose kinds of policy.
        namespace: of those pods.
    """
    purpose = "to read network policy"
    calico = cni is Cni.CALICO_BGP
    own = product(
        CALICO_GROUPS if calico else (CILIUM_GROUP,), CALICO_POLICY_RESOURCES if calico else CILIUM_POLICY_RESOURCES
    )
    return (
        Rule("list", NETWORKING_GROUP, "networkpolicies", None, purpose),
        *(Rule("list", group, resource, None, purpose) for group, resource in own),
        *(
            Rule("list", "", resource, None, "to see which labels policy gets from namespaces and accounts")
            for resource in ("namespaces", "serviceaccounts")
        ),
        Rule("patch", "", "pods", namespace, "to give a probe pod the labels of the database while it runs"),
    )


def policy_entrance_rules(namespace: str) -> tuple[Rule, ...]:
    """What it takes to go around policy by node ports. Without it that is not tried.

    Args:
        namespace: of the pods that they lead to; with them, the cluster removes the Services.
    """
    return (
        Rule("create", "", "services", namespace, "to try node ports that lead to pods with the database's labels"),
    )


def policy_admission_rules(cni: Cni) -> tuple[Rule, ...]:
    """What a dry run needs, which is what a real change needs. Without it, that part is not judged."""
    return _on_policies(cni, ("update",), "to offer policies to the API once more, as dry runs")


def policy_disruption_rules(cni: Cni) -> tuple[Rule, ...]:
    """What `--allow-disruption` needs besides, of network policy."""
    return _on_policies(cni, ("create", "delete"), "to take policies away for a moment (--allow-disruption)")


def _on_policies(cni: Cni, verbs: tuple[str, ...], purpose: str) -> tuple[Rule, ...]:
    groups = CALICO_GROUPS if cni is Cni.CALICO_BGP else (CILIUM_GROUP,)
    kinds = [(NETWORKING_GROUP, "networkpolicies"), *((group, kind) for group in groups for kind in POLICIES[cni])]
    return tuple(Rule(verb, group, kind, None, purpose) for group, kind in kinds for verb in verbs)


def probe_rules(namespace: str) -> tuple[Rule, ...]:
    """What is done in the probe namespace: probe pods come, run the agent and go. To list them is a right already."""
    pods = tuple(
        Rule(verb, "", "pods", namespace, "to start, watch and remove probe pods")
        for verb in ("create", "delete", "get", "watch")
    )
    return pods + _exec_rules(namespace, "to run the agent in a probe pod")


def agent_rules(cni: Cni, namespace: str) -> tuple[Rule, ...]:
    """What is done where the CNI's agents run.

    Args:
        cni: which agents.
        namespace: where they run.
    """
    if cni is Cni.CALICO_BGP:
        return (
            *_exec_rules(namespace, "to read BGP sessions, routes and address sets in calico-node"),
            *(
                Rule("get", "apps", kind, namespace, "to see whether Calico is complete", name)
                for kind, name in CALICO_WORKLOADS
            ),
            Rule("get", "", "pods/log", namespace, "to read what Typha says of remote clusters"),
        )
    workloads = (("daemonsets", CILIUM_DAEMON_SET), *(("deployments", name) for name in CILIUM_DEPLOYMENTS))
    return (
        Rule("get", "", "configmaps", namespace, "to read Cilium's settings", CILIUM_CONFIG),
        *(Rule("get", "apps", kind, namespace, "to see whether Cilium is complete", name) for kind, name in workloads),
        *_exec_rules(namespace, "to ask the agents in the cilium pods, and the stores of other clusters from there"),
    )


def disruption_rules(cni: Cni, namespace: str) -> tuple[Rule, ...]:
    """What `--allow-disruption` needs besides, where the CNI's agents run."""
    purpose = "to take the mesh's control plane away for a moment (--allow-disruption)"
    return (
        Rule("delete", "", "pods", namespace, "to restart the routing agent of a node (--allow-disruption)"),
        *(
            Rule(verb, "apps", "deployments/scale", namespace, purpose, CONTROL_PLANES[cni])
            for verb in ("get", "update")
        ),
    )


def _exec_rules(namespace: str, purpose: str) -> tuple[Rule, ...]:
    # Servers before 1.35 check "get" for a WebSocket exec, later ones check "create".
    return tuple(Rule(verb, "", "pods/exec", namespace, purpose) for verb in ("get", "create"))
