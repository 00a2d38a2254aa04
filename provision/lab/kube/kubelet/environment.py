"""The environment variables of a container, and the `$(NAME)` references in its command."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from provision.lab.kube.client import KubeObject
from provision.lab.kube.kubelet.source import ConfigurationError, ConfigurationSource, PodContext

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")


async def container_environment(
    context: PodContext, container: KubeObject, source: ConfigurationSource
) -> dict[str, str]:
    """The whole environment of a container's processes.

    Raises:
        ConfigurationError: a variable refers to something that is not there.
    """
    env = {"PATH": PATH, "HOME": "/root", "HOSTNAME": hostname(context.pod)}
    for origin in container.get("envFrom") or ():
        prefix = origin.get("prefix", "")
        for key, value in (await _all_of(context.namespace, origin, source)).items():
            env[prefix + key] = value.decode(errors="replace")
    for variable in container.get("env") or ():
        if "valueFrom" in variable:
            value_from = await _value_from(context, variable["valueFrom"], source)
            if value_from is not None:
                env[variable["name"]] = value_from
        else:
            env[variable["name"]] = expand(variable.get("value") or "", env)
    return env


def expand(text: str, env: Mapping[str, str]) -> str:
    """Puts values in the place of `$(NAME)`; an unknown name stays as it is, and `$$` is a dollar sign."""

    def value(match: re.Match[str]) -> str:
        if match.group() == "$$":
            return "$"
        return env.get(match.group(1), match.group())

    return _REFERENCE.sub(value, text)


def expanded(container: KubeObject, env: Mapping[str, str]) -> KubeObject:
    """The container with all references in its command and arguments replaced."""

    def words(key: str) -> Sequence[str]:
        return [expand(word, env) for word in container.get(key) or ()]

    return container | {"command": words("command"), "args": words("args")}


def hostname(pod: KubeObject) -> str:
    """The pod's host name: its own name unless the spec says otherwise, its node's on the host's network."""
    spec = pod["spec"]
    name: str = spec["nodeName"] if spec.get("hostNetwork") else spec.get("hostname") or pod["metadata"]["name"]
    return name


async def _all_of(namespace: str, origin: Mapping[str, Any], source: ConfigurationSource) -> dict[str, bytes]:
    if reference := origin.get("configMapRef"):
        return await source.config_map(namespace, reference["name"], optional=bool(reference.get("optional")))
    reference = origin["secretRef"]
    return await source.secret(namespace, reference["name"], optional=bool(reference.get("optional")))


async def _value_from(context: PodContext, origin: Mapping[str, Any], source: ConfigurationSource) -> str | None:
    if reference := origin.get("fieldRef"):
        return context.field(reference["fieldPath"])
    if reference := origin.get("resourceFieldRef"):
        return "0"  # the lab limits nothing
    kind = "configMapKeyRef" if "configMapKeyRef" in origin else "secretKeyRef"
    reference = origin[kind]
    optional = bool(reference.get("optional"))
    read = source.config_map if kind == "configMapKeyRef" else source.secret
    contents = await read(context.namespace, reference["name"], optional=optional)
    if reference["key"] in contents:
        return contents[reference["key"]].decode(errors="replace")
    if optional:
        return None
    raise ConfigurationError(f'{kind}: "{reference["name"]}" has no key "{reference["key"]}"')
