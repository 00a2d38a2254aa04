"""Cluster DNS: what dnsmasq, which stands in for CoreDNS in the lab's coredns pods, is told.

Records come from Services and EndpointSlices, forwards from the server blocks of the Corefile. Both are files in the
nodes' host trees, which the coredns pods mount; dnsmasq notices by itself when the records change.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from provision.lab.agents_config import host_tree
from provision.lab.kube.client import KubeObject, Reflector, synced

DOMAIN = "cluster.local"
FOLDER = "var/run/coredns"
SETTLE_S = 0.05
_INSIDE = f"/{FOLDER}"
_SERVER_BLOCK = re.compile(r"^(?P<zone>[\w.-]+):53 \{(?P<body>.*?)^\}", re.MULTILINE | re.DOTALL)
_FORWARD = re.compile(r"^\s*forward \. (?P<upstreams>[\d.: ]+)$", re.MULTILINE)


def forwards(corefile: str) -> Iterator[tuple[str, str]]:
    """Zone and upstream (address, or address:port) of every `forward` in a server block that is not the root's."""
    for block in _SERVER_BLOCK.finditer(corefile):
        for forward in _FORWARD.finditer(block["body"]):
            for upstream in forward["upstreams"].split():
                yield block["zone"], upstream


def configuration(corefile: str) -> str:
    """The text of dnsmasq.conf."""
    lines = [
        "no-resolv",
        "no-hosts",
        "interface=eth0",
        "except-interface=lo",
        "bind-interfaces",
        "user=root",
        "group=root",
        "pid-file=",
        "log-facility=-",
        "max-cache-ttl=10",
        "local-ttl=30",
        f"local=/{DOMAIN}/",
        f"hostsdir={_INSIDE}/records",
        *(f"server=/{zone}/{upstream.replace(':', '#')}" for zone, upstream in forwards(corefile)),
    ]
    return "\n".join(lines) + "\n"


def records(services: Iterable[KubeObject], slices: Iterable[KubeObject]) -> str:
    """The records in the form of a hosts file: ClusterIPs, and endpoints by names of their own, as CoreDNS has them."""
    lines = []
    headless = set()
    for service in services:
        meta, address = service["metadata"], service["spec"].get("clusterIP")
        name = f"{meta['name']}.{meta['namespace']}.svc.{DOMAIN}"
        if address == "None":
            headless.add((meta["namespace"], meta["name"]))
        elif address:
            lines.append(f"{address} {name}")
    for endpoint_slice in slices:
        meta = endpoint_slice["metadata"]
        service_name = (meta.get("labels") or {}).get("kubernetes.io/service-name", "")
        name = f"{service_name}.{meta['namespace']}.svc.{DOMAIN}"
        # The name of the Service itself leads to its endpoints only where it has no address of its own.
        names = [name] if (meta["namespace"], service_name) in headless else []
        for endpoint in endpoint_slice.get("endpoints") or ():
            if not (endpoint.get("conditions") or {}).get("ready", True):
                continue
            for address in endpoint["addresses"]:
                host = endpoint.get("hostname") or address.replace(".", "-")
                lines.append(" ".join([address, *names, f"{host}.{name}"]))
    return "".join(f"{line}\n" for line in sorted(lines))


class ClusterDns:
    """Keeps the files of one cluster's DNS pods current.

    Args:
        services: reflector of Services.
        slices: reflector of EndpointSlices.
        config_maps: reflector of the ConfigMaps of kube-system, or of `coredns` there alone.
        nodes: the nodes that the pods may run on.
    """

    def __init__(self, services: Reflector, slices: Reflector, config_maps: Reflector, nodes: Iterable[str]) -> None:
        self._services = services
        self._slices = slices
        self._config_maps = config_maps
        self._folders = [host_tree(node) / FOLDER for node in nodes]

    async def run(self) -> None:
        """Run until cancelled. The reflectors are run by others."""
        reflectors = (self._services, self._slices, self._config_maps)
        changed = asyncio.Event()
        for reflector in reflectors:
            reflector.add_handler(lambda _change: changed.set())
        await synced(*reflectors)
        changed.set()
        while True:
            await changed.wait()
            await asyncio.sleep(SETTLE_S)
            changed.clear()
            text = records(self._services, self._slices)
            corefile = (self._config_maps.get("coredns", "kube-system") or {}).get("data", {}).get("Corefile", "")
            for folder in self._folders:
                # The records before the configuration: dnsmasq starts when it sees the latter.
                _write(folder / "records" / "cluster", text)
                _write(folder / "dnsmasq.conf", configuration(corefile))


def _write(path: Path, text: str) -> None:
    """Replace a file in one step, if it says something else. dnsmasq skips files whose names begin with a dot."""
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(text)
    fresh.rename(path)
