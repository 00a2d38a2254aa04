"""Outages of the lab: every mode, on the lab's own links, packet filters and processes.

All that breaks and all that heals are small shell scripts, each in one network namespace, so that three can run them:
whoever made the outage, whoever finds its journal, and the timer in the lab's container that heals when nobody does.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import ClassVar

from analysis.facts.outage import PodEnd
from analysis.fleet import ClusterHandle, Fleet, OutageMode
from analysis.plan import Cni, DatabasePlan
from provision.errors import ProvisionError
from provision.lab import netns
from provision.lab.entry import Entry, environment, python_module
from provision.lab.paths import INSIDE, LabFolder
from provision.lab.state import Lab, read_lab
from provision.lab.topology import API_SERVER_PORT, INTERNET, LabRegion
from provision.outages import OutageError, OutageOrder
from provision.outages.journaled import Course, Prepare
from provision.outages.kubernetes import KubernetesOutages, all_ends, delete_pods

TABLE = "inet outage"
"""The packet filter of an outage, wherever one is: what it is healed by deleting."""

TIMER = "outage-timer"
"""What the dead-man timer's process is called."""

SCRIPT_WITHIN = timedelta(seconds=30)

_TIMER_FILE = INSIDE / TIMER
_SIGNALLING = "provision.lab.signalling"
_NO_TABLE = f"nft delete table {TABLE} 2> /dev/null || ! nft list table {TABLE} 2> /dev/null"
_BEFORE_ALL_OTHERS = -300
_CNI_AGENTS = {
    Cni.CALICO_BGP: ("calico-system", "k8s-app=calico-node"),
    Cni.CILIUM_CLUSTERMESH: ("kube-system", "k8s-app=clustermesh-apiserver"),
}
"""Namespace and labels of the pods that a region has its part in the mesh's control plane by."""


@dataclass(frozen=True)
class LabRemedy:
    """A script that undoes a part of an outage, and fails when it is not undone.

    Attributes:
        folder: the lab's.
        netns: the network namespace that it runs in; "" for the lab's management network.
        script: for `sh -eu`.
        words: what it does, for people.
        region: which region has all its own again when this and all others of it are done; "" for none.
    """

    kind: ClassVar[str] = "lab"

    folder: str
    netns: str
    script: str
    words: str
    region: str = ""

    def apply(self) -> str:
        """Run the script; when the lab is no more, neither is its outage. Raises OutageError."""
        lab = read_lab(LabFolder(Path(self.folder)))
        if lab is None or not lab.state.process.alive:
            return f"{self.words}: the lab has ended"
        run_script(lab, self.netns, self.script)
        return self.words

    @property
    def line(self) -> str:
        """The same as a line of a shell script in the lab's container, which goes on whatever comes of it."""
        return f"{shlex.join(_in_namespace(self.netns, self.script))} || true"


class LabOutages:
    """How outages of one lab go.

    Args:
        lab: a running one.
        fleet: the same as checks see it.
    """

    def __init__(self, lab: Lab, fleet: Fleet) -> None:
        self._lab = lab
        self._topology = Entry(lab).topology
        self._kubernetes = KubernetesOutages(fleet)
        self._plan = fleet.plan.database or DatabasePlan()

    @property
    def courses(self) -> dict[OutageMode, Prepare]:
        """How each mode is prepared."""
        own: dict[OutageMode, Callable[[Sequence[LabRegion]], Course]] = {
            OutageMode.POWER: self._power,
            OutageMode.ISOLATION: partial(self._cut, ways=("arriving", "leaving")),
            OutageMode.ONE_WAY: partial(self._cut, ways=("leaving",)),
            OutageMode.HANG: self._hang,
            OutageMode.CONTROL_PLANE: self._control_plane,
            OutageMode.ROUTING: self._routing,
        }
        return {**self._kubernetes.courses, **{mode: partial(self._timed, make=make) for mode, make in own.items()}}

    def _timed(self, order: OutageOrder, *, make: Callable[[Sequence[LabRegion]], Course]) -> Course:
        """The course with a timer that heals in this process's place; it is started first and dismissed last."""
        course = make([self._topology.region(name) for name in order.regions])
        remedies = [remedy for remedy in course.remedies if isinstance(remedy, LabRemedy)]
        if not remedies:
            return course
        dismissal = (
            f"if read -r pid < {_TIMER_FILE}; then "
            f"if grep -q {TIMER} /proc/$pid/cmdline; then kill -- -$pid; fi; rm -f {_TIMER_FILE}; fi 2> /dev/null"
        )
        healing = "\n".join(
            (
                f"sleep {order.within.total_seconds():g}",
                f"rm -f {_TIMER_FILE}",
                *(remedy.line for remedy in remedies),
            )
        )
        log = self._lab.folder.logs / f"{TIMER}.log"
        start = (
            f"setsid sh -c {shlex.quote(healing)} {TIMER} < /dev/null >> {shlex.quote(str(log))} 2>&1 &\n"
            f"echo $! > {_TIMER_FILE}"
        )

        def harm() -> tuple[PodEnd, ...]:
            self._run("", start)
            return course.harm()

        return Course((*remedies, self._remedy("", dismissal, "the dead-man timer: dismissed")), harm)

    def _power(self, regions: Sequence[LabRegion]) -> Course:
        """The region's links go dead before its processes do, so that nobody gets a last word from it."""
        pods = [self._pods(region) for region in regions]

        def harm() -> tuple[PodEnd, ...]:
            for region in regions:
                self._run(region.router, self._cut_off(region, ("arriving", "leaving")) + _links(region, "down"))
            for region in regions:
                self._run(region.router, f"{_each_port(region)} ip link show $port | grep -q 'state DOWN'; done")
            self._run("", shlex.join(python_module(_SIGNALLING, "KILL", *pods)))
            return ()

        return Course(
            tuple(
                self._remedy(
                    region.router, f"{_links(region, 'up')}{_NO_TABLE}", f"{region.name}: all links up", region.name
                )
                for region in regions
            ),
            harm,
        )

    def _cut(self, regions: Sequence[LabRegion], *, ways: Sequence[str]) -> Course:
        """The region's router drops what comes from other regions, what goes to them, or both."""

        def harm() -> tuple[PodEnd, ...]:
            for region in regions:
                self._run(region.router, self._cut_off(region, ways))
            for region in regions:
                self._see_cut(region, regions, ways)
            return ()

        return Course(
            tuple(
                self._remedy(region.router, _NO_TABLE, f"{region.name}: its router drops nothing any more", region.name)
                for region in regions
            ),
            harm,
        )

    def _hang(self, regions: Sequence[LabRegion]) -> Course:
        """All processes of the region's database stand still."""
        pods = [self._pods(region) for region in regions]

        def signalled(action: str) -> str:
            return shlex.join(python_module(_SIGNALLING, action, *pods))

        def harm() -> tuple[PodEnd, ...]:
            self._run("", signalled("STOP"))
            return ()

        names = ", ".join(region.name for region in regions)
        return Course((self._remedy("", signalled("CONT"), f"{names}: the database's processes go on"),), harm)

    def _control_plane(self, regions: Sequence[LabRegion]) -> Course:
        """The API server refuses everybody in the lab: nodes and pods, and the lab's own parts that play theirs.

        The verifier's own way to it, a socket outside the lab, stays: what happens meanwhile is seen through it.
        """
        doors = [("", [API_SERVER_PORT + region.index for region in regions], "127.0.0.1")]
        doors += [
            (node.netns, [API_SERVER_PORT], str(node.address))
            for region in regions
            for node in region.nodes
            if node.is_control_plane
        ]

        def harm() -> tuple[PodEnd, ...]:
            for place, ports, _ in doors:
                closed = f"tcp dport {_set(ports)} counter reject with tcp reset"
                self._run(place, _load(f"chain api {{ {_hook('input')} {closed}; }}"))
            for place, ports, address in doors:
                for port in ports:
                    opened = f"timeout 2 bash -c ': < /dev/tcp/{address}/{port}' 2> /dev/null"
                    self._run(place, f"! {opened} && {_counted('api')}")
            return ()

        names = ", ".join(region.name for region in regions)
        return Course(
            tuple(
                self._remedy(place, _NO_TABLE, f"{names}: API server open at {address}") for place, _, address in doors
            ),
            harm,
        )

    def _routing(self, regions: Sequence[LabRegion]) -> Course:
        """The reflector's routing daemon, or the store that other clusters read, is killed and starts anew."""
        namespace, selector = _CNI_AGENTS[self._topology.cni]
        reflectors = {node.name for region in regions for node in region.nodes if node.is_reflector}

        def harm() -> tuple[PodEnd, ...]:
            all_ends(
                [
                    delete_pods(
                        ClusterHandle(region.name, str(self._lab.folder.admin_kubeconfig), region.name),
                        namespace,
                        selector,
                        lambda pod: not reflectors or pod["spec"].get("nodeName") in reflectors,
                        grace=0,
                    )
                    for region in regions
                ]
            )
            return ()

        return Course((), harm)

    def _cut_off(self, region: LabRegion, ways: Sequence[str]) -> str:
        """The router's filter: other regions' packets by their peerings, or round by the internet."""
        others = [other for other in self._topology.regions if other is not region]
        peerings = _set(f'"{other.name}"' for other in self._topology.neighbours(region.name))
        public = _set(other.public_network for other in others)
        chains = {
            "arriving": f"{_hook('prerouting')} iifname {peerings} counter drop; "
            f'iifname "{INTERNET}" ip saddr {public} counter drop;',
            "leaving": f"{_hook('postrouting')} oifname {peerings} counter drop; "
            f'oifname "{INTERNET}" ip daddr {public} counter drop;',
        }
        return _load(*(f"chain {way} {{ {chains[way]} }}" for way in ways))

    def _see_cut(self, region: LabRegion, lost: Sequence[LabRegion], ways: Sequence[str]) -> None:
        """A ping from another region is lost, and it is this filter that took it; the region's own nodes answer."""
        first = region.nodes[0].address
        # One that is cut off, too, would lose the ping at its own end.
        other = min((each for each in self._topology.regions if each is not region), key=lost.__contains__)
        self._run(other.nodes[0].netns, f"! ping -q -c 1 -W 1 {first} > /dev/null")
        self._run(region.nodes[-1].netns, f"ping -q -c 1 -W 2 {first} > /dev/null")
        self._run(region.router, _counted(ways[0]))

    def _pods(self, region: LabRegion) -> str:
        """How the network namespaces of the region's database pods begin, those of its stores among them."""
        return f"{region.name}.{self._plan.namespace(region.name)}."

    def _remedy(self, place: str, script: str, words: str, region: str = "") -> LabRemedy:
        return LabRemedy(str(self._lab.folder.path), place, script, words, region)

    def _run(self, place: str, script: str) -> None:
        run_script(self._lab, place, script)


def run_script(lab: Lab, place: str, script: str) -> None:
    """Run a script in a network namespace of the lab; "" is that of its management.

    Raises:
        OutageError: it failed, or the lab does not run.
    """
    where = f"{lab.state.name}: {place or 'management'}"
    try:
        argv = Entry(lab).into_container(_in_namespace(place, script))
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment(),
            timeout=SCRIPT_WITHIN.total_seconds(),
        )
    except ProvisionError as error:
        raise OutageError(error.what, where=where, observed=error.observed, remedy=error.remedy) from None
    except subprocess.TimeoutExpired:
        raise OutageError("a command of an outage does not end", where=where, observed=script) from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-800:]
        raise OutageError(
            "a command of an outage failed, or did not have its effect",
            where=where,
            observed=f"{script.strip()}\n{said or f'exit code {done.returncode}'}",
        )


def _in_namespace(place: str, script: str) -> list[str]:
    argv = ["sh", "-euc", script]
    return netns.command(place, argv) if place else argv


def _load(*chains: str) -> str:
    """A script that loads the outage's packet filter."""
    lines = (f"table {TABLE}", f"delete table {TABLE}", f"table {TABLE} {{", *chains, "}")
    return "\n".join(("nft -f - << 'END'", *lines, "END", ""))


def _hook(name: str) -> str:
    return f"type filter hook {name} priority {_BEFORE_ALL_OTHERS};"


def _counted(chain: str) -> str:
    """A script that succeeds when a rule of the chain has met a packet."""
    return f"nft list chain {TABLE} {chain} | grep -q 'packets [1-9]'"


def _each_port(region: LabRegion) -> str:
    """The head of a loop over the router's ports that the region's nodes are plugged into."""
    return f"for port in {' '.join(node.alias for node in region.nodes)}; do"


def _links(region: LabRegion, state: str) -> str:
    return f"{_each_port(region)} ip link set $port {state}; done\n"


def _set(elements: Iterable[object]) -> str:
    return "{ " + ", ".join(map(str, elements)) + " }"
