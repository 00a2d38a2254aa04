"""What an image runs in the lab."""

import os
from pathlib import Path

import pytest

from provision.lab import host
from provision.lab.host import LabUnavailableError, etcd_program
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
        ("registry.k8s.io/coredns/coredns:v1.9.3", "pdns_recursor"),
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
