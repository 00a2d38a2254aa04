"""From where and how probes and administrators reach what they look at."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictBool

from analysis.fleet import DEFAULT_FULL_MESH_LIMIT
from provision.environment_values import (
    Address,
    Command,
    DnsLabel,
    DnsName,
    FilePath,
    JumpHost,
    OutsideName,
    Port,
    UserName,
    Whole,
    Word,
)
from provision.sections.section import Section


class Outside(Section):
    """A place outside the regions, without any rights there, where probes can start."""

    command: Command = Field(
        description="what to put before a command so that it runs there", examples=[["ssh", "probe@vantage.example"]]
    )
    address: Address | None = Field(
        default=None, description="the source address that the world sees of it", examples=["198.51.100.66"]
    )


class Ssh(Section):
    """How administrators reach the nodes, for what only a node's shell can tell."""

    user: UserName = Field(description="whom to log in as; others than root use sudo", examples=["ubuntu"])
    identity_file: FilePath | None = Field(
        default=None,
        description="the private key's file; by default what ssh finds by itself",
        examples=["~/.ssh/mesh"],
    )
    known_hosts: FilePath | None = Field(
        default=None,
        description="the file with the nodes' host keys, which are always verified; by default ~/.ssh/known_hosts",
    )
    port: Port = Field(default=22, description="the nodes' port")
    jump: JumpHost | None = Field(
        default=None, description="the host by which nodes are reached", examples=["ubuntu@bastion.example.net"]
    )


class DnsSettings(Section):
    """What clusters' DNS must be able to answer beside names of clusters."""

    external_name: OutsideName | None = Field(
        default=None, description="a name outside all clusters that must resolve", examples=["www.example.net"]
    )


class Egress(Section):
    """A host outside every region that answers a TCP connection with the source address it saw, on one line."""

    address: Address = Field(description="its address", examples=["198.51.100.10"])
    port: Port = Field(description="its TCP port", examples=[80])


class Probes(Section):
    """The pods that observe the network from inside."""

    image: Word = Field(default="python:3.12-slim", description="the image they run; any with python3, 3.8 or newer")
    namespace: DnsLabel = Field(default="meshproof", description="the namespace they live in")
    host_network: StrictBool = Field(
        default=True,
        description="whether probe pods may use the nodes' network; without them nodes are not observed",
    )
    capture: StrictBool = Field(
        default=False,
        description="whether probe pods in the nodes' network may capture and craft packets (NET_RAW)",
    )
    pull_secret: DnsName | None = Field(
        default=None, description="name of the Secret, in that namespace, that the image is pulled with"
    )
    per_node: Annotated[int, Whole(1, 50)] = Field(default=1, description="probe pods in the pod network on each node")
    full_mesh_limit: Annotated[int, Whole(1, 10_000_000)] = Field(
        default=DEFAULT_FULL_MESH_LIMIT,
        description="ordered pairs of probe pods that are all probed; where there are more, a sample of about so many "
        "that leaves out no ordered pair of nodes",
    )
