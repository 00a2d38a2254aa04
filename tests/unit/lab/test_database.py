"""What plays the database in a cluster: pods with names, and the Services that give them."""

from analysis.plan import DatabasePlan
from provision.lab import database
from provision.lab.topology import aws_calico, azure_cilium

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
