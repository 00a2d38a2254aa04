"""Who talks to the API of a lab's cluster, besides people's own clients.

Apart from what makes their tokens, whose cryptography takes 0.1 s to import: who only names them need not wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who talks to the API with a token: `user` and `groups` are what RBAC bindings name."""

    user: str
    groups: tuple[str, ...] = ()


def service_account(namespace: str, name: str) -> Identity:
    """The identity of a ServiceAccount, as Kubernetes spells it."""
    return Identity(
        f"system:serviceaccount:{namespace}:{name}",
        ("system:serviceaccounts", f"system:serviceaccounts:{namespace}"),
    )


ADMIN = Identity("admin", ("system:masters",))
VERIFIER = service_account("meshproof", "verifier")
NODE_AGENT = Identity("system:node-agent")
CONTROLLER_MANAGER = Identity("system:kube-controller-manager")
CALICO_NODE = service_account("calico-system", "calico-node")
CILIUM = service_account("kube-system", "cilium")
CILIUM_OPERATOR = service_account("kube-system", "cilium-operator")
KUBE_PROXY = Identity("system:kube-proxy")
CALICO_TYPHA = service_account("calico-system", "calico-typha")
TIGERA_OPERATOR = service_account("tigera-operator", "tigera-operator")
TIGERA_FEDERATION = service_account("kube-system", "tigera-federation-remote-cluster")
"""As whom the other clusters of a Calico mesh read a cluster."""
IDENTITIES = (
    ADMIN,
    VERIFIER,
    NODE_AGENT,
    CONTROLLER_MANAGER,
    CALICO_NODE,
    CILIUM,
    CILIUM_OPERATOR,
    KUBE_PROXY,
    CALICO_TYPHA,
    TIGERA_OPERATOR,
    TIGERA_FEDERATION,
)
