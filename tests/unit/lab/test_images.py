"""What an image runs in the lab."""

import os
from pathlib import Path

import pytest

from provision.lab import host
from provision.lab.database import standin
from provision.lab.host import LabUnavailableError, coredns_program, coredns_version, etcd_program
from provision.lab.images import UnknownImageError, container_argv, container_programs


def test_the_containers_own_command_comes_first():
    container = {"image": "registry.k8s.io/pause:3.8", "command": ["sleep"], "args": ["5"]}
    assert container_argv(container) == ["sleep", "5"]


def test_python_is_an_interpreter_that_is_there():
    program, *rest = container_argv({"image": "python:3.12-slim", "command": ["python3", "-c", "pass"]})
    assert Path(program).exists()
    assert rest == ["-c", "pass"]


@pytest.mark.parametrize(
    ("image", "program"),
    [
        ("docker.io/calico/node:v3.24.5", "bird"),
        ("localhost:5000/calico/node", "bird"),
        ("registry.k8s.io/pause@sha256:00", "sleep"),
        ("quay.io/cilium/cilium:v1.16.5", "sleep"),
        ("quay.io/cilium/clustermesh-apiserver:v1.16.5", "sleep"),
        ("quay.io/cilium/etcd:v3.5.1", "etcd"),
    ],
)
def test_an_image_stands_for_a_program_of_the_host(image, program):
    assert program in " ".join(container_argv({"image": image}))


def test_an_unknown_image_is_named_with_what_to_do():
    with pytest.raises(UnknownImageError, match=r"nginx:1: .*`command`"):
        container_argv({"image": "nginx:1"})


def test_an_image_brings_the_programs_that_people_run_in_it():
    agent = container_programs({"image": "quay.io/cilium/cilium:v1.16.5"})
    assert agent.keys() == {"cilium", "cilium-dbg", "cilium-health"}
    assert all(os.access(program, os.X_OK) for program in agent.values())
    assert container_programs({"image": "registry.k8s.io/pause:3.8"}) == {}


def test_etcd_is_found_where_people_keep_it(monkeypatch, tmp_path):
    given = tmp_path / "etcd"
    given.write_text("#!/bin/sh\n")
    given.chmod(0o755)
    etcd_program.cache_clear()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    try:
        assert container_programs({"image": "quay.io/cilium/etcd:v3.5.1"}) == {"etcd": given}
    finally:
        etcd_program.cache_clear()


def test_a_machine_without_etcd_is_told_what_to_do(monkeypatch, tmp_path):
    etcd_program.cache_clear()
    monkeypatch.setattr(host, "find_spec", lambda _name: None)
    monkeypatch.setattr(host, "search_path", lambda: str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    with pytest.raises(LabUnavailableError, match="etcd-server"):
        etcd_program()


COREDNS = "registry.k8s.io/coredns/coredns:v1.9.3"


@pytest.fixture
def coredns(monkeypatch, tmp_path):
    """A CoreDNS that is given, which says its version and no more."""
    given = tmp_path / "given" / "coredns"
    given.parent.mkdir()
    given.write_text("#!/bin/sh\necho CoreDNS-1.99.0; echo linux/amd64, go1.99\n")
    given.chmod(0o755)
    monkeypatch.setenv(host.COREDNS_VARIABLE, str(given))
    return given


def test_without_coredns_another_server_plays_it(monkeypatch, tmp_path):
    monkeypatch.delenv(host.COREDNS_VARIABLE, raising=False)
    monkeypatch.setattr(host, "search_path", lambda: str(tmp_path))
    assert "pdns_recursor" in container_argv({"image": COREDNS})[-1]
    assert container_programs({"image": COREDNS}) == {}


def test_coredns_runs_where_it_is_given(coredns):
    container = {"image": COREDNS}
    assert "exec coredns -conf Corefile" in container_argv(container)[-1]
    assert container_programs(container) == {"coredns": coredns}
    assert coredns_version() == "CoreDNS 1.99.0"


def test_coredns_is_found_on_the_path(coredns, monkeypatch):
    monkeypatch.delenv(host.COREDNS_VARIABLE)
    monkeypatch.setattr(host, "search_path", lambda: str(coredns.parent))
    assert coredns_program() == coredns


def test_a_coredns_that_is_not_there_or_does_not_run_is_named(coredns, monkeypatch):
    coredns.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(LabUnavailableError, match="does not run here"):
        coredns_version()
    monkeypatch.setenv(host.COREDNS_VARIABLE, "/no/such/program")
    with pytest.raises(LabUnavailableError, match="no CoreDNS there"):
        coredns_program()


def test_the_stand_in_brings_its_packages_and_a_user_of_its_own_and_gives_way_to_patroni():
    image = {"image": standin.member_image()}
    assert {"/opt/python", "/etc/passwd"} == set(container_programs(image))
    setting_up, in_its_place = container_argv(image)[-1].split("\nexec ")
    assert "cp -f" in setting_up
    assert "from patroni.__main__ import main" in in_its_place
    assert in_its_place.strip().endswith("/etc/patroni/patroni.yaml")


def test_cockroachdb_brings_its_program_where_the_vendors_image_has_it(tmp_path, monkeypatch):
    program = tmp_path / "cockroach"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv(host.COCKROACH_VARIABLE, str(program))
    assert container_programs({"image": "cockroachdb/cockroach:lab"}) == {"/cockroach/cockroach": program}
