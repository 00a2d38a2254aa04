"""Running commands at a place of the lab: a namespace, seen the way somebody who is logged in there would see it."""

from __future__ import annotations

from collections.abc import Sequence

from provision.lab import netns
from provision.lab.agents_config import host_tree

# A node's /sys shows its devices, and its routing daemon's control socket is where Calico puts it.
_VIEW = """\
mount -t sysfs sysfs /sys 2>/dev/null
if [ -d "$1" ]; then mkdir -p /run/calico && mount --bind "$1" /run/calico; fi
shift
exec "$@"
"""


def command_at(name: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` in the namespace of that name, from anywhere in the container.

    The exit code is the command's, or 127 and 126 as a shell has them, for one that is not there or cannot be run.
    """
    control_sockets = host_tree(name) / "var/run/calico"
    view = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", _VIEW, name, str(control_sockets)]
    return netns.command(name, [*view, *argv])
