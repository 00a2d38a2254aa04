"""Which folder is meant by KUBEBUILDER_ASSETS and --kube-assets, and what is wrong with it."""

from __future__ import annotations

import pytest

from provision.errors import ProvisionError
from provision.lab.kube.real.assets import VARIABLE, find_assets


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with programs that say what versions they are."""
    monkeypatch.delenv(VARIABLE, raising=False)

    def fill(**programs: str):
        for name, says in programs.items():
            program = tmp_path / name.replace("_", "-")
            program.write_text(f"#!/bin/sh\nprintf '{says}\\n'\n")
            program.chmod(0o755)
        return tmp_path

    return fill


def test_nothing_is_asked_for(folder):
    assert find_assets() is None


def test_the_option_comes_before_the_variable(folder, monkeypatch):
    where = folder(kube_apiserver="Kubernetes v1.36.3", etcd="etcd Version: 3.6.8\\nGit SHA: x")
    monkeypatch.setenv(VARIABLE, "/nowhere")
    found = find_assets(str(where))
    assert found is not None
    assert found.folder == where
    assert found.summary == "kube-apiserver v1.36.3 and etcd 3.6.8"


def test_a_missing_program_is_named(folder, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(folder(kube_apiserver="Kubernetes v1.36.3")))
    with pytest.raises(ProvisionError) as caught:
        find_assets()
    assert caught.value.what == "no etcd there"
    assert caught.value.where.startswith(VARIABLE)
    assert "make kube-assets" in str(caught.value)


def test_a_server_that_would_speak_spdy_to_nodes_is_refused(folder):
    where = folder(kube_apiserver="Kubernetes v1.35.9", etcd="etcd Version: 3.6.8")
    with pytest.raises(ProvisionError, match="too old") as caught:
        find_assets(str(where))
    assert caught.value.observed == "v1.35.9"


def test_a_program_for_another_machine_does_not_run(folder):
    where = folder(kube_apiserver="Kubernetes v1.36.3", etcd="x")
    (where / "kube-apiserver").write_bytes(b"\x7fELF of another machine")
    with pytest.raises(ProvisionError, match="kube-apiserver does not run here"):
        find_assets(str(where))
