"""What the observer of DNS makes of objects, logs and output."""

from ipaddress import IPv4Address

import pytest

from analysis.facts import COCKROACHDB, DatabaseMember, ProbeProtocol, Purpose
from probes.errors import ApiError
from probes.observers.dns import (
    join_list,
    list_dns,
    questions_of,
    read_complaints,
    read_entrances,
    read_member,
    read_service,
)
from provision.lab import database, seed
from provision.lab.topology import aws_calico, azure_cilium

RELOADED = ["[INFO] Reloading", "[INFO] plugin/reload: Running configuration SHA512 = 1", "[INFO] Reloading complete"]
REFUSED = ["[INFO] Reloading", "[ERROR] Restart failed: Corefile:12 - Error during parsing: Unknown directive"]


@pytest.mark.parametrize(
    ("lines", "complaints"),
    [([], 0), (RELOADED, 0), (REFUSED, 1), (REFUSED * 2, 1), ([*REFUSED, *RELOADED], 0), ([*RELOADED, *REFUSED], 1)],
)
def test_a_refused_configuration_counts_until_another_one_is_taken(lines, complaints):
    assert len(read_complaints(lines)) == complaints


def test_a_loop_is_complained_of():
    assert read_complaints(["[FATAL] plugin/loop: Loop (127.0.0.1:53 -> :53) detected for zone ."])


MEMBER = DatabaseMember("eastus", "cockroachdb-0", "eastus", IPv4Address("10.10.0.7"), ready=True)
SAID = """\
cockroachdb-0.cockroachdb.eastus.svc.cluster.local
search eastus.svc.cluster.local svc.cluster.local cluster.local
nameserver 10.43.0.10
options ndots:5 timeout:2
= cockroachdb-0.cockroachdb.westus 10.11.0.5 STREAM cockroachdb-0.cockroachdb.westus.svc.cluster.local
10.11.0.5 DGRAM
= cockroachdb-1.cockroachdb.westus
"""


def test_a_database_pod_is_read_with_its_names_and_its_resolver():
    member = read_member(MEMBER, SAID.splitlines())
    assert member.full_name == "cockroachdb-0.cockroachdb.eastus.svc.cluster.local"
    assert member.short_names == (
        ("cockroachdb-0.cockroachdb.westus", IPv4Address("10.11.0.5")),
        ("cockroachdb-1.cockroachdb.westus", None),
    )
    assert member.search == ("eastus.svc.cluster.local", "svc.cluster.local", "cluster.local")
    assert member.ndots == 5


def test_a_database_pod_that_says_nothing_has_no_names():
    member = read_member(MEMBER, [])
    assert (member.full_name, member.short_names) == ("", ())


@pytest.fixture
def cilium():
    return azure_cilium("demo", engine=COCKROACHDB)


class Api:
    """A cluster that lists what a lab starts with."""

    def __init__(self, lab, region):
        self.region = region.name
        self._objects = seed.objects(lab, region)

    def items(self, path, **query):
        kinds = {"pods": "Pod", "services": "Service", "nodes": "Node"}
        return [found for found in self._objects if found["kind"] == kinds[path.rpartition("/")[2]]]

    def get(self, path, **query):
        name = path.rpartition("/")[2]
        for found in self._objects:
            if found["kind"] == "ConfigMap" and found["metadata"]["name"] == name:
                return found
        raise ApiError(self.region, f"GET {path}", 404, "not found")

    def text(self, path, **query):
        return ""


@pytest.mark.parametrize("topology", [aws_calico, azure_cilium])
def test_a_lab_is_listed_with_all_its_parts(topology):
    lab = topology("demo", engine=COCKROACHDB)
    region = lab.regions[0]
    listed = list_dns(Api(lab, region), lab.plan)
    assert listed.configuration.pieces[0][0] == "coredns/Corefile"
    assert len(listed.servers) == 2
    assert [member.pod for member in listed.members] == ["cockroachdb-0", "cockroachdb-1", "cockroachdb-2"]
    assert {service.name: service.headless for service in listed.services} == {
        "cockroachdb": True,
        "cockroachdb-public": False,
    }
    inside = {(e.address, e.port) for e in listed.entrances if e.internal}
    assert (region.plan.dns_address, 53) in inside


def test_ports_of_nodes_are_entrances_with_their_protocols(cilium):
    region = cilium.regions[0]
    found = [e for e in list_dns(Api(cilium, region), cilium.plan).entrances if not e.internal]
    assert {entrance.address for entrance in found} == {node.address for node in region.nodes}
    assert {entrance.port for entrance in found} == {region.dns_port}
    assert {entrance.protocol for entrance in found} == {ProbeProtocol.UDP, ProbeProtocol.TCP}


def test_services_that_lead_elsewhere_are_no_entrances(cilium):
    services = Api(cilium, cilium.regions[0]).items("/api/v1/services")
    others = [each for each in services if not each["metadata"]["name"].startswith("kube-dns")]
    assert others
    assert not list(read_entrances("eastus", others, []))


def test_the_headless_service_publishes_unready_pods(cilium):
    region = cilium.regions[0]
    objects = database.objects(cilium, region, cilium.plan.database, "pause")
    (service,) = [
        read_service(region.name, o)
        for o in objects
        if o["metadata"]["name"] == "cockroachdb" and o["kind"] == "Service"
    ]
    assert service.headless
    assert service.unready_too
    assert service.ports == (("grpc", 26257), ("http", 8080))


def test_every_name_is_asked_for_and_every_target_itself(cilium):
    listed = {region.name: list_dns(Api(cilium, region), cilium.plan) for region in cilium.regions}
    questions = list(questions_of(cilium.plan, "eastus", listed, databases=True))
    asked = [question.name for question in questions if question.purpose is Purpose.DATABASE_POD]
    assert len(asked) == len(set(asked)) == 9
    targets = {(question.server, question.port) for question in questions if question.direct}
    assert targets == {(node.address, r.dns_port) for r in cilium.regions[1:] for node in r.nodes}
    absent = [question.name for question in questions if question.purpose is Purpose.ABSENT and not question.direct]
    assert len(absent) == len(set(absent)) == 4
    without = list(questions_of(cilium.plan, "eastus", listed, databases=False))
    assert not any(question.purpose.value.startswith("database") for question in without)


def test_the_join_list_names_all_pods_of_all_regions(cilium):
    names = join_list(cilium.plan)
    assert len(names) == 9
    assert "cockroachdb-2.cockroachdb.northeurope" in names
