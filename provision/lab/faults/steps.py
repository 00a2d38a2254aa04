"""What the lab's faults are made of, beyond the general steps: packet filters, and looks at kernel and API."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address
from typing import Any

from provision.faults import PLANTED_TABLE, Confirm, Control, FaultError, Filter
from provision.lab.topology import LabNode, LabRegion


def place(node: LabNode) -> str:
    """A node as `Control.run` names it."""
    return f"{node.region}/{node.alias}"


def kernel_routes(control: Control, where: str, prefix: str | None = None) -> list[dict[str, Any]]:
    """The main table of a node, or the routes of exactly one prefix of it, as `ip -j route` tells them."""
    argv = ["ip", "-j", "-d", "route", "show", "table", "main"] + (["exact", prefix] if prefix else [])
    found: list[dict[str, Any]] = json.loads(control.run(where, argv).out or "[]")
    return found


def route_is_gone(node: LabNode, prefix: object) -> Confirm:
    """The node's kernel has no usable route of that prefix."""
    return lambda control: all(
        route.get("type", "unicast") != "unicast" for route in kernel_routes(control, place(node), str(prefix))
    )


def route_is_there(node: LabNode, prefix: object) -> Confirm:
    """The node's kernel has a route of that prefix, of whatever kind."""
    return lambda control: bool(kernel_routes(control, place(node), str(prefix)))


def object_says(region: str, path: str, keys: Sequence[str], value: object) -> Confirm:
    """The API shows that value in the object, at the end of that chain of keys."""

    def confirm(control: Control) -> bool:
        found: Any = control.get(region, path)
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return bool(found == value)

    return confirm


def object_is_there(region: str, path: str) -> Confirm:
    """The API has the object."""
    return lambda control: control.get(region, path) is not None


def object_is_gone(region: str, path: str) -> Confirm:
    """The API has no such object."""
    return lambda control: control.get(region, path) is None


def table_is_loaded(where: str) -> Confirm:
    """The planted packet filter is in the kernel."""
    return lambda control: control.run(where, ["nft", "list", "table", *PLANTED_TABLE], check=False).code == 0


def command_succeeds(where: str, argv: Sequence[str], *, succeeds: bool = True) -> Confirm:
    """That command at that place ends with 0, or does not."""
    return lambda control: (control.run(where, argv, check=False).code == 0) is succeeds


def dropped(node: LabNode, match: str) -> Filter:
    """The node drops what it forwards and that matches."""
    return Filter(place(node), _drops(match))


def dropped_in(region: LabRegion, match: str) -> tuple[Filter, ...]:
    """All nodes of the region do."""
    return filtered_in(region, _drops(match))


def _drops(match: str) -> str:
    return f"  chain forward {{ type filter hook forward priority -10; {match} counter drop; }}"


def filtered_in(region: LabRegion, chains: str) -> tuple[Filter, ...]:
    """All nodes of the region have those chains, as nftables writes them."""
    return tuple(Filter(place(node), chains) for node in region.nodes)


def between(source: LabRegion, target: LabRegion) -> str:
    """What pods of one region send to those of another, as nftables matches it."""
    return f"ip saddr {source.plan.pod_cidr} ip daddr {target.plan.pod_cidr}"


Values = Mapping[str, bytes]
"""The contents of a Secret."""


@dataclass(frozen=True)
class SecretChanged:
    """Other contents for a Secret.

    Attributes:
        region: where.
        path: the Secret's.
        change: from its values, and power over the lab, to those that are to be other; a value of None is taken out.
    """

    region: str
    path: str
    change: Callable[[Values, Control], Mapping[str, bytes | None]]

    def apply(self, control: Control) -> dict[str, Any]:
        """Write the new values and remember the old Secret."""
        before = control.get(self.region, self.path)
        if before is None:
            raise FaultError(f"{self.region}: there is no Secret {self.path} to change")
        fresh = self.change(secret_values(control, self.region, self.path), control)
        data = {key: None if value is None else b64encode(value).decode() for key, value in fresh.items()}
        control.patch(self.region, self.path, {"data": data})
        return before

    def heal(self, control: Control, memory: dict[str, Any]) -> None:
        """Put the old Secret back."""
        control.replace(self.region, self.path, memory)


def secret_values(control: Control, region: str, path: str) -> dict[str, bytes]:
    """The values of a Secret; none when there is no such Secret."""
    found = control.get(region, path) or {}
    return {key: b64decode(value) for key, value in (found.get("data") or {}).items()}


def secret_says(region: str, path: str, key: str, text: bytes) -> Confirm:
    """That value of the Secret has the text in it."""
    return lambda control: text in secret_values(control, region, path).get(key, b"")


@dataclass(frozen=True)
class Edited:
    """A change of an object that depends on what it says: `change` makes a merge patch from it."""

    region: str
    path: str
    change: Callable[[dict[str, Any]], dict[str, Any]]

    def apply(self, control: Control) -> dict[str, Any]:
        """Change it and remember what it was."""
        before = control.get(self.region, self.path)
        if before is None:
            raise FaultError(f"{self.region}: there is no {self.path} to change")
        control.patch(self.region, self.path, self.change(before))
        return before

    def heal(self, control: Control, memory: dict[str, Any]) -> None:
        """Put it back as it was."""
        control.replace(self.region, self.path, memory)


def retagged(region: str, path: str, tag: str) -> Edited:
    """Another version of what a workload runs: the tag of all its images."""

    def change(container: dict[str, Any]) -> dict[str, Any]:
        return {"image": f"{container['image'].rpartition(':')[0]}:{tag}"}

    return Edited(region, path, lambda workload: _containers(workload, change))


def started_without(region: str, path: str, name: str, *options: str) -> Edited:
    """A workload of which one container's command lacks those options, whatever their values."""

    def change(container: dict[str, Any]) -> dict[str, Any]:
        if container["name"] != name:
            return {}
        return {"command": [word for word in container["command"] if word.partition("=")[0] not in options]}

    return Edited(region, path, lambda workload: _containers(workload, change))


def _containers(workload: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """A merge patch that changes every container of a workload."""
    containers = [each | change(each) for each in workload["spec"]["template"]["spec"]["containers"]]
    return {"spec": {"template": {"spec": {"containers": containers}}}}


def runs_image_with_tag(region: str, path: str, tag: str) -> Confirm:
    """All pods that the workload wants are of the new version and ready."""

    def confirm(control: Control) -> bool:
        found = control.get(region, path) or {}
        selector = found["spec"]["selector"]["matchLabels"].items()
        pods = (control.get(region, f"/api/v1/namespaces/{found['metadata']['namespace']}/pods") or {}).get("items", ())
        states = [
            (pod.get("status") or {}).get("containerStatuses") or ()
            for pod in pods
            if selector <= (pod["metadata"].get("labels") or {}).items()
        ]
        return bool(states) and all(
            state and all(each["ready"] and each["image"].endswith(f":{tag}") for each in state) for state in states
        )

    return confirm


@dataclass(frozen=True)
class FullMap:
    """A node delivers to the pods that it has and to one more, and then has no room for a further one.

    So does a BPF map, an ipset or a neighbour table that is full. The one more is the verifier's standing probe.
    """

    node: LabNode

    def apply(self, control: Control) -> None:
        """Load a packet filter whose set of known pods has one free place."""
        pods = control.get(self.node.region, "/api/v1/pods") or {}
        known = sorted(
            {
                address
                for pod in pods.get("items", ())
                if pod["spec"].get("nodeName") == self.node.name and not pod["spec"].get("hostNetwork")
                for address in (pod.get("status", {}).get("podIP"),)
                if address
            }
        )
        elements = f"elements = {{ {', '.join(known)} }}" if known else ""
        self._filter(
            f"  set known {{ type ipv4_addr; flags dynamic; size {len(known) + 1}; {elements} }}\n"
            "  chain deliver { ip daddr @known accept; add @known { ip daddr } accept; counter drop; }\n"
            f"  chain forward {{ type filter hook forward priority -10; ip daddr {self.node.block} jump deliver; }}"
        ).apply(control)

    def heal(self, control: Control, memory: None) -> None:
        """Take the packet filter away."""
        self._filter("").heal(control, None)

    def _filter(self, body: str) -> Filter:
        return Filter(place(self.node), body)


@dataclass(frozen=True)
class SlowTunnel:
    """What a node sends through its tunnels to a region arrives later than what it sends beside them.

    Kernels with a delay line (netem) are rare, so a process is put into the way: it reads encapsulated packets from a
    TUN device and gives them back to the kernel later. The packets inside notice nothing but the time.
    """

    node: LabNode
    target: LabRegion
    port: int
    delay: timedelta = timedelta(milliseconds=20)

    def apply(self, control: Control) -> str:
        """Start the relay, then lead the tunnels' packets to it; what is remembered is the relay's pid."""
        there = place(self.node)
        pid = begin(control, there, _RELAY, _RELAY_DEVICE, str(self.delay.total_seconds()))
        ready = (
            f"until ip link set {_RELAY_DEVICE} up mtu 9000 2> /dev/null; do kill -0 {pid} || exit; sleep 0.05; done"
        )
        settings = f"/proc/sys/net/ipv4/conf/{_RELAY_DEVICE}"
        control.run(
            there,
            [
                "sh",
                "-ec",
                f"{ready}; echo 1 > {settings}/accept_local; echo 0 > {settings}/rp_filter; "
                f"ip route add default dev {_RELAY_DEVICE} src {self.node.address} table {_RELAY_TABLE}; "
                f"ip rule add preference {_RELAY_RULES[0]} iif {_RELAY_DEVICE} lookup main; "
                f"ip rule add preference {_RELAY_RULES[1]} to {self.target.plan.node_cidr} ipproto udp "
                f"dport {self.port} lookup {_RELAY_TABLE}",
            ],
        )
        return pid

    def heal(self, control: Control, memory: str) -> None:
        """Lead the packets past the relay again, and end it."""
        rules = "; ".join(f"ip rule del preference {preference}" for preference in _RELAY_RULES)
        control.run(place(self.node), ["sh", "-c", f"{rules}; kill {memory}; true"])


@dataclass(frozen=True)
class DropsUnlessServed:
    """A node that forwards nothing while all of those addresses refuse it at that port, or say that nobody is there.

    So does a health script that takes a node out of service because something else is down. It takes a slow answer for
    no refusal, and leaves alone whom the node has a session with: BIRD takes a second connection of a peer with
    graceful restart for the peer's restart, and gives up the session.

    Attributes:
        settled: for so long they must have answered again until it forwards.
    """

    node: LabNode
    addresses: tuple[IPv4Address, ...]
    port: int
    settled: timedelta = timedelta(0)

    def apply(self, control: Control) -> str:
        """Start the script; what is remembered is its pid."""
        words = (str(self.port), str(self.settled.total_seconds()), *map(str, self.addresses))
        return begin(control, place(self.node), _WATCHDOG, *words)

    def heal(self, control: Control, memory: str) -> None:
        """End it, and let the node forward."""
        control.run(place(self.node), ["kill", memory], check=False)
        Filter(place(self.node), "").heal(control, None)


WATCHDOG_NAME = "drops-unless-served"


def begin(control: Control, where: str, program: str, *words: str) -> str:
    """Start a Python program there that goes on by itself; its pid."""
    script = 'setsid python3 -I -S -c "$0" "$@" < /dev/null > /dev/null 2>&1 & echo $!'
    return control.run(where, ["sh", "-c", script, program, *words]).out.strip()


_WATCHDOG = f"""
# {WATCHDOG_NAME}
import socket, subprocess, sys, time
table = "{" ".join(PLANTED_TABLE)}"
rules = "table " + table + " {{\\n chain forward {{ type filter hook forward priority -10; policy drop; }}\\n}}\\n"
port = int(sys.argv[1])
def in_session(address):
    far, ports = socket.inet_aton(address)[::-1].hex().upper() + ":", "%04X" % port
    with open("/proc/net/tcp") as connections:
        for _, near, remote, state, *_ in map(str.split, connections):
            if state == "01" and remote.startswith(far) and ports in (near[-4:], remote[-4:]):
                return True
    return False
def away(address):
    if in_session(address):
        return False
    try:
        socket.create_connection((address, port), 0.5).close()
    except TimeoutError:
        return False
    except OSError:
        return True
    return False
dropping, until = False, 0.0
while True:
    now = time.monotonic()
    if all(map(away, sys.argv[3:])):
        until = now + float(sys.argv[2])
        down = True
    else:
        down = now < until
    if down != dropping:
        subprocess.run(["nft", "-f", "-"], input=rules if down else "delete table " + table, text=True)
        dropping = down
    time.sleep(0.1)
"""

_RELAY_DEVICE = "slow0"
_RELAY_TABLE = 99
_RELAY_RULES = (10, 11)
_RELAY = """
import collections, fcntl, os, select, struct, sys, time
name, delay = sys.argv[1], float(sys.argv[2])
tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH", name.encode(), 0x1001))  # TUNSETIFF; IFF_TUN | IFF_NO_PI
late = collections.deque()
while True:
    wait = max(0.0, late[0][0] - time.monotonic()) if late else None
    if select.select([tun], [], [], wait)[0]:
        late.append((time.monotonic() + delay, os.read(tun, 65536)))
    while late and late[0][0] <= time.monotonic():
        try:
            os.write(tun, late.popleft()[1])
        except OSError:
            pass  # what the kernel does not take is lost, as on a wire
"""
"""Reads packets from a TUN device and writes each back to it when its time has come."""
