"""Going into a lab from the host: what there is to go to, and the command line that leads there."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv4Address
from pathlib import Path

from analysis.fleet import Outpost, Stand
from analysis.nearest import did_you_mean
from provision.errors import ProvisionError
from provision.lab.agents_config import AgentsConfig
from provision.lab.host import search_path
from provision.lab.kube.reader import AdminReader, UnreadableError
from provision.lab.place import command_at
from provision.lab.state import Lab
from provision.lab.topology import INTERNET, OPERATOR, STRANGER, LabRegion, LabTopology, topology_from_spec

ROUTER = "vpc"

_PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class LabPod:
    """A pod as the region's API lists it, and the network namespace it lives in."""

    region: str
    namespace: str
    name: str
    node: str
    address: IPv4Address | None
    netns: str


class Entry:
    """A running lab, seen from the host.

    Places are written "REGION/NAME": a node by its name or alias, a pod by its name or as namespace/name, the region's
    VPC router as REGION/vpc; and "internet".
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    @cached_property
    def topology(self) -> LabTopology:
        """What the lab was asked to be.

        Raises:
            ProvisionError: nothing is known of it yet.
        """
        try:
            return topology_from_spec(json.loads(self._lab.folder.spec.read_text()))
        except FileNotFoundError:
            raise ProvisionError("this lab is only just being started", where=self._lab.state.name) from None

    def command(self, place: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` there, as root of the lab. Its environment should be `environment()`.

        Raises:
            ProvisionError: there is no such place, or the lab does not run.
        """
        return self.into_container(command_at(self._netns(place), argv))

    def pods(self, region: str) -> tuple[LabPod, ...]:
        """The region's pods that have been given a node.

        Raises:
            ProvisionError: the API server does not answer.
        """
        try:
            items = self._reader(region).items("/api/v1/pods")
        except UnreadableError as error:
            raise ProvisionError(
                str(error),
                where=self._lab.state.name,
                remedy=f"nodes and routers can be entered without it; look at {self._lab.folder.logs}",
            ) from None
        return tuple(_pod(region, item) for item in items if item["spec"].get("nodeName"))

    def outposts(self) -> tuple[Outpost, ...]:
        """Where commands can be run: every node and router, and two addresses on the internet.

        The last two are one namespace, so a program there must choose its source address.
        """
        outside = tuple(self.command(INTERNET, ()))
        return (
            Outpost(Stand.OPERATOR, "the operator", outside, address=OPERATOR),
            Outpost(Stand.INTERNET, "the internet", outside, address=STRANGER),
            *(
                Outpost(Stand.ROUTER, region.router, tuple(self.command(f"{region.name}/{ROUTER}", ())), region.name)
                for region in self.topology.regions
            ),
            *(
                Outpost(
                    Stand.NODE,
                    node.name,
                    tuple(self.command(f"{region.name}/{node.name}", ())),
                    region.name,
                    node.address,
                )
                for region in self.topology.regions
                for node in region.nodes
            ),
        )

    def module(self, name: str, *arguments: str) -> list[str]:
        """The command line that runs a module of this project in the lab's management network."""
        return self.into_container(python_module(name, *arguments))

    def into_container(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` in the lab's management network, as root of the lab."""
        user = ["--user", "--preserve-credentials"] if self._lab.state.user_namespace else []
        target = str(self._lab.container.pid)
        return ["nsenter", "--target", target, *user, "--mount", "--pid", "--net", "--", *argv]

    def _netns(self, place: str) -> str:
        if place == INTERNET:
            return INTERNET
        region_name, _, name = place.partition("/")
        regions = {region.name: region for region in self.topology.regions}
        if region_name not in regions:
            known = (*regions, INTERNET)
            raise ProvisionError(
                f"no such region{did_you_mean(region_name, known)}",
                where=place,
                expected=f"REGION/NAME with one of {', '.join(regions)}; or {INTERNET}",
            )
        region = regions[region_name]
        if name == ROUTER:
            return region.router
        for node in region.nodes:
            if name in (node.name, node.alias):
                return node.netns
        return self._pod_netns(region, name)

    def _pod_netns(self, region: LabRegion, name: str) -> str:
        pods = self.pods(region.name)
        found = [pod for pod in pods if name in (pod.name, f"{pod.namespace}/{pod.name}")]
        if len(found) == 1:
            return found[0].netns
        place = f"{region.name}/{name}"
        if found:
            raise ProvisionError(
                "several pods have that name",
                where=place,
                expected=f"one of {', '.join(f'{pod.namespace}/{pod.name}' for pod in found)}",
            )
        aliases = [node.alias for node in region.nodes]
        full_names = [f"{pod.namespace}/{pod.name}" for pod in pods]
        known = [ROUTER, *aliases, *(pod.name for pod in pods), *full_names]
        raise ProvisionError(
            f"no node and no pod of that name in {region.name}{did_you_mean(name, known)}",
            where=place,
            expected=f"{ROUTER}, a node ({', '.join(aliases)}) or a pod ({', '.join(full_names) or 'there are none'})",
        )

    def _reader(self, region: str) -> AdminReader:
        config = AgentsConfig.from_json(json.loads(self._lab.folder.agents.read_text()))
        # The lab's own components use an address inside the container; the host has another to the same server.
        return AdminReader(replace(config.cluster(region), server=self._lab.state.api[region]))


def python_module(name: str, *arguments: str) -> list[str]:
    """The command line that runs a module of this project, from anywhere in the container."""
    return ["env", f"PYTHONPATH={_PROJECT}", "PYTHONSAFEPATH=1", sys.executable, "-m", name, *arguments]


def environment() -> dict[str, str]:
    """The process environment for commands in the lab: ours, with the system's tools on the path."""
    return {**os.environ, "PATH": search_path()}


def _pod(region: str, item: dict[str, dict[str, str]]) -> LabPod:
    metadata, spec, status = item["metadata"], item["spec"], item.get("status", {})
    address = status.get("podIP")
    netns = spec["nodeName"] if spec.get("hostNetwork") else f"{region}.{metadata['namespace']}.{metadata['name']}"
    return LabPod(
        region=region,
        namespace=metadata["namespace"],
        name=metadata["name"],
        node=spec["nodeName"],
        address=IPv4Address(address) if address else None,
        netns=netns,
    )
