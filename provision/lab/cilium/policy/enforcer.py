"""Keeps a node's packet filter as the policies of its cluster want it, while the node's agent lives.

What is loaded stays when the agent ends. The next one leaves it alone until it knows as much as the one before did: an
agent that has not yet heard of the other clusters' pods would shut them out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address

from provision.lab import kernel
from provision.lab.cilium.cni import device_name
from provision.lab.cilium.etcd import Backoff
from provision.lab.cilium.policy.known import known_addresses, named_ports
from provision.lab.cilium.policy.kubernetes import read_network_policy
from provision.lab.cilium.policy.model import Dialect, PolicyError, PolicySpec
from provision.lab.cilium.policy.reading import read_policy
from provision.lab.cilium.policy.translation import LocalPod, Mode, Settings, translate
from provision.lab.cilium.remote import RemoteCluster
from provision.lab.cilium.state import EndpointEntry, Labels, NodeEntry, PolicyEntry
from provision.lab.cilium.watch import ClusterWatch
from provision.lab.kube.client import KubeObject
from provision.lab.policy.rules import PolicedPod
from provision.lab.policy.table import policy_table

log = logging.getLogger(__name__)

TABLE = "ip cilium-policy"
SYNC_S = 60.0
"""For how long a new agent waits for the other clusters (`clustermesh-sync-timeout`)."""

ADMITTED_WITHIN_S = 5.0
"""For how long a new pod waits for its rules, before it does without."""

_SETTLE_S = 0.02
_RETRY_FIRST_S, _RETRY_MOST_S = 0.1, 2.0


@dataclass(frozen=True)
class View:
    """What an agent sees at a moment: its node's pods, all nodes, and the other clusters."""

    endpoints: Collection[EndpointEntry]
    nodes: Iterable[NodeEntry]
    remotes: Collection[RemoteCluster]


class PolicyEnforcer:
    """One node's policy during one life of its agent.

    Args:
        node: the node's name, for the log.
        netns: its network namespace.
        watch: the cluster's objects.
        dialect: what policies mean to the agent.
        settings: cilium-config.
        view: what the agent sees now.
        changed: set whenever something has changed that policy may depend on.
    """

    def __init__(
        self,
        node: str,
        netns: str,
        watch: ClusterWatch,
        dialect: Dialect,
        settings: dict[str, str],
        view: Callable[[], View],
        changed: asyncio.Event,
    ) -> None:
        self._node = node
        self._netns = netns
        self._watch = watch
        self._dialect = dialect
        self._config = settings
        self._view = view
        self._said: set[str] = set()
        self._loaded: tuple[PolicedPod, ...] | None = None
        self._refused = ""
        self._read: tuple[tuple[PolicySpec, ...], tuple[PolicyEntry, ...]] = ((), ())
        self._revision = 1
        self._changed = changed
        self._admitted: dict[str, LocalPod] = {}  # by device, pods that are no endpoints yet
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def enforced(self) -> dict[IPv4Address, tuple[bool, bool]]:
        """The node's pods that something polices: whether it does inwards, and outwards."""
        return {pod.address: (pod.ingress is not None, pod.egress is not None) for pod in self._loaded or ()}

    @property
    def failure(self) -> str:
        """Why the kernel has not taken the rules, "" when it has."""
        return self._refused

    async def admit(self, pod: KubeObject, labels: Labels, address: IPv4Address) -> None:
        """Return once the node has the rules of a pod that is about to be connected: it is never open in between.

        An agent that has only begun has pods connected at once: they are in the first rules that it loads.
        """
        if self._loaded is None:
            return
        device = device_name(pod)
        self._admitted[device] = LocalPod(address, labels, device, named_ports(pod))
        loaded = asyncio.get_running_loop().create_future()
        self._waiting.append(loaded)
        self._changed.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(loaded, ADMITTED_WITHIN_S)

    async def run(self, others_known: asyncio.Event) -> None:
        """Enforce until cancelled.

        Args:
            others_known: set once all other clusters have told everything.

        Raises:
            ValueError: the settings are not what the agent takes.
        """
        settings = Settings.of(self._dialect.cluster, self._config)
        if settings.mode is Mode.NEVER:
            log.info("%s: policies are not enforced", self._node)
        if await asyncio.to_thread(kernel.has_table, self._netns, TABLE):
            try:
                await asyncio.wait_for(others_known.wait(), SYNC_S)
            except TimeoutError:
                log.warning("%s: policies are enforced without knowing all other clusters", self._node)
        backoff = Backoff(_RETRY_FIRST_S, _RETRY_MOST_S)
        while True:
            self._changed.clear()
            waiting, self._waiting = self._waiting, []
            wanted = self._translate(settings)
            if wanted != self._loaded:
                try:
                    await asyncio.to_thread(kernel.load_rules, self._netns, TABLE, policy_table(TABLE, wanted))
                except kernel.KernelError as error:
                    self._waiting += waiting
                    self._refused = str(error)
                    log.warning("%s: %s", self._node, error)
                    await backoff.wait()
                    continue
                self._loaded, self._refused = wanted, ""
                backoff.reset()
            for pod in waiting:
                if not pod.done():
                    pod.set_result(None)
            await self._changed.wait()
            await asyncio.sleep(_SETTLE_S)

    @property
    def policies(self) -> tuple[PolicyEntry, ...]:
        """The policies that the agent has taken."""
        return self._read[1]

    @property
    def revision(self) -> int:
        """Counts their changes."""
        return self._revision

    def _read_policies(self) -> tuple[PolicySpec, ...]:
        """The policies of the cluster that the agent takes; what it makes of the others is said in its log, once."""
        specs: list[PolicySpec] = []
        taken: list[PolicyEntry] = []
        for kind, objects in (
            ("cnp", self._watch.policies),
            ("ccnp", self._watch.cluster_policies),
            ("knp", self._watch.network_policies),
        ):
            for obj in objects:
                try:
                    found = _read(kind, obj, self._dialect)
                except PolicyError as error:
                    self._say(str(error))
                    continue
                specs += found
                taken.append(_entry(kind, obj))
                for note in (note for spec in found for note in spec.notes):
                    self._say(note)
        read = tuple(sorted(specs, key=lambda spec: spec.name)), tuple(taken)
        if read != self._read:
            self._read = read
            self._revision += 1
        return read[0]

    def _translate(self, settings: Settings) -> tuple[PolicedPod, ...]:
        view, policies = self._view(), self._read_policies()
        pods = [
            LocalPod(entry.address, entry.labels, entry.device, self._named_ports(entry)) for entry in view.endpoints
        ]
        for pod in pods:
            self._admitted.pop(pod.device, None)
        pods += self._admitted.values()
        if not policies and settings.mode is not Mode.ALWAYS:
            return ()
        return translate(pods, policies, known_addresses(self._watch, view.nodes, view.remotes), settings)

    def _named_ports(self, entry: EndpointEntry) -> dict[tuple[str, str], int]:
        pod = self._watch.pods.get(entry.pod, entry.namespace)
        return named_ports(pod) if pod else {}

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log.warning("%s: %s", self._node, text)


def _read(kind: str, obj: KubeObject, dialect: Dialect) -> tuple[PolicySpec, ...]:
    return (read_network_policy(obj, dialect),) if kind == "knp" else read_policy(obj, dialect)


def _entry(kind: str, obj: KubeObject) -> PolicyEntry:
    meta = obj["metadata"]
    specs = (*([obj["spec"]] if obj.get("spec") else []), *(obj.get("specs") or ()))
    return PolicyEntry(kind, str(meta.get("namespace") or ""), meta["name"], str(meta.get("uid") or ""), specs)
