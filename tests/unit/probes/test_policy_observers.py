"""What policy says is read from every cluster and offered to it again; what it does is tried by pods of every role."""

import secrets
from dataclasses import replace
from datetime import timedelta
from functools import partial
from ipaddress import IPv4Address, IPv4Network

import pytest

from analysis.cilium import IpcacheEntry
from analysis.facts import Party, PolicyObject, ProbeOutcome, Way
from analysis.fleet import Capability
from analysis.plan import AllowedFlow, PolicyPlan, PolicyRole
from probes import deploy
from probes.deploy import ProbePod, ProbeSet
from probes.errors import ApiError
from probes.observers.enforcement import observe_enforcement
from probes.observers.policies import observe_policies
from probes.observers.policy_admission import APPLIED, lost, offer_again, path_of
from probes.observers.policy_knowledge import _is_pod, read_network_sets
from probes.roles import PART

EMPTY = ProbeSet("run", "meshproof", "2999-01-01T00:00:00+00:00", ())
CRD = "/apis/crd.projectcalico.org/v1"
NETWORKING = "/apis/networking.k8s.io/v1"
POLICY = PolicyPlan(
    roles=(PolicyRole("database", "app", "cockroachdb"), PolicyRole("client", "app", "cockroachdb-client")),
    allow=(AllowedFlow("database", "database", (26257,)), AllowedFlow("client", "database", (26257,))),
)


def named(name, spec=None, **metadata):
    return {"metadata": {"name": name, **metadata}, "spec": spec or {}}


# --- what is said -----------------------------------------------------------------------------------------------------


def pod(name, labels=None, owner=None, phase="Running"):
    container = {"name": "db", "ports": [{"name": "sql", "containerPort": 26257}]}
    metadata = {"namespace": "us-east-1", "labels": labels or {}, "ownerReferences": [owner] if owner else []}
    return {
        **named(name, {"nodeName": "n1", "containers": [container], "serviceAccountName": "cockroachdb"}, **metadata),
        "status": {"phase": phase, "podIP": "192.168.0.70"},
    }


OWNER = {"kind": "StatefulSet", "name": "cockroachdb", "controller": True}


@pytest.fixture
def said():
    template = {"metadata": {"labels": {"app": "cockroachdb", "geography": "us-east-1"}}}
    return {
        f"{NETWORKING}/networkpolicies": [named("np", {"podSelector": {}}, namespace="web", managedFields=[{}])],
        f"{CRD}/globalnetworkpolicies": [named("gnp", {"selector": "all()"})],
        "/apis/apps/v1/namespaces/us-east-1/statefulsets": [named("cockroachdb", {"template": template})],
        "/api/v1/pods": [
            pod(
                "cockroachdb-0",
                {"app": "cockroachdb"},
                {"kind": "StatefulSet", "name": "cockroachdb", "controller": True},
            ),
            pod("ended", phase="Succeeded"),
            pod("trial", {deploy.ROLE: PART}),
        ],
        "/api/v1/namespaces": [named("us-east-1", labels={"team": "data"})],
        "/api/v1/serviceaccounts": [named("cockroachdb", namespace="us-east-1")],
        f"{CRD}/felixconfigurations": [named("default", {"defaultEndpointToHostAction": "Accept"})],
    }


def test_objects_pods_and_what_gives_them_meaning_are_read(make_mesh, make_cluster, said):
    cluster = make_cluster("us-east-1", said)
    cluster.update = lambda path, body, **query: body
    seen = observe_policies(make_mesh(cluster), EMPTY)
    assert [(one.kind, one.api_version, one.namespace) for one in seen.objects] == [
        ("NetworkPolicy", "networking.k8s.io/v1", "web"),
        ("GlobalNetworkPolicy", "crd.projectcalico.org/v1", ""),
    ]
    assert "managedFields" not in seen.objects[0].document
    (endpoint,) = seen.endpoints
    assert endpoint.template_labels == (("app", "cockroachdb"), ("geography", "us-east-1"))
    assert endpoint.ports == (("sql", "TCP", 26257),)
    assert seen.namespaces[0].labels == (("team", "data"),)
    assert [account.name for account in seen.accounts] == ["cockroachdb"]
    assert seen.settings == (("us-east-1", "defaultEndpointToHostAction", "Accept"),)
    assert {admission.accepted for admission in seen.admissions} == {True}
    assert not seen.gaps


def test_a_part_that_may_not_be_read_is_a_gap_of_that_part_alone(make_mesh, make_cluster, said):
    said["/api/v1/serviceaccounts"] = ApiError("us-east-1", "GET", 403, "forbidden")
    cluster = make_cluster("us-east-1", said)
    cluster.update = lambda path, body, **query: body
    seen = observe_policies(make_mesh(cluster), EMPTY)
    assert [gap.parts for gap in seen.gaps] == [("accounts",)]
    assert len(seen.objects) == 2


def policy(document='{"metadata": {"name": "p"}, "spec": {"selector": "all()"}}', **changes):
    one = PolicyObject("us-east-1", "GlobalNetworkPolicy", "crd.projectcalico.org/v1", "", "p", document)
    return replace(one, **changes)


def test_policies_are_offered_as_a_strict_dry_run_and_stored_nowhere(make_mesh, make_cluster):
    cluster, asked = make_cluster("us-east-1"), []
    cluster.update = lambda path, body, **query: asked.append((path, query)) or body
    offer_again(make_mesh(cluster), [policy(), policy(kind="Tier")])
    assert asked == [(f"{CRD}/globalnetworkpolicies/p", {"dryRun": "All", "fieldValidation": "Strict"})]


def test_what_was_applied_is_offered_and_what_does_not_come_back_was_dropped(make_mesh, make_cluster):
    applied = '{\\"spec\\": {\\"selector\\": \\"all()\\", \\"typs\\": [\\"Ingress\\"]}}'
    document = f'{{"metadata": {{"name": "p", "annotations": {{"{APPLIED}": "{applied}"}}}}, "spec": {{}}}}'
    cluster = make_cluster("us-east-1")
    cluster.update = lambda path, body, **query: {**body, "spec": {"selector": "all()"}}
    (admission,) = offer_again(make_mesh(cluster), [policy(document)]).admissions
    assert (admission.accepted, admission.dropped) == (True, ("spec.typs",))


@pytest.mark.parametrize(("status", "accepted", "gaps"), [(400, False, 0), (422, False, 0), (403, None, 1)])
def test_a_refusal_is_an_answer_and_a_missing_right_a_gap(make_mesh, make_cluster, status, accepted, gaps):
    def refuse(path, body, **query):
        raise ApiError("us-east-1", "PUT", status, 'strict decoding error: unknown field "spec.typs"')

    cluster = make_cluster("us-east-1")
    cluster.update = refuse
    seen = offer_again(make_mesh(cluster), [policy()])
    assert seen.admissions[0].accepted is accepted
    assert [gap.parts for gap in seen.gaps] == [("admissions",)] * gaps


def test_what_is_lost_is_told_by_its_path_and_empty_fields_are_not_missed():
    offered = {"ingress": [{"ports": [26257]}, {"prots": [1]}], "order": 1, "notes": ""}
    assert list(lost(offered, {"ingress": [{"ports": [26257]}, {}]}, "spec")) == ["spec.ingress[1].prots", "spec.order"]


def test_a_policy_of_a_namespace_is_found_there():
    one = policy(kind="NetworkPolicy", api_version="networking.k8s.io/v1", namespace="web")
    assert path_of(one) == f"{NETWORKING}/namespaces/web/networkpolicies/p"


def test_network_sets_are_known_by_the_region_that_their_addresses_are_of(make_mesh, make_cluster):
    sets = [
        named(
            "others",
            {"nets": ["192.168.64.9", "192.168.64.10/32", "10.0.0.0/8", "fd00::/8"]},
            labels={"app": "cockroachdb"},
        ),
        named("web", {"nets": ["192.168.64.11"]}, labels={"app": "web"}),
    ]
    cluster = make_cluster("us-east-1", {f"{CRD}/globalnetworksets": sets})
    (known,) = read_network_sets(cluster, make_mesh(cluster).fleet.plan)
    assert (known.remote, known.source, len(known.networks)) == ("us-east-2", "network-set", 2)


def test_a_range_of_a_node_is_no_pod_that_an_agent_knows(make_mesh, make_cluster):
    region = make_mesh(make_cluster("us-east-1")).fleet.plan.region("us-east-2")
    assert _is_pod(IpcacheEntry(IPv4Network("192.168.64.9/32"), 7, None), region)
    assert not _is_pod(IpcacheEntry(IPv4Network("192.168.64.0/26"), 6, None), region)


# --- what is done, with pods on loopback ------------------------------------------------------------------------------


@pytest.fixture
def placed(make_mesh, make_cluster):
    """Two regions with a probe pod each, where nothing is ever stopped and nothing takes time."""
    lists = {"/api/v1/pods": [], "/api/v1/services": []}
    clusters = [make_cluster(region, dict(lists)) for region in ("us-east-1", "us-east-2")]
    run, pods = secrets.token_hex(4), []
    for number, cluster in enumerate(clusters, 1):
        address = IPv4Address(f"127.3.{number}.1")
        cluster.patch = lambda path, changes: None
        cluster.exec = partial(without_answers, cluster.exec)
        probe = ProbePod(cluster.region, f"n{number}", "meshproof", f"{run}-{number}", False, address)
        pods.append(deploy._start_listeners(cluster, probe, life=timedelta(seconds=60)).pod)
    mesh = make_mesh(*clusters, capabilities=(Capability.POLICY,))
    plan = mesh.fleet.plan
    mesh.fleet = replace(
        mesh.fleet,
        plan=replace(
            plan,
            policy=POLICY,
            egress=None,
            services_routed=False,
            budgets=replace(plan.budgets, convergence=timedelta(), pod_ready=timedelta()),
            regions=tuple(replace(region, dns_address=IPv4Address("127.1.9.9")) for region in plan.regions),
        ),
    )
    mesh.sweep_width = "none"
    yield mesh, ProbeSet("run", "meshproof", "2999-01-01T00:00:00+00:00", tuple(pods))
    names = [f"{made['metadata']['name']}-doors" for cluster in clusters for _, made in cluster.created]
    names += [name for probe in pods for name in (probe.listener_name, f"{probe.name}-doors")]
    clusters[0].local.run(*({"op": "stop", "name": name} for name in names))


def without_answers(execute, *args, answer=None, **options):
    """The double of a pod ends its program's input at once, and so whatever waits for an answer."""
    return execute(*args, **options)


def test_flows_are_tried_and_heard_between_pods_of_every_role_which_are_removed_afterwards(placed):
    mesh, probe_set = placed
    seen = observe_enforcement(mesh, probe_set)
    parties = {(one.party, one.role) for one in seen.participants}
    assert {(Party.ROLE, "database"), (Party.ROLE, "client"), (Party.STRANGER, ""), (Party.DNS, "")} <= parties
    direct = [trial for trial in seen.trials if trial.way is Way.DIRECT and trial.protocol in ("TCP", "UDP")]
    to_doors = [trial for trial in direct if seen.participants[trial.target].listening]
    assert {trial.outcome for trial in to_doors} == {ProbeOutcome.OPEN}
    assert {trial.heard for trial in to_doors} == {True}
    assert {trial.control for trial in to_doors} == {True, None}
    ways = {trial.way for trial in seen.trials}
    assert {Way.LABELLED_LATER, Way.AFTER_RESTART, Way.ESTABLISHED, Way.FRAGMENTED} <= ways
    assert all(one.healthy for one in seen.participants)
    cluster = mesh.cluster("us-east-1")
    worn = [made["metadata"]["labels"] for _, made in cluster.created]
    assert {"app": "cockroachdb", "geography": "us-east-1"}.items() <= worn[0].items()
    assert all(labels[deploy.OWNED] == "true" and labels[deploy.RUN] == "run" for labels in worn)
    assert any("app" not in labels for labels in worn)
    pods = [(path, made) for path, made in cluster.created if path.endswith("/pods")]
    assert {f"{path}/{made['metadata']['name']}" for path, made in pods} <= set(cluster.deleted)
    services = [made for path, made in cluster.created if path.endswith("/services")]
    owners = {owner["uid"] for made in services for owner in made["metadata"]["ownerReferences"]}
    assert len(owners) == len(services) > 0
    assert owners <= {made["metadata"]["uid"] for _, made in pods}


def test_where_no_service_may_be_created_flows_are_tried_all_the_same(placed):
    mesh, probe_set = placed
    cluster = mesh.cluster("us-east-1")
    create = cluster.create

    def refuse(path, body):
        if path.endswith("/services"):
            raise ApiError("us-east-1", "POST services", 403, "forbidden")
        return create(path, body)

    cluster.create = refuse
    seen = observe_enforcement(mesh, probe_set)
    assert {(gap.region, gap.subject) for gap in seen.gaps if gap.parts == ("node-ports",)} == {
        ("us-east-1", "node ports")
    }
    assert not [gap for gap in seen.gaps if "trials" in gap.parts]


def test_without_an_intent_nothing_is_placed(placed):
    mesh, probe_set = placed
    mesh.fleet = replace(mesh.fleet, plan=replace(mesh.fleet.plan, policy=None))
    seen = observe_enforcement(mesh, probe_set)
    assert (seen.trials, len(seen.gaps)) == ((), 1)
    assert not mesh.cluster("us-east-1").created
