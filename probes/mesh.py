"""All clusters of an environment at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import TypeVar

from analysis.facts import Networks
from analysis.fleet import Fleet
from probes.cluster import EXECS_AT_ONCE, Cluster
from probes.errors import ProbeError

T = TypeVar("T")
R = TypeVar("R")


class Mesh:
    """Live access to the clusters of a fleet, for one process. Connections are opened when first needed.

    Attributes:
        fleet: the environment.
        run_id: the run that everything made through this mesh belongs to.
        networks: what the cloud says of the regional networks, as far as anybody asks it.
        sweep_width: how many ports are tried between database pods besides those that are always: "none", "sample" or
            "all".
    """

    sweep_width = "sample"

    def __init__(self, fleet: Fleet, run_id: str, networks: Callable[[], Networks] = lambda: Networks(())) -> None:
        self.fleet = fleet
        self.run_id = run_id
        self.networks = networks
        self._clusters: dict[str, Cluster] = {}
        self._opening = threading.Lock()

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of all regions that have a cluster, in plan order."""
        return tuple(handle.region for handle in self.fleet.clusters)

    @property
    def retries(self) -> int:
        """How often a request or an exec had to be made again, in all clusters, by this process."""
        return sum(cluster.retries for cluster in self._clusters.values())

    def cluster(self, region: str) -> Cluster:
        """That region's cluster.

        Raises:
            KeyError: the fleet has no such region.
            KubeconfigError: its kubeconfig cannot be used.
        """
        with self._opening:
            if region not in self._clusters:
                self._clusters[region] = Cluster(self.fleet.cluster(region))
            return self._clusters[region]

    def submit(self, region: str, work: Callable[[Cluster], R]) -> Future[R]:
        """Do the work at that region's cluster, in the background."""
        return self._pools[region].submit(lambda: work(self.cluster(region)))

    def each(
        self, items: Iterable[T], region: Callable[[T], str], work: Callable[[Cluster, T], R]
    ) -> list[tuple[T, R | ProbeError]]:
        """Do the work for every item at its region's cluster, all clusters at once, a few items of each.

        What fails with a ProbeError has that error in place of its result; anything else is a bug and is raised.
        """

        def attempt(item: T) -> R | ProbeError:
            try:
                return work(self.cluster(region(item)), item)
            except ProbeError as error:
                return error

        futures: list[tuple[T, Future[R | ProbeError]]] = [
            (item, self._pools[region(item)].submit(attempt, item)) for item in items
        ]
        return [(item, future.result()) for item, future in futures]

    def each_region(self, work: Callable[[Cluster], R]) -> list[tuple[str, R | ProbeError]]:
        """Do the work once per cluster, all at once."""
        return self.each(self.regions, lambda region: region, lambda cluster, _region: work(cluster))

    @cached_property
    def _pools(self) -> dict[str, ThreadPoolExecutor]:
        return {
            region: ThreadPoolExecutor(max_workers=EXECS_AT_ONCE, thread_name_prefix=f"probes-{region}")
            for region in self.regions
        }

    def close(self) -> None:
        """Close all connections."""
        if "_pools" in self.__dict__:
            for pool in self._pools.values():
                pool.shutdown(cancel_futures=True)
            del self.__dict__["_pools"]
        for cluster in self._clusters.values():
            cluster.close()
        self._clusters.clear()
