"""Felix' policy of one cluster: watches what is said, and puts what it comes to into the nodes' packet filters.

A node follows while its calico-node runs. When that has stopped the last table stays, as with Felix: nothing opens, and
nothing changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address

from provision.lab import kernel
from provision.lab.calico.cni import device_name
from provision.lab.calico.control_plane import CALICO_NODE, NAMESPACE
from provision.lab.calico.policy.endpoints import endpoints, inherited, is_endpoint, what_matters
from provision.lab.calico.policy.kubernetes import NETWORK_POLICIES, read_network_policy
from provision.lab.calico.policy.objects import (
    GLOBAL_POLICIES,
    GLOBAL_SETS,
    NAMESPACE_LABEL,
    NAMESPACE_PREFIX,
    POLICIES,
    SETS,
    TIERS,
    NetworkSet,
    Policy,
    read_network_set,
    read_policy,
    read_tier,
    standing_tiers,
)
from provision.lab.calico.policy.remote import RemotePods
from provision.lab.calico.policy.translate import Known, LocalPod, Translation, known_set
from provision.lab.calico.resources import FELIX_CONFIGURATIONS, read_all
from provision.lab.kube.client import (
    NAMESPACES,
    PODS,
    SERVICE_ACCOUNTS,
    ApiClient,
    Change,
    ChangeKind,
    KubeObject,
    Reflector,
    synced,
)
from provision.lab.policy.rules import Action, PolicedPod
from provision.lab.policy.table import policy_table
from provision.lab.topology import LabRegion

log = logging.getLogger(__name__)

TABLE = "ip calico-policy"
SETTLE_S = 0.1
"""Pods come in crowds, and each of them changes what the others' rules say."""

REST = 4
"""How many times as long as the last look took the next one is waited for: in a large lab others must get on, too."""

RETRY_S = 0.5
ADMITTED_WITHIN_S = 5.0
"""For how long a new pod waits for its rules, before it does without (`policy_setup_timeout_seconds`)."""

_NOTHING = policy_table(TABLE, ())


class PolicyEngine:
    """What enforces policy on the nodes of one cluster.

    Args:
        region: whose cluster.
        client: talks to it as calico-node.
        remote: what is known of other clusters' pods.
    """

    def __init__(self, region: LabRegion, client: ApiClient, remote: RemotePods) -> None:
        self._netns = {node.name: node.netns for node in region.nodes}
        self._remote = remote
        self._pods = Reflector(client, PODS)
        self._namespaces = Reflector(client, NAMESPACES)
        self._accounts = Reflector(client, SERVICE_ACCOUNTS)
        self._tiers = Reflector(client, TIERS)
        self._policies = [Reflector(client, each) for each in (GLOBAL_POLICIES, POLICIES)]
        self._kubernetes = Reflector(client, NETWORK_POLICIES)
        self._sets = [Reflector(client, each) for each in (GLOBAL_SETS, SETS)]
        self._felix = Reflector(client, FELIX_CONFIGURATIONS)
        self._changed = asyncio.Event()
        self._applied: dict[str, str] = {}
        self._runs: dict[str, str] = {}
        self._translation: Translation | None = None
        self._admitted: dict[str, KubeObject] = {}
        self._waiting: list[asyncio.Future[None]] = []

    def has_applied(self, node: str) -> bool:
        """Whether the node has had its table since the engine began."""
        return node in self._applied

    async def admit(self, pod: KubeObject, address: IPv4Address) -> None:
        """Return once the node has the rules of a pod that is about to be connected: it is never open in between.

        At once where no policy selects it, and where no Felix runs that would make rules.
        """
        to_be = pod | {"status": {**(pod.get("status") or {}), "podIP": str(address)}}
        if self._translation is None or pod["spec"]["nodeName"] not in self._running():
            return
        local = (_local(*each) for each in endpoints([to_be], self._namespaces, self._accounts))
        if not any(rules.ingress or rules.egress for rules in map(self._translation.pod, local)):
            return
        self._admitted[pod["metadata"]["uid"]] = to_be
        loaded = asyncio.get_running_loop().create_future()
        self._waiting.append(loaded)
        self._changed.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(loaded, ADMITTED_WITHIN_S)

    async def run(self) -> None:
        """Run until cancelled. The nodes' namespaces must be there."""
        self._pods.add_handler(self._on_pod)
        self._remote.on_change(self._changed.set)
        others = (self._namespaces, self._accounts, self._tiers, self._kubernetes, self._felix)
        watched = (*others, *self._policies, *self._sets)
        for reflector in watched:
            reflector.add_handler(lambda _change: self._changed.set())
        async with asyncio.TaskGroup() as tasks:
            for reflector in (self._pods, *watched):
                tasks.create_task(reflector.run())
            await synced(self._pods, *watched)
            self._changed.set()
            now, took = asyncio.get_running_loop().time, 0.0
            while True:
                await self._changed.wait()
                await asyncio.sleep(max(SETTLE_S, REST * took))
                self._changed.clear()
                waiting, self._waiting = self._waiting, []
                began = now()
                running = self._running()
                for node in running.keys() & self._runs.keys():
                    if running[node] != self._runs[node]:
                        # A Felix that begins anew trusts nothing that it finds.
                        self._applied[node] = ""
                self._runs |= running
                wanted = {node: text for node, text in self._tables().items() if node in running}
                took = now() - began
                await asyncio.gather(*(self._apply(node, text) for node, text in wanted.items()))
                for pod in waiting:
                    if not pod.done():
                        pod.set_result(None)

    def _on_pod(self, change: Change) -> None:
        if change.kind is ChangeKind.DELETED or is_endpoint(change.object):
            self._admitted.pop(change.object["metadata"]["uid"], None)
        if change.previous is None or _matters(change.previous) != _matters(change.object):
            self._changed.set()

    async def _apply(self, node: str, text: str) -> None:
        if self._applied.get(node, _NOTHING) == text:
            self._applied.setdefault(node, text)
            return
        try:
            await asyncio.to_thread(kernel.load_rules, self._netns[node], TABLE, text)
        except kernel.KernelError as error:
            log.warning("%s: policy: trying again: %s", node, error)
            asyncio.get_running_loop().call_later(RETRY_S, self._changed.set)
            return
        self._applied[node] = text

    def _running(self) -> dict[str, str]:
        """The nodes whose calico-node runs, and which run of it that is."""
        return {pod["spec"]["nodeName"]: run for pod in self._pods if _is_agent(pod) and (run := _run_of(pod))}

    def _tables(self) -> dict[str, str]:
        """Every node's table."""
        told = (pod for pod in self._pods if pod["metadata"]["uid"] not in self._admitted)
        local = list(endpoints([*told, *self._admitted.values()], self._namespaces, self._accounts))
        translation = self._translation = Translation(
            tiers=standing_tiers() | {tier.name: tier for tier in read_all(read_tier, self._tiers, log.warning)},
            policies=self._all_policies(),
            known=[*(known for _, known in local), *self._remote, *self._network_sets()],
        )
        pods: dict[str, list[PolicedPod]] = {node: [] for node in self._netns}
        for pod, known in local:
            pods.setdefault(pod["spec"]["nodeName"], []).append(translation.pod(_local(pod, known)))
        to_host = self._to_own_node()
        return {node: policy_table(TABLE, pods[node], to_host) for node in self._netns}

    def _all_policies(self) -> Iterator[Policy]:
        for reflector in self._policies:
            yield from read_all(read_policy, reflector, log.warning)
        yield from read_all(read_network_policy, self._kubernetes, log.warning)

    def _network_sets(self) -> Iterator[Known]:
        namespaces = {each["metadata"]["name"]: inherited(NAMESPACE_PREFIX, each) for each in self._namespaces}
        for reflector in self._sets:
            for found in read_all(read_network_set, reflector, log.warning):
                yield known_set(found, _of_namespace(found, namespaces))

    def _to_own_node(self) -> Action:
        configuration = self._felix.get("default") or {}
        action = (configuration.get("spec") or {}).get("defaultEndpointToHostAction", "Drop")
        return Action.DROP if action == "Drop" else Action.ACCEPT


def _local(pod: KubeObject, known: Known) -> LocalPod:
    return LocalPod(pod["spec"]["nodeName"], device_name(pod), known.nets[0].network_address, known)


def _of_namespace(found: NetworkSet, namespaces: dict[str, dict[str, str]]) -> dict[str, str]:
    if not found.namespace:
        return {}
    return {**namespaces.get(found.namespace, {}), NAMESPACE_LABEL: found.namespace}


def _matters(pod: KubeObject) -> object:
    return what_matters(pod), _run_of(pod) if _is_agent(pod) else ""


def _is_agent(pod: KubeObject) -> bool:
    metadata = pod["metadata"]
    return metadata["namespace"] == NAMESPACE and (metadata.get("labels") or {}).get("k8s-app") == CALICO_NODE


def _run_of(pod: KubeObject) -> str:
    """The id of the pod's container that runs, "" when none does."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((each.get("containerID", "") for each in statuses if "running" in (each.get("state") or {})), "")
