"""One up and one down, whatever happens in between; and users' mistakes are told in one message."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

FACTS = """
@pytest.mark.requirement("NET-ADDR-001")
@pytest.mark.parametrize("n", range(4))
def test_facts(facts, require, n):
    assert len(facts.inventory.nodes) == 3
    require(met())
"""

ONCE = ["up", "observe inventory", "down"]


@pytest.mark.parametrize("workers", [(), ("-n", "0"), ("-n", "2")], ids=["plain", "n0", "n2"])
def test_one_up_one_down_and_facts_gathered_once(project, workers):
    project.suite(FACTS)
    assert project.run(*workers, apart="2" in workers).ret == 0
    assert project.events == ONCE
    assert (project.folder / "facts" / "inventory.json").is_file()
    assert len(project.row("NET-ADDR-001")["tests"]) == 4


def test_a_dead_worker_leaves_its_check_inconclusive_and_the_environment_up(project):
    project.suite(
        FACTS
        + """
@pytest.mark.requirement("NET-ADDR-002")
def test_dies(plan, require):
    os._exit(3)
"""
    )
    assert project.run("-n", "2", apart=True).ret == 11
    assert project.events == ONCE
    assert project.verdict("NET-ADDR-001") == "met"
    assert project.verdict("NET-ADDR-002") == "inconclusive"
    assert "crashed" in project.row("NET-ADDR-002")["reason"]


def test_runs_can_be_kept_elsewhere(project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    project.suite(FACTS)
    assert project.run("suites", f"--reports={elsewhere}").ret == 0
    assert (elsewhere / "latest" / "compliance.md").is_file()
    assert not project.folder.exists()


@pytest.mark.parametrize("look", ["--collect-only", "--help", "--markers"])
def test_looking_brings_nothing_up(project, look):
    project.suite(FACTS)
    assert project.run(look).ret == 0
    assert project.events == []
    assert not project.folder.exists()


def test_tests_outside_the_suites_are_no_run(project):
    project.suite(FACTS)
    project.pytester.makepyfile(test_other="def test_other(): pass")
    assert project.run("test_other.py").ret == 0
    assert not project.folder.exists()


def test_checks_that_need_nothing_bring_nothing_up(project):
    project.suite(FACTS + "\ndef test_arithmetic():\n    assert 1 + 1 == 2\n")
    assert project.run("-k", "arithmetic").ret == 0
    assert project.events == []


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "n2"])
def test_a_failed_collection_brings_nothing_up(project, workers):
    project.suite(FACTS)
    project.suite("import nothing_of_that_name", name="addressing/test_broken.py")
    assert project.run(*workers, apart=bool(workers)).ret == pytest.ExitCode.INTERRUPTED
    assert project.events == []


def test_an_environment_that_does_not_come_up_is_told_without_traceback(project):
    project.settings("{'broken': 'up'}")
    project.suite(FACTS)
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: the double was told to fail", "  do        tell it something else"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert project.events == ["up", "down"]
    assert project.verdict("NET-ADDR-001") == "inconclusive"
    assert "could not be brought up" in project.row("NET-ADDR-001")["reason"]


@pytest.mark.parametrize(
    ("settings", "body"),
    [
        ("{'broken': 'ctrl-c'}", ""),
        ("{}", "\n    raise KeyboardInterrupt"),
        ("{}", "\n    import signal; os.kill(os.getpid(), signal.SIGTERM)"),
    ],
    ids=["while it comes up", "in a check", "sigterm"],
)
def test_an_interrupted_run_takes_the_environment_down(project, settings, body):
    project.settings(settings)
    project.suite(f"""
@pytest.mark.requirement("NET-ADDR-001")
def test_it(plan, require):
    pass{body}

@pytest.mark.requirement("NET-ADDR-002")
def test_never_reached(plan, require):
    require(met())
""")
    assert project.run(apart=True).ret == pytest.ExitCode.INTERRUPTED
    assert project.events == ["up", "down"]
    assert project.verdict("NET-ADDR-002") == "inconclusive"
    assert project.compliance["run"]["exit"] == 2


def test_an_environment_that_stays_behind_spoils_the_run(project):
    project.settings("{'broken': 'down'}")
    project.suite(FACTS)
    result = project.run()
    assert result.ret == 11
    result.stdout.fnmatch_lines(["the environment was not taken down cleanly: the double would not go"])
    assert project.verdict("NET-ADDR-001") == "met"


def test_facts_that_cannot_be_had_are_asked_for_once(project):
    project.suite("""
@pytest.mark.requirement("NET-ROUTE-005")
@pytest.mark.parametrize("n", range(3))
def test_sessions(facts, require, n):
    require(met() if facts.routing else met())
""")
    assert project.run().ret == 11
    assert project.events == ["up", "observe routing", "down"]
    assert project.row("NET-ROUTE-005")["reason"] == (
        "facts about routing could not be gathered: the double sees only the inventory"
    )


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "n2"])
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--requirement", "NET-ADR-003"), "*NET-ADR-003 is no requirement and no area*NET-ADDR-003*"),
        (("--env", "lab:aws-calica"), "*no lab profile 'aws-calica'*aws-calico*"),
        (("--env", "nowhere.yaml"), "*--env nowhere.yaml: no such file*"),
        (("--env", "bad.yaml"), "*bad.yaml*"),
        (("--replay", "nowhere"), "*--replay nowhere: no recording there*"),
        (("--replay", "nowhere", "--env", "lab"), "*--replay judges a recording*"),
        (("--allow-disruption", "production"), "*this environment is double*"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_users_mistake_is_one_message(project, workers, args, message):
    (project.pytester.path / "bad.yaml").write_text("name: 7\nregins: []\n", encoding="utf-8")
    project.suite(FACTS)
    result = project.run(*workers, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert not project.folder.exists()


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "n2"])
def test_a_check_of_an_unknown_requirement_is_told(project, workers):
    project.suite('@pytest.mark.requirement("NET-ADDR-999")\ndef test_it(plan):\n    pass')
    result = project.run(*workers, apart=bool(workers))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: suites: a check names an unknown requirement: *NET-ADDR-999*"])
    assert project.events == []
