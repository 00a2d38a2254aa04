"""Keeps the DNS servers of one cluster as its objects and its Corefile say, in the place of CoreDNS' own plugins.

CoreDNS looks at its Corefile every half minute, and kubelets take up to a minute to bring it there; here a change
counts within a second.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Iterable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

from provision.lab.agents_config import host_tree
from provision.lab.dns import server
from provision.lab.dns.records import zone_file
from provision.lab.dns.translation import PIECE, CorefileError, Translation, translate
from provision.lab.kube.client import Reflector, synced

log = logging.getLogger(__name__)

NAMESPACE = "kube-system"
SETTLE_S = 0.05
LOOK_EVERY_S = 0.05
START_WITHIN_S = 5.0
"""A server that does not listen to its socket by then is not there any more."""

_ORDER_RELOAD, _ORDER_RESTART = "reload-zones", "quit"
_CUSTOM = "coredns-custom"


class ClusterDns:
    """The DNS pods of one cluster, as far as they get their orders from it.

    Args:
        services: reflector of Services.
        slices: reflector of EndpointSlices.
        config_maps: reflector of the ConfigMaps of kube-system.
        nodes: the nodes that the pods may run on.
        address: the ClusterIP of the cluster's DNS.
    """

    def __init__(
        self,
        services: Reflector,
        slices: Reflector,
        config_maps: Reflector,
        nodes: Iterable[str],
        address: IPv4Address,
    ) -> None:
        self._services = services
        self._slices = slices
        self._config_maps = config_maps
        self._address = address
        self._nodes = [_NodeDns(host_tree(node)) for node in nodes]

    async def run(self) -> None:
        """Run until cancelled. The reflectors are run by others."""
        async with asyncio.TaskGroup() as orders:
            async for _ in _changes(self._services, self._slices, self._config_maps):
                for order, folder in self._update():
                    orders.create_task(_give(order, folder))

    def _update(self) -> Iterator[tuple[str, Path]]:
        """Bring all files up to date; what to tell which servers."""
        pieces = _pieces(self._config_maps)
        zones: dict[tuple[str, int], str] = {}
        for node in self._nodes:
            restart = bool(pieces) and node.configure(pieces, self._address)
            reload = False
            for zone, ttl in (node.running or Translation()).local.items():
                if (zone, ttl) not in zones:
                    zones[zone, ttl] = zone_file(zone, ttl, self._address, self._services, self._slices)
                reload |= _write(node.folder / server.ZONES / zone, zones[zone, ttl])
            # The arguments last: servers start when they see them.
            if node.running:
                for name, text in server.files(node.running).items():
                    _write(node.folder / name, text)
            if restart or reload:
                order = _ORDER_RESTART if restart else _ORDER_RELOAD
                yield from ((order, folder) for folder in server.servers(node.folder))


class CorefileDelivery:
    """Brings CoreDNS itself its configuration, as kubelets do within a minute; it finds out all the rest alone.

    Args:
        config_maps: reflector of the ConfigMaps of kube-system.
        nodes: the nodes that its pods may run on.
    """

    def __init__(self, config_maps: Reflector, nodes: Iterable[str]) -> None:
        self._config_maps = config_maps
        self._folders = [host_tree(node) / server.FOLDER for node in nodes]

    async def run(self) -> None:
        """Run until cancelled. The reflector is run by others."""
        async for _ in _changes(self._config_maps):
            # What is imported before what imports it.
            for name, text in reversed(_pieces(self._config_maps)):
                config_map, _, key = name.partition("/")
                for folder in self._folders:
                    _write(folder / server.CUSTOM / key if config_map == _CUSTOM else folder / key, text)


class _NodeDns:
    """What the DNS servers of one node run with.

    Attributes:
        running: the last configuration that was not refused.
    """

    def __init__(self, tree: Path) -> None:
        self.folder = tree / server.FOLDER
        self.running: Translation | None = None
        self._resolver = tree / "etc/resolv.conf"
        self._seen: tuple[tuple[str, str], ...] = ()

    def configure(self, pieces: tuple[tuple[str, str], ...], address: IPv4Address) -> bool:
        """Take over a configuration, or say in the servers' log why not; whether they have to start anew."""
        if pieces == self._seen:
            return False
        first, self._seen = not self._seen, pieces
        refusal = self.folder / server.REFUSAL
        resolver = self._resolver.read_text() if self._resolver.exists() else ""
        try:
            translation = translate(pieces, resolver, (address,))
        except CorefileError as error:
            _write(refusal, f"{error}\n")
            if error.at_run_time:
                return not first
            if not first:
                self._say(
                    "[INFO] Reloading",
                    f"[ERROR] Restart failed: {error}",
                    f"[ERROR] plugin/reload: Corefile changed but reload failed: {error}",
                )
            return False
        refusal.unlink(missing_ok=True)
        before, self.running = self.running, translation
        if not first:
            self._say("[INFO] Reloading", "[INFO] Reloading complete")
        return before is not None and before != translation

    def _say(self, *lines: str) -> None:
        """Every DNS pod of the node shows these lines in its log."""
        with (self.folder / server.LOG).open("a") as file:
            file.writelines(f"{line}\n" for line in lines)


async def _changes(*reflectors: Reflector) -> AsyncIterator[None]:
    """Once when all is known, and again after each change; changes that come close together count as one."""
    changed = asyncio.Event()
    for reflector in reflectors:
        reflector.add_handler(lambda _change: changed.set())
    await synced(*reflectors)
    changed.set()
    while True:
        await changed.wait()
        await asyncio.sleep(SETTLE_S)
        changed.clear()
        yield


def _pieces(config_maps: Reflector) -> tuple[tuple[str, str], ...]:
    """The Corefile and what it may import; nothing when there is none, which changes nothing for those who run."""
    corefile = (config_maps.get("coredns", NAMESPACE) or {}).get("data") or {}
    custom = (config_maps.get(_CUSTOM, NAMESPACE) or {}).get("data") or {}
    if server.COREFILE not in corefile:
        return ()
    return (PIECE, corefile[server.COREFILE]), *((f"{_CUSTOM}/{key}", text) for key, text in sorted(custom.items()))


async def _give(order: str, folder: Path) -> None:
    """Tell a server; one that is only just starting is given the time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + START_WITHIN_S
    said = b""
    while folder.exists() and loop.time() < deadline:
        try:
            if order == _ORDER_RESTART:
                (folder / server.AGAIN).touch()
            process = await asyncio.create_subprocess_exec(
                *server.control(order), cwd=folder, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
            )
        except FileNotFoundError:  # the folder has just gone, with its server
            return
        said, complaint = await process.communicate()
        if process.returncode == 0:
            return
        said = complaint or said
        await asyncio.sleep(LOOK_EVERY_S)
    if folder.exists():
        log.warning("DNS server %s does not take %r: %s", folder.name, order, said.decode().strip())
        shutil.rmtree(folder, ignore_errors=True)


def _write(path: Path, text: str) -> bool:
    """Replace a file in one step, if it says something else; whether it did."""
    if path.exists() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(text)
    fresh.rename(path)
    return True
