"""The database that is stretched over the regions, and how to log in to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import Field

from analysis.plan import DatabasePlan
from provision.environment_values import (
    Cpu,
    DnsLabel,
    DnsName,
    FilePath,
    Folder,
    HostPort,
    Memory,
    Ports,
    UserName,
    Whole,
    Word,
)
from provision.sections.section import Section


class AccessSettings(Section):
    """How to log in to the database: with a certificate and its key, or with a password, all in files of their own."""

    user: UserName = Field(description="whom to log in as", examples=["root"])
    authority: FilePath = Field(
        description="the file with the certificate of the database's authority", examples=["~/.meshproof/prod/ca.crt"]
    )
    certificate: FilePath | None = Field(default=None, description="the file with the user's certificate")
    key: FilePath | None = Field(default=None, description="the file with its private key, readable by its owner only")
    password_file: FilePath | None = Field(
        default=None, description="the file with the user's password and nothing else, readable by its owner only"
    )
    addresses: dict[str, HostPort] = Field(
        default_factory=dict,
        description="where this machine reaches a region's database; a region without is reached from its probe pods",
        examples=[{"us-east-1": "db-east.example.net:26257"}],
    )


class Database(Section):
    """The database that is stretched over the regions."""

    engine: Literal["cockroachdb", "postgresql"] = Field(
        default="cockroachdb",
        description="which database: cockroachdb; postgresql is the lab's stand-in, PostgreSQL with Patroni and etcd",
    )
    namespaces: dict[str, DnsLabel] = Field(
        default_factory=dict,
        description="the database's namespace in each region; by default named like the region",
        examples=[{"us-east-1": "us-east-1"}],
    )
    ports: Ports = Field(
        default=(26257, 8080), description="the TCP ports of the database: SQL and peers, then the console"
    )
    service: DnsLabel = Field(
        default=DatabasePlan().service, description="the name of its headless Service, and of its StatefulSet"
    )
    public_service: DnsLabel = Field(
        default=DatabasePlan().public_service, description="the name of the Service that clients use"
    )
    replicas: Annotated[int, Whole(1, 1000)] = Field(
        default=DatabasePlan().replicas, description="its pods in each region"
    )
    cpu: Cpu | None = Field(default=None, description="processors that each of its pods asks for", examples=[4])
    memory: Memory | None = Field(default=None, description="memory that each of its pods asks for", examples=["8Gi"])
    storage: Memory | None = Field(
        default=None, description="size of the volume of each of its pods", examples=["50Gi"]
    )
    must_survive: tuple[Word, ...] = Field(
        default=(),
        description="its databases, in the sense of SQL, that must survive the loss of a region",
        examples=[["orders"]],
    )
    service_account: DnsName = Field(
        default=DatabasePlan().service_account, description="the ServiceAccount that its pods run as"
    )
    node_secret: DnsName = Field(
        default=DatabasePlan().node_secret, description="the Secret with the certificates of its members"
    )
    client_secret: DnsName = Field(
        default=DatabasePlan().client_secret, description="the Secret with those of the client root"
    )
    certificate_folder: Folder = Field(
        default=DatabasePlan().certificate_folder, description="where its pods have their certificates"
    )
    access: AccessSettings | None = Field(
        default=None, description="how to log in; without it what only the database can tell does not apply"
    )

    def plan(self, regions: Iterable[str]) -> DatabasePlan:
        """The same as judges know it, for regions of those names."""
        namespaces = {region: region for region in regions} | self.namespaces
        return DatabasePlan(
            engine=self.engine,
            namespaces=tuple(namespaces.items()),
            ports=self.ports,
            service=self.service,
            public_service=self.public_service,
            replicas=self.replicas,
            cpu=self.cpu,
            memory=self.memory,
            storage=self.storage,
            must_survive=self.must_survive,
            service_account=self.service_account,
            node_secret=self.node_secret,
            client_secret=self.client_secret,
            certificate_folder=self.certificate_folder,
        )

    @classmethod
    def from_plan(cls, plan: DatabasePlan) -> Self:
        """The section that says the same."""
        return cls.model_validate(
            {
                "engine": plan.engine,
                "namespaces": dict(plan.namespaces),
                "ports": plan.ports,
                "service": plan.service,
                "public_service": plan.public_service,
                "replicas": plan.replicas,
                # Whole numbers are processors in the file, and thousandths of them in the plan.
                "cpu": None if plan.cpu is None else f"{plan.cpu}m",
                "memory": plan.memory,
                "storage": plan.storage,
                "must_survive": plan.must_survive,
                "service_account": plan.service_account,
                "node_secret": plan.node_secret,
                "client_secret": plan.client_secret,
                "certificate_folder": plan.certificate_folder,
            }
        )
