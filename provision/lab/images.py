"""What an image runs in the lab: none is ever pulled, a container is a program of the host in its pod's namespaces."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from provision.lab.database import cockroach, standin
from provision.lab.dns import server
from provision.lab.host import coredns_program, etcd_program

BIRD_SOCKET = "/var/run/calico/bird.ctl"
BIRD_CONFIG = "/var/run/calico/bird.cfg"

_ENTRYPOINTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    # calico-node's own entry point waits for confd in the same way. Its BIRD never says goodbye, for it is killed when
    # the container's first process ends: peers then keep its routes, where graceful restart is on. The configuration
    # lies beside the socket because the lab's pods see the host's file system, where /etc/calico is not theirs to make.
    (
        r"calico/node",
        (
            "sh",
            "-c",
            f"until test -s {BIRD_CONFIG}; do sleep 0.02; done; trap 'kill -KILL $bird' TERM; "
            f"bird -R -f -s {BIRD_SOCKET} -c {BIRD_CONFIG} & bird=$!; wait $bird",
        ),
    ),
    (r"coredns", ("sh", "-c", server.CONTAINER_SCRIPT)),
    # What Typha does is done by the lab's agents, while the container runs; it shows the log.
    (
        r"calico/typha",
        (
            "sh",
            "-c",
            'log=/var/log/calico/typha/$POD_NAME.log; until test -e "$log"; do sleep 0.02; done; '
            'exec tail -n +1 -F "$log"',
        ),
    ),
    # What these do is done by the lab's agents, while the containers run.
    (
        r"calico/kube-controllers|cilium/(cilium|operator-generic|clustermesh-apiserver)|pause",
        ("sleep", "infinity"),
    ),
    (r"etcd", ("etcd",)),
)

_COMMANDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"busybox|alpine|debian|ubuntu", ("sh",)),
    (r"python", ("python3",)),
)
"""Images with a command but no entry point: a container's `args` take its place."""

_CILIUM_TOOL = Path(__file__).parent / "cilium" / "dbg" / "program.py"
_CILIUM_TOOLS = ("cilium", "cilium-dbg", "cilium-health")


class UnknownImageError(Exception):
    """The lab has no stand-in for an image whose container names no command."""


def container_argv(container: Mapping[str, Any]) -> list[str]:
    """The program that a container of a pod runs: its own command, else what its image stands for.

    As in Kubernetes, `command` replaces the image's entry point, and `args` its command.

    Args:
        container: the container as the pod's spec has it.

    Raises:
        UnknownImageError: there is no command, and nothing is known of the image.
    """
    args = list(container.get("args") or ())
    if command := container.get("command"):
        return resolve([*command, *args])
    image = container["image"]
    if _name(image).endswith("coredns") and coredns_program():
        return resolve(["sh", "-c", server.REAL_CONTAINER_SCRIPT])
    if _name(image) == standin.MEMBER_IMAGE_NAME:
        return [*standin.entry_point(), *args]
    if entry_point := _stand_in(image, _ENTRYPOINTS):
        return resolve([*entry_point, *args])
    if argv := args or _stand_in(image, _COMMANDS):
        return resolve(argv)
    raise UnknownImageError(f"image {image}: the lab knows no program for it; name one in the container's `command`")


def container_programs(container: Mapping[str, Any]) -> dict[str, Path]:
    """What a container's image brings, which is elsewhere on the host.

    Returns:
        programs by their names in $PATH; other files, and folders, by their full paths in the container.
    """
    name = _name(container["image"])
    if name == standin.MEMBER_IMAGE_NAME:
        return standin.files()
    if name == cockroach.IMAGE_NAME:
        return cockroach.files()
    if name.endswith("cilium/cilium"):
        return dict.fromkeys(_CILIUM_TOOLS, _CILIUM_TOOL)
    if name.endswith("coredns") and (program := coredns_program()):
        return {"coredns": program}
    return {"etcd": etcd_program()} if name.endswith("etcd") else {}


def resolve(argv: Sequence[str]) -> list[str]:
    """The command line with `python` and `python3` replaced by an interpreter that every user can read."""
    program, *rest = argv
    return [python_interpreter() if program in ("python", "python3") else program, *rest]


def python_interpreter() -> str:
    """The interpreter that plays `python3` in pods: the system's, else the one that this virtual environment is of."""
    system = Path("/usr/bin/python3")
    return str(system) if system.exists() else str(Path(sys._base_executable).resolve())  # type: ignore[attr-defined]


def _stand_in(image: str, table: Sequence[tuple[str, tuple[str, ...]]]) -> tuple[str, ...]:
    """What the image runs by that table, or nothing."""
    name = _name(image)
    return next((argv for pattern, argv in table if re.search(rf"(^|/)({pattern})$", name)), ())


def _name(image: str) -> str:
    """The image without tag and digest."""
    return re.sub(r":[^/:]+$", "", image.split("@")[0])
