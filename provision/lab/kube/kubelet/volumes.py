"""A pod's volumes as folders on the lab's disk, and where each container sees them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from provision.lab.kube.client import KubeObject
from provision.lab.kube.kubelet.environment import expand, hostname
from provision.lab.kube.kubelet.process import identity_is_mapped
from provision.lab.kube.kubelet.rootfs import Mount
from provision.lab.kube.kubelet.source import ConfigurationError, ConfigurationSource, PodContext

_GROUP_MAP = Path("/proc/self/gid_map")
_GROUP_READS = 0o440


@dataclass(frozen=True)
class Dns:
    """What the cluster's resolver is: its address, and the domain of its services."""

    address: str
    domain: str = "cluster.local"


class Volumes:
    """Prepares a pod's volumes.

    Args:
        folder: the pod's own folder.
        host_tree: the folder that plays the node's file system for hostPath volumes.
        source: where ConfigMaps and Secrets come from.
    """

    def __init__(self, folder: Path, host_tree: Path, source: ConfigurationSource) -> None:
        self._folder = folder
        self._host_tree = host_tree
        self._source = source
        self._paths: dict[str, Path] = {}

    async def prepare(self, context: PodContext) -> None:
        """Makes every volume of the pod.

        Raises:
            ConfigurationError: a volume refers to something that is not there, or is of a kind the lab has not.
        """
        for volume in context.pod["spec"].get("volumes") or ():
            self._paths[volume["name"]] = await self._prepare(context, volume)

    async def _prepare(self, context: PodContext, volume: Mapping[str, Any]) -> Path:
        own = self._folder / "volumes" / str(volume["name"])
        if "hostPath" in volume:
            return self._host_path(volume["hostPath"])
        if "persistentVolumeClaim" in volume:
            claim = str(volume["persistentVolumeClaim"]["claimName"])
            path = await self._source.volume(context.namespace, claim)
            return _shared_folder(self._host_tree / path.lstrip("/"))
        if "emptyDir" in volume:
            return _shared_folder(own)
        own.mkdir(parents=True, exist_ok=True)
        if "projected" in volume:
            projected = volume["projected"]
            for part in projected.get("sources") or ():
                (kind,) = part
                await self._write(context, own, kind, {"defaultMode": projected.get("defaultMode"), **part[kind]})
            return _given_to_group(own, context)
        for kind in ("configMap", "secret", "downwardAPI"):
            if kind in volume:
                await self._write(context, own, kind, volume[kind])
                return _given_to_group(own, context)
        kinds = ", ".join(key for key in volume if key != "name")
        raise ConfigurationError(f'volume "{volume["name"]}": the lab has no volumes of kind {kinds or "(none given)"}')

    def _host_path(self, spec: Mapping[str, Any]) -> Path:
        path = self._host_tree / str(spec["path"]).lstrip("/")
        kind = spec.get("type") or ""
        if kind == "FileOrCreate":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        elif kind in ("", "DirectoryOrCreate"):
            if not path.exists():
                path.mkdir(parents=True)
        elif not path.exists():
            raise ConfigurationError(f'hostPath "{spec["path"]}" of type {kind} is not on the node')
        return path

    async def _write(self, context: PodContext, folder: Path, kind: str, spec: Mapping[str, Any]) -> None:
        mode = spec.get("defaultMode") or 0o644
        if kind == "downwardAPI":
            for item in spec.get("items") or ():
                value = context.field(item["fieldRef"]["fieldPath"]) if "fieldRef" in item else "0"
                _write_file(folder / item["path"], value.encode(), item.get("mode") or mode)
            return
        if kind == "serviceAccountToken":
            account = context.pod["spec"].get("serviceAccountName") or "default"
            token = await self._source.token(context.namespace, account, spec)
            _write_file(folder / spec["path"], token, 0o644)
            return
        optional = bool(spec.get("optional"))
        if kind == "configMap":
            contents = await self._source.config_map(context.namespace, spec["name"], optional=optional)
        else:
            name = spec.get("secretName") or spec["name"]
            contents = await self._source.secret(context.namespace, name, optional=optional)
        items = spec.get("items") or [{"key": key, "path": key} for key in contents]
        for item in items:
            if item["key"] in contents:
                _write_file(folder / item["path"], contents[item["key"]], item.get("mode") or mode)
            elif not optional:
                raise ConfigurationError(
                    f'{kind} "{spec.get("name") or spec.get("secretName")}" has no "{item["key"]}"'
                )

    def mounts(self, container: KubeObject, env: Mapping[str, str]) -> tuple[Mount, ...]:
        """What a container sees of the volumes, outer paths first.

        Raises:
            ConfigurationError: the container mounts a volume that the pod has not.
        """
        found = [self._mount(row, env) for row in container.get("volumeMounts") or ()]
        return tuple(sorted(found, key=lambda mount: len(mount.target.parts)))

    def _mount(self, row: Mapping[str, Any], env: Mapping[str, str]) -> Mount:
        if row["name"] not in self._paths:
            raise ConfigurationError(f'volumeMounts: the pod has no volume "{row["name"]}"')
        source = self._paths[row["name"]]
        inner = row.get("subPath") or expand(row.get("subPathExpr") or "", env)
        if inner:
            source = source / inner
            if not source.exists():
                _shared_folder(source)
        return Mount(source, PurePosixPath(row["mountPath"]), bool(row.get("readOnly")))


def write_identity_files(folder: Path, context: PodContext, dns: Dns, node_resolver: Path) -> tuple[Mount, ...]:
    """Writes /etc/hosts, /etc/hostname and /etc/resolv.conf of a pod, and says where they belong."""
    files = {
        "hosts": hosts_file(context, dns),
        "hostname": hostname(context.pod) + "\n",
        "resolv.conf": resolver_file(context, dns, node_resolver.read_text() if node_resolver.exists() else ""),
    }
    home = folder / "etc"
    home.mkdir(exist_ok=True)
    for name, text in files.items():
        (home / name).write_text(text)
    return tuple(Mount(home / name, PurePosixPath("/etc", name)) for name in files)


def hosts_file(context: PodContext, dns: Dns) -> str:
    """/etc/hosts of a pod: itself, with its stable name where it has one, and the aliases of its spec."""
    spec = context.pod["spec"]
    names = [hostname(context.pod)]
    if spec.get("subdomain"):
        names.insert(0, f"{names[0]}.{spec['subdomain']}.{context.namespace}.svc.{dns.domain}")
    rows = ["127.0.0.1\tlocalhost", f"{context.address}\t{' '.join(names)}"]
    rows += [f"{alias['ip']}\t{' '.join(alias.get('hostnames') or ())}" for alias in spec.get("hostAliases") or ()]
    return "\n".join(rows) + "\n"


def resolver_file(context: PodContext, dns: Dns, node: str) -> str:
    """/etc/resolv.conf of a pod, by its dnsPolicy and dnsConfig; `node` is its node's own."""
    spec = context.pod["spec"]
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    config = spec.get("dnsConfig") or {}
    if policy == "ClusterFirst" and spec.get("hostNetwork"):
        policy = "Default"
    if policy == "Default" and not config:
        return node
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    if policy.startswith("ClusterFirst"):
        servers = [dns.address]
        searches = [f"{context.namespace}.svc.{dns.domain}", f"svc.{dns.domain}", dns.domain]
        options = ["ndots:5"]
    servers += config.get("nameservers") or []
    searches += config.get("searches") or []
    for option in config.get("options") or ():
        name = option["name"]
        options = [known for known in options if known.split(":")[0] != name]
        options.append(f"{name}:{option['value']}" if option.get("value") else name)
    rows = [f"nameserver {server}" for server in servers]
    rows += [f"search {' '.join(searches)}"] if searches else []
    rows += [f"options {' '.join(options)}"] if options else []
    return "\n".join(rows) + "\n"


def _shared_folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o777)
    return path


def _given_to_group(folder: Path, context: PodContext) -> Path:
    """The folder, with files that the pod's fsGroup may read too, as a kubelet leaves them.

    Where the lab has but one user and one group, the pod's processes are their owner whatever they call themselves.
    """
    group = (context.pod["spec"].get("securityContext") or {}).get("fsGroup")
    if group is not None and identity_is_mapped(group, _GROUP_MAP):
        for file in filter(Path.is_file, folder.rglob("*")):
            os.chown(file, -1, group)
            file.chmod(file.stat().st_mode | _GROUP_READS)
    return folder


def _write_file(path: Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
