"""An environment file becomes a plan, defaults filled in; samples, schema and documentation say the same."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from analysis.facts import COCKROACHDB, POSTGRESQL
from analysis.plan import Budgets, Cni, DatabasePlan, Encapsulation, Plan, UnderlayPlan
from provision.environment import Environment, lab_environment
from provision.environment_file import load_environment
from provision.environment_schema import SCHEMA_FILE, schema_text
from provision.errors import ProvisionError
from provision.lab.topology import aws_calico
from provision.provider import DEFAULT_LAB_PROFILE, resolve_environment
from provision.sections.provider import AttachSettings, LabSettings

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = ROOT / "environments"


def sample(name: str) -> Plan:
    return load_environment(SAMPLES / name, kubeconfigs=False).plan()


def environment_with(**settings: object) -> Environment:
    """The environment of a lab with some of it said otherwise, as if it stood in the file."""
    return Environment.model_validate(lab_environment("aws-calico").model_dump(by_alias=True) | settings)


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_samples_are_good(path: Path) -> None:
    assert load_environment(path, kubeconfigs=False).plan().regions


def test_the_aws_sample_is_the_published_environment() -> None:
    plan = sample("aws-calico.yaml")
    published = aws_calico("aws-calico", engine=COCKROACHDB).plan
    assert plan.cni is Cni.CALICO_BGP
    assert plan.encapsulation is Encapsulation.IPIP
    assert plan.services_routed
    assert plan.regions == published.regions
    # The lab's caches are short and its database is small, so that nobody waits for them; its routes have no grace.
    mine = {name: getattr(plan.budgets, name) for name in ("dns_change", "rejoin", "stall")}
    assert plan.budgets == replace(published.budgets, **mine)
    assert plan.database is not None
    assert published.database is not None
    figures = {"cpu": None, "memory": None, "storage": None, "must_survive": ()}
    assert replace(plan.database, **figures) == replace(published.database, **figures)
    assert plan.underlay == replace(published.underlay, path_mtu=plan.underlay.path_mtu)
    assert plan.region("us-west-1").dns_address == IPv4Address("172.22.0.10")


def test_the_azure_sample_is_the_published_environment() -> None:
    plan = sample("azure-cilium.yaml")
    assert (plan.cni, plan.encapsulation) == (Cni.CILIUM_CLUSTERMESH, Encapsulation.VXLAN)
    assert [region.name for region in plan.regions] == ["eastus", "westus", "northeurope"]
    for number, region in enumerate(plan.regions, 1):
        assert region.network == IPv4Network(f"10.{number}.0.0/16")
        assert region.node_cidr == IPv4Network(f"10.{number}.1.0/24")
        assert region.pod_cidr == IPv4Network(f"10.{9 + number}.0.0/16")
        assert region.service_cidr == IPv4Network("10.43.0.0/16")
        assert region.dns_address == IPv4Address("10.43.0.10")
        assert (region.cluster_id, region.node_count, region.block_size) == (str(number), 3, 24)
        assert region.as_number is None
        assert region.route_reflector_selector is None
    assert not plan.services_routed
    assert plan.underlay.cloud == "azure"


def test_the_minimal_sample_gets_its_defaults() -> None:
    environment = load_environment(SAMPLES / "minimal.yaml", kubeconfigs=False)
    plan, first = environment.plan(), environment.regions[0]
    assert isinstance(environment.provider, AttachSettings)
    assert environment.context_of(first) == first.name
    assert environment.kubeconfig_of(first) == Path.home() / ".kube" / "config"
    assert plan.encapsulation is Encapsulation.IPIP
    assert plan.regions[0].dns_address == plan.regions[0].service_cidr[10]
    assert plan.regions[0].block_size == 26
    assert plan.regions[0].route_reflector_selector == "route-reflector=true"
    assert plan.budgets.convergence == timedelta(seconds=30)
    assert plan.database is None
    assert plan.egress is None
    assert plan.underlay == UnderlayPlan()
    assert plan.external_name is None
    assert plan.bulk_bytes == Plan.bulk_bytes


def test_a_relative_kubeconfig_starts_at_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "prod.yaml").write_text("kubeconfig: secrets/kubeconfig\n" + (SAMPLES / "minimal.yaml").read_text())
    environment = load_environment(tmp_path / "prod.yaml", kubeconfigs=False)
    assert environment.kubeconfig == tmp_path / "secrets" / "kubeconfig"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("2ms", 0.002), ("1m30s", 90), ("1.5s", 1.5), ("1h", 3600), ("2d", 172800), ("1500ms", 1.5)],
)
def test_durations_are_read_and_written(text: str, seconds: float) -> None:
    budgets = {"budgets": {"convergence": text}}
    environment = Environment.model_validate(lab_environment("aws-calico").model_dump(by_alias=True) | budgets)
    assert environment.budgets.convergence == timedelta(seconds=seconds)
    written = environment.model_dump(mode="json")["budgets"]["convergence"]
    assert Environment.model_validate(
        environment.model_dump(by_alias=True) | {"budgets": {"convergence": written}}
    ).budgets.convergence == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "provider", [LabSettings(kind="lab", name="demo", pods=3), AttachSettings()], ids=lambda settings: settings.kind
)
def test_an_environment_that_is_written_reads_back_the_same(
    tmp_path: Path, provider: LabSettings | AttachSettings
) -> None:
    plan = aws_calico("demo", regions=5, nodes=2).plan
    environment = Environment.from_plan(plan, provider=provider, kubeconfig=tmp_path / "verifier.kubeconfig")
    (tmp_path / "environment.yaml").write_text(environment.to_yaml())
    again = load_environment(tmp_path / "environment.yaml", kubeconfigs=False)
    assert again == environment
    assert again.plan() == plan


def test_an_intent_is_read_and_written_as_it_is(tmp_path: Path) -> None:
    written = {
        "roles": {"database": "app=crdb", "client": "role=client", "store": "app=etcd"},
        "allow": [
            {"from": "database", "to": "database", "ports": [26257, 26258, 8080]},
            {"from": "client", "to": "database", "ports": [26257], "regions": ["us-east-1"]},
            {"from": "database", "to": "store", "ports": [2379], "same_region": True},
        ],
        "region_label": "topology/region",
        "namespace": "policy-trials",
    }
    plan = environment_with(policy=written).plan()
    intent = plan.policy
    assert intent is not None
    assert intent.labels("database", "us-east-1") == {"app": "crdb", "topology/region": "us-east-1"}
    assert intent.labels("client", "us-east-1") == {"role": "client"}
    assert intent.ports(("client", "us-west-1"), ("database", "us-east-1")) == {26257}
    assert not intent.ports(("client", "us-east-1"), ("database", "us-west-1"))
    assert intent.ports(("database", "us-east-1"), ("store", "us-east-1")) == {2379}
    assert not intent.ports(("database", "us-east-1"), ("store", "us-west-1"))
    assert intent.namespace == "policy-trials"
    path = tmp_path / "environment.yaml"
    path.write_text(Environment.from_plan(plan, provider=AttachSettings()).to_yaml())
    assert load_environment(path, kubeconfigs=False).plan().policy == intent


def test_figures_of_the_file_are_those_of_the_plan() -> None:
    plan = environment_with(
        profile="custom",
        cni={"kind": "calico-bgp", "encapsulation": "vxlan"},
        underlay={
            "cloud": "azure",
            "path_mtu": 1400,
            "operators": ["198.51.100.20", "203.0.113.0/28"],
            "open_ports": [22, "8000-8010"],
        },
        dns={"external_name": "www.example.net"},
        bulk_bytes=5_000_000,
        budgets={
            "clock_offset": "100ms",
            "dns_answer": "500ms",
            "dns_change": "1m",
            "stall": "3s",
            "rejoin": "5m",
            "certificate": "7d",
        },
        database={
            "engine": "postgresql",
            "service": "crdb",
            "public_service": "crdb-sql",
            "replicas": 5,
            "cpu": "1500m",
            "memory": "8Gi",
            "storage": "50Gi",
            "must_survive": ["orders"],
            "service_account": "crdb",
            "node_secret": "crdb.node",
            "client_secret": "crdb.root",
            "certificate_folder": "/certs",
        },
    ).plan()
    assert plan.underlay == UnderlayPlan(
        "azure", 1400, (IPv4Network("198.51.100.20/32"), IPv4Network("203.0.113.0/28")), ((22, 22), (8000, 8010))
    )
    assert (plan.external_name, plan.bulk_bytes) == ("www.example.net", 5_000_000)
    assert plan.budgets == Budgets(
        clock_offset=timedelta(milliseconds=100),
        dns_answer=timedelta(milliseconds=500),
        dns_change=timedelta(minutes=1),
        stall=timedelta(seconds=3),
        rejoin=timedelta(minutes=5),
        certificate=timedelta(days=7),
    )
    assert plan.database is not None
    assert replace(plan.database, namespaces=()) == DatabasePlan(
        engine=POSTGRESQL,
        service="crdb",
        public_service="crdb-sql",
        replicas=5,
        cpu=1500,
        memory=8 << 30,
        storage=50 << 30,
        must_survive=("orders",),
        service_account="crdb",
        node_secret="crdb.node",
        client_secret="crdb.root",
        certificate_folder="/certs",
    )


@pytest.mark.parametrize(
    ("profile", "written", "cloud"),
    [("aws-calico", None, "aws"), ("custom", None, ""), ("custom", "azure", "azure"), ("custom", "other", "")],
)
def test_the_cloud_is_the_profiles_unless_the_file_says_more(profile: str, written: str | None, cloud: str) -> None:
    assert environment_with(profile=profile, underlay={"cloud": written}).plan().underlay.cloud == cloud


@pytest.mark.parametrize(
    ("written", "millis"), [(2, 2000), ("2", 2000), (0.5, 500), ("0.5", 500), ("500m", 500), ("2500m", 2500)]
)
def test_processors_are_read_as_kubernetes_reads_them(written: object, millis: int) -> None:
    plan = environment_with(database={"cpu": written}).plan()
    assert plan.database is not None
    assert plan.database.cpu == millis


@pytest.mark.parametrize(
    ("written", "size"), [("8Gi", 8 << 30), ("1.5Gi", 3 << 29), ("512Mi", 512 << 20), ("1G", 10**9), (1000, 1000)]
)
def test_memory_is_read_as_kubernetes_reads_it(written: object, size: int) -> None:
    plan = environment_with(database={"memory": written}).plan()
    assert plan.database is not None
    assert plan.database.memory == size


def test_a_plan_is_kept_by_the_file_that_is_written_from_it(tmp_path: Path) -> None:
    plan = replace(
        aws_calico("demo").plan,
        profile="custom",
        underlay=UnderlayPlan("", 1400, (IPv4Network("203.0.113.0/28"),), ((22, 22), (8000, 8010))),
        external_name="example.org",
        bulk_bytes=1_234_567,
        database=DatabasePlan(
            namespaces=tuple((name, "crdb") for name in ("us-east-1", "us-east-2", "us-west-1")),
            service="crdb",
            replicas=2,
            cpu=1250,
            memory=3 << 29,
        ),
        budgets=Budgets(stall=timedelta(milliseconds=1500)),
    )
    (tmp_path / "environment.yaml").write_text(Environment.from_plan(plan, provider=AttachSettings()).to_yaml())
    assert load_environment(tmp_path / "environment.yaml", kubeconfigs=False).plan() == plan


def test_the_lab_is_an_environment_too() -> None:
    assert resolve_environment("lab") == resolve_environment(f"lab:{DEFAULT_LAB_PROFILE}")
    assert resolve_environment("lab").plan().regions == aws_calico("lab").plan.regions


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("lab:aws-calcio", "did you mean 'aws-calico'?"),
        ("lab:", "expected  lab, or lab:PROFILE"),
        ("lba", "did you mean 'lab'?"),
        ("environments/aws-calcio.yaml", "did you mean 'environments/aws-calico.yaml'?"),
        ("no/such/folder.yaml", "no such file"),
    ],
)
def test_a_misspelt_environment_is_told_with_the_nearest_right_one(
    spec: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ProvisionError) as caught:
        resolve_environment(spec)
    assert said in str(caught.value)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("numbers", [{"regions": 1}, {"regions": 9}, {"nodes": 0}, {"pods": 51}])
def test_a_lab_of_an_impossible_size_is_refused(numbers: dict[str, int]) -> None:
    with pytest.raises(ProvisionError, match=r"a lab has|a region has|a node has"):
        lab_environment("aws-calico", **numbers)


def test_the_schema_in_docs_is_current() -> None:
    assert SCHEMA_FILE.read_text() == schema_text(), "run `make schema`"


def _keys(schema: dict[str, Any]) -> list[tuple[str, str]]:
    """Every (section, key) of the JSON schema; the section of the top level is empty."""
    keys = [("", name) for name in schema["properties"]]
    return keys + [
        (section, name) for section, model in schema["$defs"].items() for name in model.get("properties", ())
    ]


@pytest.mark.parametrize(("section", "key"), _keys(json.loads(SCHEMA_FILE.read_text())))
def test_every_key_is_documented(section: str, key: str) -> None:
    """docs/environment.md has a heading for each section, and below it a table row for each of its keys."""
    headings = {
        "": "The file",
        "AttachSettings": "provider",
        "LabSettings": "provider",
        "Region": "regions",
        "RouteReflectors": "regions[].route_reflectors",
        "CniSettings": "cni",
        "Underlay": "underlay",
        "Outside": "outside",
        "Ssh": "ssh",
        "DnsSettings": "dns",
        "AccessSettings": "database.access",
        "Database": "database",
        "PolicyIntent": "policy",
        "Flow": "policy.allow[]",
        "BudgetSettings": "budgets",
        "Egress": "egress",
        "Probes": "probes",
    }
    chapters = re.split(r"^## ", (ROOT / "docs" / "environment.md").read_text(), flags=re.MULTILINE)
    chapter = next(text for text in chapters if text.splitlines()[0].strip("`") == headings[section])
    assert re.search(rf"^\| `{key}` \|", chapter, flags=re.MULTILINE), f"document `{key}` under {headings[section]}"
