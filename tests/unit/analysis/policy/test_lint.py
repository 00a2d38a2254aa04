"""The linter says what is wrong with manifests, where, and what they come to, in words that need no explanation."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from textwrap import dedent

import pytest

from analysis.policy.__main__ import CLEAN, COMPLAINTS, USAGE, main
from analysis.policy.lint.findings import CHECKS, Level
from analysis.policy.lint.manifests import read_manifests
from analysis.policy.lint.report import COLOURED, as_text
from analysis.policy.lint.run import Linted, lint
from tests.unit.analysis.policy.vectors import document

SAMPLE = Path(__file__).parents[4] / "docs" / "policy-sample.yaml"
Run = Callable[..., tuple[int, str]]

CALICO = """
    apiVersion: projectcalico.org/v3
    kind: GlobalNetworkPolicy
    metadata: {name: g}
    spec:
      selector: app == "db"
"""
CILIUM = """
    apiVersion: cilium.io/v2
    kind: CiliumNetworkPolicy
    metadata: {name: c, namespace: web}
    spec:
      endpointSelector: {matchLabels: {app: db}}
"""
KUBERNETES = """
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata: {name: k, namespace: web}
    spec:
      podSelector: {matchLabels: {app: db}}
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs the command in a folder of its own; returns its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, str]:
        code = main(["lint", *arguments])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return command


def found(*texts: str) -> Linted:
    return lint(each for text in texts for each in read_manifests("p.yaml", dedent(text)))


def told(*texts: str) -> list[tuple[str, int]]:
    """Sort and line of the findings; the first line of a manifest here is empty, so `apiVersion` is in line 2."""
    return [(each.check, each.line) for each in found(*texts).findings]


def test_the_published_sample_is_explained(run: Run) -> None:
    code, text = run(str(SAMPLE))
    words = " ".join(text.split())
    assert code == COMPLAINTS
    assert "Four rules (ingress 1 and 2, egress 1 and 2) can never match" in words
    assert 'The label geography cannot be "us-east-2" and "us-west-1" at once: a label has one value.' in words
    assert '`geography == "us-east-2" || geography == "us-west-1"` was meant' in words
    assert '`geography in {"us-east-2", "us-west-1"}`' in words
    assert "What remains denies everything, in both directions" in words
    assert "take no new connection and open none: DNS is blocked too." in words
    assert "To mend its rules is not enough: DNS needs a rule of its own" in words
    assert "federation or by a labelled GlobalNetworkSet" in words


def test_the_sample_is_the_published_policy() -> None:
    (manifest,) = read_manifests("sample", SAMPLE.read_text(encoding="utf-8"))
    assert manifest.document["spec"] == document()["library"]["seed-s1"]["spec"]  # type: ignore[union-attr]


def test_a_policy_that_is_well_is_left_in_peace(run: Run) -> None:
    good = document()["library"]["good-a"]
    object_ = {"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "metadata": {"name": good["name"]}}
    Path("good.json").write_text(json.dumps(object_ | {"spec": good["spec"]}), encoding="utf-8")
    assert run("good.json") == (CLEAN, "1 object, nothing to complain about\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", [("not-yaml", 1)]),
        ("just words", [("no-object", 1)]),
        ("kind: NetworkPolicy\nmetadata: {name: x}", [("no-object", 1)]),
        (CALICO.replace("org/v3", "org/v2"), [("unknown-version", 2)]),
        (CALICO.replace("GlobalNetworkPolicy", "GlobalNetworkPolcy"), [("unknown-version", 3)]),
        (CALICO + "      order: 1\n      order: 2", [("repeated-field", 8)]),
        (CALICO + "      ingress: [{action: Allow, desination: {ports: [1]}}]", [("unknown-field", 7)]),
        (CALICO + "      ingress: [{action: allow}]", [("invalid", 7)]),
        (CALICO + "      ingress:\n      - action: Allow\n        source: {selector: a = 1}", [("invalid", 9)]),
        (CALICO + "      ingress: [{action: Allow, destination: {ports: [80]}}]", [("invalid", 7)]),
        (CALICO + "      ingress: [{action: Allow, protocol: TCP, destination: {ports: ['9:8']}}]", [("invalid", 7)]),
        (CALICO + "      preDNAT: true", [("invalid", 7)]),
        (CALICO.replace('app == "db"', "all()"), [("selects-host-endpoints", 6)]),
        (CALICO.replace('"db"', '"d b"'), [("impossible-value", 6)]),
        (CALICO + "      types: [Ingress]\n      egress: [{action: Deny}]", [("direction-not-in-types", 8)]),
        (
            CALICO + "      ingress:\n      - {action: Deny}\n      - {action: Allow}",
            [("denies-everything", 2), ("shadowed", 9)],
        ),
        (
            CALICO + "      types: [Egress]\n      egress: [{action: Allow, protocol: TCP, destination: {ports: [1]}}]",
            [("dns-blocked", 8)],
        ),
        (
            CALICO + "      ingress: [{action: Allow, source: {namespaceSelector: a != 'b'}}]",
            [("means-outsiders-too", 7)],
        ),
        (KUBERNETES + "      ingress: [{form: []}]", [("unknown-field", 7)]),
        (KUBERNETES + "      ingress: [{from: [{}]}]", [("invalid", 7)]),
        (
            KUBERNETES + "      ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}}]}]",
            [("invalid", 7)],
        ),
        (KUBERNETES + "      ingress: [{ports: [{port: http, endPort: 9}]}]", [("invalid", 7)]),
        (KUBERNETES + "      policyTypes: [Egress]\n      egress: [{ports: [{port: 443}]}]", [("dns-blocked", 8)]),
        (CILIUM, [("invalid", 5)]),
        (CILIUM + "      ingress: [{fromEntities: [nobody]}]", [("invalid", 7)]),
        (CILIUM + "      ingress: [{fromEntities: [all], fromCIDR: [1.0.0.0/8]}]", [("invalid", 7)]),
        (CILIUM + "      ingress: [{}]", [("empty-rule", 7)]),
        (CILIUM + "      ingressDeny: [{toPorts: [{ports: [{port: '80'}], rules: {http: []}}]}]", [("invalid", 7)]),
        (CILIUM + "      egress: [{toEndpoints: [{}], toPorts: [{ports: [{port: '70000'}]}]}]", [("invalid", 7)]),
        (
            CILIUM + "      ingress: [{fromEndpoints: []}]",
            [("empty-peer-list", 7)],
        ),
    ],
)
def test_mistakes_are_found_in_their_lines(text: str, expected: list[tuple[str, int]]) -> None:
    assert told(text) == expected


def test_objects_of_other_kinds_are_none_of_its_business() -> None:
    assert found("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nsepc: {}") == Linted((), 0)


def test_objects_of_lists_and_of_later_documents_have_their_own_lines() -> None:
    text = """
        apiVersion: v1
        kind: List
        items:
        - apiVersion: networking.k8s.io/v1
          kind: NetworkPolicy
          metadata: {name: one, namespace: web}
          spec:
            podSelector: {}
            ingress:
            - form: []
        ---
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: two, namespace: web}
        spec:
          podSelektor: {}
    """
    assert told(text) == [("unknown-field", 11), ("unknown-field", 17)]


def test_the_misspelt_field_is_told_with_what_was_meant(run: Run) -> None:
    Path("p.yaml").write_text(dedent(CALICO + "      ingress: [{action: Allow, desination: {}}]"), encoding="utf-8")
    code, text = run("p.yaml")
    assert code == COMPLAINTS
    assert "GlobalNetworkPolicy has no field spec.ingress[0].desination" in text
    assert "'destination' was meant." in text


def test_the_same_policy_of_three_clusters_is_no_conflict() -> None:
    good = document()["library"]
    texts = [
        json.dumps(
            {
                "apiVersion": "projectcalico.org/v3",
                "kind": "GlobalNetworkPolicy",
                "metadata": {"name": good[key]["name"]},
                "spec": good[key]["spec"],
            }
        )
        for key in ("good-a", "good-b", "good-c")
    ]
    assert found(*texts) == Linted((), 3)


def test_dns_that_another_policy_allows_is_not_missed() -> None:
    narrow = KUBERNETES + "      policyTypes: [Egress]\n      egress: [{ports: [{port: 443}]}]"
    dns = KUBERNETES.replace("name: k", "name: dns") + (
        "      policyTypes: [Egress]\n      egress: [{ports: [{port: 53, protocol: UDP}]}]"
    )
    elsewhere = dns.replace("app: db", "app: other")
    assert told(narrow, dns) == []
    assert told(narrow, elsewhere) == [("dns-blocked", 8)]


def test_who_is_there_is_taken_into_account(run: Run) -> None:
    pod = {
        "kind": "Pod",
        "metadata": {"name": "db-0", "namespace": "us-east-1", "labels": {"app": "cockroachdb"}},
        "spec": {"nodeName": "n", "containers": [{"name": "db"}]},
        "status": {"podIP": "10.0.0.1", "phase": "Running"},
    }
    Path("pods.json").write_text(json.dumps({"kind": "List", "items": [pod]}), encoding="utf-8")
    code, text = run(str(SAMPLE), "--endpoints", "pods.json")
    assert code == COMPLAINTS
    assert "nobody has the label geography" in text
    assert "Four rules" in text


def test_json_has_everything_that_the_text_has(run: Run) -> None:
    code, text = run(str(SAMPLE), "--format", "json")
    report = json.loads(text)
    assert code == COMPLAINTS
    assert (report["objects"], report["errors"], report["warnings"], report["notes"]) == (1, 4, 1, 0)
    dead = [each for each in report["findings"] if each["check"] == "unsatisfiable-selector"]
    lines = SAMPLE.read_text(encoding="utf-8").splitlines()
    assert [each["place"] for each in dead] == ["ingress rule 1", "ingress rule 2", "egress rule 1", "egress rule 2"]
    assert all("- action:" in lines[each["line"] - 1] for each in dead)
    assert {each["object"] for each in dead} == {"GlobalNetworkPolicy default.geography-isolation"}


def test_sarif_has_what_the_standard_requires(run: Run) -> None:
    code, text = run(str(SAMPLE), "--format", "sarif")
    log = json.loads(text)
    assert code == COMPLAINTS
    assert log["version"] == "2.1.0"
    (one,) = log["runs"]
    rules = one["tool"]["driver"]["rules"]
    assert one["tool"]["driver"]["name"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for result in one["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        assert result["message"]["text"].endswith(".")
        place = result["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"].endswith("policy-sample.yaml")
        assert place["region"]["startLine"] >= 1


def test_standard_input_and_folders_are_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO(dedent(CALICO)))
    assert run("-") == (CLEAN, "1 object, nothing to complain about\n")
    Path("inside").mkdir()
    Path("inside/p.yml").write_text(dedent(CALICO), encoding="utf-8")
    assert run("inside") == (CLEAN, "1 object, nothing to complain about\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.yaml"], "missing.yaml cannot be read: No such file or directory"),
        (["."], "there is no .yaml or .yml or .json file in ."),
        ([str(SAMPLE), "--endpoints", str(SAMPLE)], "there is no pod in it"),
    ],
)
def test_wrong_usage_is_told_apart_from_findings(run: Run, arguments: list[str], words: str) -> None:
    code, text = run(*arguments)
    assert code == USAGE
    assert words in text


def test_notes_alone_do_not_fail_a_pipeline(run: Run) -> None:
    Path("p.yaml").write_text(dedent(CILIUM + "      ingress: [{}]"), encoding="utf-8")
    code, text = run("p.yaml")
    assert code == CLEAN
    assert "1 note in 1 object" in text


def test_colours_are_for_terminals_alone(run: Run) -> None:
    _, text = run(str(SAMPLE))
    assert "\x1b" not in text
    linted = lint(read_manifests("sample", SAMPLE.read_text(encoding="utf-8")))
    assert "\x1b[31;1merror" in as_text(linted, COLOURED)


def test_the_page_shows_what_is_really_printed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SAMPLE.parents[1])
    _, text = run("docs/policy-sample.yaml")
    assert text in (SAMPLE.parent / "policy-lint.md").read_text(encoding="utf-8")


def test_every_sort_of_finding_is_documented() -> None:
    page = (SAMPLE.parent / "policy-lint.md").read_text(encoding="utf-8")
    assert [check for check in CHECKS if f"`{check}`" not in page] == []
    assert {level for level, _ in CHECKS.values()} == set(Level)
