"""What plays the database in a cluster: pods with names, the Services that give them, and what runs in them."""

import pytest
import yaml

from analysis.facts import COCKROACHDB, POSTGRESQL
from analysis.plan import DatabasePlan
from provision.lab import database
from provision.lab.topology import DatabaseTimers, aws_calico, azure_cilium

PAUSE = "pause"
LAB = aws_calico("unit")
PLAN = DatabasePlan(cpu=4000, memory=8 << 30)


def of(objects, kind):
    return {obj["metadata"]["name"]: obj for obj in objects if obj["kind"] == kind}


def test_each_worker_has_a_member_with_a_name_of_its_own():
    region = aws_calico("unit").regions[1]
    pods = of(database.objects(LAB, region, PLAN, PAUSE), "Pod")
    assert {name: pod["spec"]["nodeName"] for name, pod in pods.items()} == {
        f"cockroachdb-{number}": f"us-east-2-node-{number + 2}" for number in range(3)
    }
    assert all(
        (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == (name, "cockroachdb") for name, pod in pods.items()
    )
    assert {pod["metadata"]["namespace"] for pod in pods.values()} == {"us-east-2"}


def test_where_every_node_is_a_control_plane_all_of_them_work():
    region = azure_cilium("unit", nodes=2).regions[0]
    pods = of(database.objects(LAB, region, PLAN, PAUSE), "Pod").values()
    assert [pod["spec"]["nodeName"][-1] for pod in pods] == ["1", "2", "1"]


def test_members_are_named_before_they_are_ready_and_clients_have_an_address():
    region = aws_calico("unit").regions[0]
    services = of(database.objects(LAB, region, PLAN, PAUSE), "Service")
    headless, public = services["cockroachdb"]["spec"], services["cockroachdb-public"]["spec"]
    assert (headless["clusterIP"], headless["publishNotReadyAddresses"]) == ("None", True)
    assert public["clusterIP"].startswith("172.20.")
    assert {port["name"]: port["port"] for port in headless["ports"]} == {"grpc": 26257, "http": 8080}


def test_members_ask_for_what_is_planned():
    region = aws_calico("unit").regions[0]

    def resources(plan):
        (stateful_set,) = of(database.objects(LAB, region, plan, PAUSE), "StatefulSet").values()
        (container,) = stateful_set["spec"]["template"]["spec"]["containers"]
        return container["resources"]

    assert resources(PLAN)["requests"] == {"cpu": "4000m", "memory": str(8 << 30)}
    assert resources(DatabasePlan()) == {}


def running(engine=POSTGRESQL, region=0):
    lab = aws_calico("unit", database=True, engine=engine)
    where = lab.regions[region]
    return where, database.objects(lab, where, lab.plan.database, PAUSE)


def container_of(stateful_set):
    (container,) = stateful_set["spec"]["template"]["spec"]["containers"]
    return container


def patroni(region=0):
    _, objects = running(region=region)
    return yaml.safe_load(of(objects, "ConfigMap")["cockroachdb"]["data"]["patroni.yaml"])


def test_a_member_of_the_stand_in_says_where_it_is_and_asks_its_own_regions_store_only():
    member = patroni(region=1)
    assert member["name"] == "cockroachdb-0.us-east-2"
    assert member["tags"] == {"region": "us-east-2"}
    assert member["postgresql"]["connect_address"] == "cockroachdb-0.cockroachdb.us-east-2.svc.cluster.local:26257"
    assert member["etcd3"]["hosts"] == ["database-store-0.database-store.us-east-2.svc.cluster.local:2379"]
    assert member["etcd3"]["use_proxies"]


def test_nobody_gets_into_the_stand_in_by_the_network_without_tls_and_a_certificate():
    rules = [rule.split() for rule in patroni()["postgresql"]["pg_hba"]]
    remote = [rule for rule in rules if rule[0] != "local"]
    assert {rule[0] for rule in remote} == {"hostssl"}
    assert {rule[4] for rule in remote} == {"cert"}
    assert all(rule[3] == "peer" for rule in rules if rule[0] == "local")
    assert {"auth": "reject"} in patroni()["bootstrap"]["initdb"]


def test_the_stand_in_acknowledges_nothing_that_one_other_member_has_not():
    replication = patroni()["bootstrap"]["dcs"]
    assert (replication["synchronous_mode"], replication["synchronous_mode_strict"]) == (True, True)
    assert replication["synchronous_node_count"] == 1


@pytest.mark.parametrize(("timers", "lease"), [(DatabaseTimers.FAST, 8), (DatabaseTimers.SLOW, 20)])
def test_a_lost_primary_is_replaced_as_soon_as_was_asked(timers, lease):
    lab = aws_calico("unit", database=True, database_timers=timers)
    (region, *_) = lab.regions
    objects = database.objects(lab, region, lab.plan.database, PAUSE)
    member = yaml.safe_load(of(objects, "ConfigMap")["cockroachdb"]["data"]["patroni.yaml"])
    assert member["bootstrap"]["dcs"]["ttl"] == lease


@pytest.mark.parametrize("engine", [POSTGRESQL, COCKROACHDB])
def test_no_process_of_the_database_is_root(engine):
    _, objects = running(engine)
    for stateful_set in of(objects, "StatefulSet").values():
        assert stateful_set["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == 1000


def test_stores_know_each_other_in_all_regions_and_are_no_database_pods():
    _, objects = running()
    store = of(objects, "StatefulSet")["database-store"]
    assert store["spec"]["template"]["metadata"]["labels"] == {"app": "database-store"}
    (members,) = [word for word in container_of(store)["args"] if word.startswith("--initial-cluster=")]
    assert [entry.split("=")[0] for entry in members.partition("=")[2].split(",")] == [
        "us-east-1",
        "us-east-2",
        "us-west-1",
    ]
    assert "--peer-client-cert-auth" in container_of(store)["args"]


def test_cockroachdb_joins_all_nodes_of_all_regions_and_says_where_it_is():
    region, objects = running(engine=COCKROACHDB)
    container = container_of(of(objects, "StatefulSet")["cockroachdb"])
    start = container["command"][-1]
    joined = start.partition("--join=")[2].split()[0].split(",")
    assert len(joined) == len(set(joined)) == 9
    assert "cockroachdb-2.cockroachdb.us-west-1.svc.cluster.local:26257" in joined
    assert f"--locality=region={region.name},zone={region.name}a" in start
    assert "--insecure" not in start
    assert container["readinessProbe"]["httpGet"]["path"] == "/health?ready=1"
    assert "database-store" not in of(objects, "StatefulSet")


def test_cockroachdb_is_initialised_from_one_region_only():
    pods = [name for region in range(3) for name in of(running(COCKROACHDB, region)[1], "Pod")]
    assert pods == ["cluster-init"]
