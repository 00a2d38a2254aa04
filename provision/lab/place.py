"""Running commands at a place of the lab: a namespace, seen the way somebody who is logged in there would see it."""

from __future__ import annotations

from collections.abc import Sequence

from provision.lab import netns
from provision.lab.agents_config import host_tree
from provision.lab.node_files import FOLDERS

# A node's /sys shows its devices, the control sockets of its CNI's daemon are where Calico and Cilium put them, and
# its own files in /etc are where this machine has such a folder.
_VIEW = """\
mount -t sysfs sysfs /sys 2>/dev/null
for cni in calico cilium; do
    if [ -d "$1/var/run/$cni" ]; then mkdir -p "/run/$cni" && mount --bind "$1/var/run/$cni" "/run/$cni"; fi
done
for folder in FOLDERS; do
    if [ -d "$1/$folder" ] && [ -d "/$folder" ]; then mount --bind "$1/$folder" "/$folder"; fi
done
shift
exec "$@"
""".replace("FOLDERS", " ".join(FOLDERS))


def command_at(name: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` in the namespace of that name, from anywhere in the container.

    The exit code is the command's, or 127 and 126 as a shell has them, for one that is not there or cannot be run.
    """
    view = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", _VIEW, name, str(host_tree(name))]
    return netns.command(name, [*view, *argv])
