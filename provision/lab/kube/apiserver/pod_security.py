"""PodSecurity admission: namespaces say by a label how privileged their pods may be.

The checks are those of the Pod Security Standards that a Linux pod can break: "baseline" forbids the known ways out
of a container, "restricted" demands today's hardening on top, "privileged" (or no label) allows everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from provision.lab.kube.apiserver.defaults import containers

PodSpec: TypeAlias = Mapping[str, Any]

ENFORCE_LABEL = "pod-security.kubernetes.io/enforce"
_BASELINE_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)
_RESTRICTED_CAPABILITIES = frozenset({"NET_BIND_SERVICE"})
_RESTRICTED_VOLUMES = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
)
_SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
_ADD = "securityContext.capabilities.add"
_CONFINED = ("RuntimeDefault", "Localhost")


def violations(labels: Mapping[str, str], spec: PodSpec) -> str:
    """Why a namespace with these labels does not take such a pod, as Kubernetes words it; "" when it does."""
    level = labels.get(ENFORCE_LABEL, "privileged")
    if level not in ("baseline", "restricted"):
        return ""
    found = [*_baseline(spec), *(_restricted(spec) if level == "restricted" else _baseline_only(spec))]
    return f'violates PodSecurity "{level}:latest": {", ".join(found)}' if found else ""


def _contexts(spec: PodSpec) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Name, container and security context of each container."""
    for _, container in containers(spec):
        yield f'container "{container["name"]}"', container, container.get("securityContext") or {}


def _baseline(spec: PodSpec) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"host namespaces ({field}=true)"
    for sysctl in (spec.get("securityContext") or {}).get("sysctls") or ():
        if sysctl["name"] not in _SAFE_SYSCTLS:
            yield f"forbidden sysctls ({sysctl['name']})"
    for name, container, context in _contexts(spec):
        if context.get("privileged"):
            yield f"privileged ({name} must not set securityContext.privileged=true)"
        if any(port.get("hostPort") for port in container.get("ports") or ()):
            yield f"hostPort ({name} uses a hostPort)"


def _baseline_only(spec: PodSpec) -> Iterator[str]:
    """What "restricted" has a stricter form of, and then says in that form alone."""
    for volume in spec.get("volumes") or ():
        if "hostPath" in volume:
            yield f'hostPath volumes (volume "{volume["name"]}")'
    for name, _, context in _contexts(spec):
        forbidden = sorted(_added(context) - _BASELINE_CAPABILITIES)
        if forbidden:
            yield f"non-default capabilities ({name} must not include {_quoted(forbidden)} in {_ADD})"
        if (context.get("seccompProfile") or {}).get("type") == "Unconfined":
            yield f'seccompProfile ({name} must not set securityContext.seccompProfile.type to "Unconfined")'


def _restricted(spec: PodSpec) -> Iterator[str]:
    pod = spec.get("securityContext") or {}
    for volume in spec.get("volumes") or ():
        kinds = set(volume) - {"name"} - _RESTRICTED_VOLUMES
        if kinds:
            yield f'restricted volume types (volume "{volume["name"]}" uses restricted volume type {_quoted(kinds)})'
    for name, _, context in _contexts(spec):
        if context.get("allowPrivilegeEscalation") is not False:
            yield (
                f"allowPrivilegeEscalation != false ({name} must set securityContext.allowPrivilegeEscalation=false)"
            )
        dropped = (context.get("capabilities") or {}).get("drop") or ()
        if "ALL" not in dropped:
            yield f'unrestricted capabilities ({name} must set securityContext.capabilities.drop=["ALL"])'
        forbidden = sorted(_added(context) - _RESTRICTED_CAPABILITIES)
        if forbidden:
            yield f"unrestricted capabilities ({name} must not include {_quoted(forbidden)} in {_ADD})"
        if not context.get("runAsNonRoot", pod.get("runAsNonRoot")):
            yield f"runAsNonRoot != true (pod or {name} must set securityContext.runAsNonRoot=true)"
        if context.get("runAsUser", pod.get("runAsUser")) == 0:
            yield f"runAsUser=0 (pod or {name} must not set runAsUser=0)"
        profile = context.get("seccompProfile") or pod.get("seccompProfile") or {}
        if profile.get("type") not in _CONFINED:
            yield (
                f"seccompProfile (pod or {name} must set securityContext.seccompProfile.type to "
                '"RuntimeDefault" or "Localhost")'
            )


def _added(context: Mapping[str, Any]) -> set[str]:
    return set((context.get("capabilities") or {}).get("add") or ())


def _quoted(names: list[str] | set[str]) -> str:
    return ", ".join(f'"{name}"' for name in sorted(names))
