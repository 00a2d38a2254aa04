"""What an image runs in the lab."""

from pathlib import Path

import pytest

from provision.lab.images import UnknownImageError, container_argv


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
        ("registry.k8s.io/coredns/coredns:v1.9.3", "dnsmasq"),
        ("registry.k8s.io/pause@sha256:00", "sleep"),
    ],
)
def test_an_image_stands_for_a_program_of_the_host(image, program):
    assert program in " ".join(container_argv({"image": image}))


def test_an_unknown_image_is_named_with_what_to_do():
    with pytest.raises(UnknownImageError, match=r"nginx:1: .*`command`"):
        container_argv({"image": "nginx:1"})
