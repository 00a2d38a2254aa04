"""How a node is started is read out of whatever way its command is written in; a join list is held against the plan."""

from dataclasses import replace

import pytest

from analysis.facts import COCKROACHDB
from analysis.joining import judge_join_lists, read_start
from analysis.shell import commands
from analysis.verdict import Outcome
from provision.lab.topology import aws_calico
from tests.unit.analysis.database_world import at, change, cockroachdb, command, join_list, workloads


@pytest.fixture
def plan():
    return aws_calico("demo", engine=COCKROACHDB).plan


def judge(plan, words, region="us-east-2"):
    held = change(workloads(plan), "stateful_sets", lambda found: replace(found, command=tuple(words)), at(region))
    return judge_join_lists(plan, held, cockroachdb(plan))


@pytest.mark.parametrize(
    "words",
    [
        ["/cockroach/cockroach", "start", "--join=a,b", "--join", "c", "--insecure"],
        ["start", "--insecure", "--join", "a,b", "--join=c"],
        ["/bin/bash", "-ecx", "exec /cockroach/cockroach start --join a,b --join=c --insecure"],
        ["sh", "-c", "set -e\ncd / && exec cockroach start \\\n  --join a,b \\\n  --join='c' --insecure; echo done"],
        ["sh", "-c", '# the start\n(cockroach start --join "a,b" --join c --insecure) || exit 1'],
        ["bash", "-e", "-c", "test -f x || cockroach start --join a,b --join c --insecure 2>&1 | cat"],
    ],
)
def test_a_start_is_found_however_it_is_written(words):
    start = read_start(words)
    assert start.verb == "start"
    assert start.values("--join") == ["a,b", "c"]
    assert start.values("--insecure") == [""]


def test_substitutions_stay_as_they_are_written():
    script = (
        "cockroach start --advertise-host $(hostname -f) --cache $(expr $(free) / 4)MiB --locality region=${R:-a b}"
    )
    start = read_start(["/bin/sh", "-c", f"{script} --attrs `date +%s`"])
    assert start.flags == (
        ("--advertise-host", "$(hostname -f)"),
        ("--cache", "$(expr $(free) / 4)MiB"),
        ("--locality", "region=${R:-a b}"),
        ("--attrs", "`date +%s`"),
    )


@pytest.mark.parametrize("words", [[], ["sleep", "infinity"], ["/bin/sh", "-c"], ["sh", "-c", "echo cockroach"]])
def test_what_starts_no_node_is_no_start(words):
    assert read_start(words) is None


@pytest.mark.parametrize("script", ["echo $(date", "echo `date", "echo ${x", "echo 'x"])
def test_a_script_without_its_end_cannot_be_read(plan, script):
    with pytest.raises(ValueError):
        commands(["sh", "-c", script])
    assert judge(plan, ["sh", "-c", script]).outcome is Outcome.INCONCLUSIVE


def test_an_escaped_quotation_is_none():
    assert commands(["sh", "-c", r"echo it\'s \$x; echo y"]) == [["echo", "it's", "$x"], ["echo", "y"]]


@pytest.mark.parametrize("suffix", ["", ":26257", ".svc.cluster.local", ".svc.cluster.local:26257", ".svc"])
def test_names_may_be_short_or_full(plan, suffix):
    names = ",".join(name + suffix for name in join_list(plan).split(","))
    assert judge(plan, command(names, "us-east-2")).outcome is Outcome.MET


def test_a_misspelt_region_is_told_with_what_was_meant(plan):
    verdict = judge(plan, command(join_list(plan).replace("us-west-1", "us-wst-1"), "us-east-2"))
    assert verdict.outcome is Outcome.VIOLATED
    wrong, missing = verdict.findings
    assert wrong.subject == "us-east-2: StatefulSet cockroachdb"
    assert (
        "cockroachdb-0.cockroachdb.us-wst-1 is no node of the plan, "
        "did you mean 'cockroachdb-0.cockroachdb.us-west-1'?" in wrong.observed
    )
    assert missing.observed.startswith("cockroachdb-0.cockroachdb.us-west-1, ")
    assert "--join cockroachdb-0.cockroachdb.us-east-1," in verdict.remedy


def test_a_list_that_was_not_extended_is_told(plan):
    short = ",".join(name for name in join_list(plan).split(",") if "us-west-1" not in name)
    (missing,) = judge(plan, command(short, "us-east-2")).findings
    assert missing.observed.endswith("missing")


@pytest.mark.parametrize(
    ("words", "observed"),
    [
        (["cockroach", "start", "--insecure"], "it has none"),
        (["cockroach", "start-single-node", "--insecure"], "joins nobody"),
        (["cockroach", "start", "--join", "cockroachdb-0.cockroachdb.us-east-1:26258"], "another port than 26257"),
    ],
)
def test_other_ways_to_join_nobody_are_told(plan, words, observed):
    verdict = judge(plan, words)
    assert verdict.outcome is Outcome.VIOLATED
    assert observed in verdict.findings[0].observed


def test_a_command_that_says_nothing_leaves_the_question_open(plan):
    verdict = judge(plan, [])
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "none (image cockroachdb/cockroach:v23.2.5)" in verdict.observed


def test_a_region_without_its_stateful_set_leaves_the_question_open(plan):
    held = change(workloads(plan), "stateful_sets", lambda found: None, at("us-east-2"))
    assert judge_join_lists(plan, held, cockroachdb(plan)).outcome is Outcome.INCONCLUSIVE
