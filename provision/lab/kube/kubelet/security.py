"""From a pod's and a container's securityContext to what the process may do."""

from __future__ import annotations

from typing import Any

from provision.lab.kube.client import KubeObject
from provision.lab.kube.kubelet.kernel import CAPABILITIES
from provision.lab.kube.kubelet.process import Credentials

DEFAULT_CAPABILITIES = frozenset(
    {
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SYS_CHROOT",
        "MKNOD",
        "AUDIT_WRITE",
        "SETFCAP",
    }
)
"""What a container runtime leaves to a container that asks for nothing."""


class SecurityContextError(ValueError):
    """The container must not be started as its securityContext and its image stand."""


def credentials(pod: KubeObject, container: KubeObject) -> Credentials:
    """Who the container's processes are; the container's own fields win over the pod's.

    Raises:
        SecurityContextError: runAsNonRoot without a user: the images of the lab run as root unless told otherwise.
    """
    context = _context(pod, container)
    uid = context.get("runAsUser")
    if context.get("runAsNonRoot") and not uid:
        raise SecurityContextError(
            f'container "{container["name"]}" has runAsNonRoot and would run as root: set runAsUser, '
            "as no image of the lab names a user"
        )
    if is_privileged(container):
        return Credentials(uid, context.get("runAsGroup"))
    return Credentials(
        uid=uid,
        gid=context.get("runAsGroup"),
        groups=_groups(context),
        capabilities=_capabilities(context.get("capabilities") or {}),
        may_gain=context.get("allowPrivilegeEscalation") is not False,
    )


def is_privileged(container: KubeObject) -> bool:
    """Whether the container asks for everything that root may."""
    return bool((container.get("securityContext") or {}).get("privileged"))


def read_only_root(container: KubeObject) -> bool:
    """Whether the container must not write anywhere but to its volumes."""
    return bool((container.get("securityContext") or {}).get("readOnlyRootFilesystem"))


def _context(pod: KubeObject, container: KubeObject) -> dict[str, Any]:
    return {**(pod["spec"].get("securityContext") or {}), **(container.get("securityContext") or {})}


def _groups(context: dict[str, Any]) -> tuple[int, ...]:
    """The groups besides the first: those asked for, and the one that the pod's volumes are shared with."""
    volumes = context.get("fsGroup")
    return (*(context.get("supplementalGroups") or ()), *(() if volumes is None else (volumes,)))


def _capabilities(wanted: dict[str, Any]) -> frozenset[str]:
    kept = set() if "ALL" in _names(wanted, "drop") else set(DEFAULT_CAPABILITIES) - _names(wanted, "drop")
    added = _names(wanted, "add")
    return frozenset(kept | (set(CAPABILITIES) if "ALL" in added else added))


def _names(wanted: dict[str, Any], key: str) -> set[str]:
    return {str(name).upper().removeprefix("CAP_") for name in wanted.get(key) or ()}
