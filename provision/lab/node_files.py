"""Files in /etc of a lab's nodes: what their kernels are set to when they start.

Nodes share this machine's file system. What is theirs alone lies below `host_tree`, and whoever is logged in on a node
sees it in its place (`provision.lab.place`). The lab sets its kernels itself; the files are what a reboot would read.
"""

from __future__ import annotations

from provision.lab.agents_config import host_tree
from provision.lab.topology import LabNode, LabTopology

FOLDERS = ("etc/sysctl.d", "etc/modules-load.d")
"""What a node has of its own."""

SYSCTL_FILE = "etc/sysctl.d/99-kubernetes.conf"
MODULES_FILE = "etc/modules-load.d/kubernetes.conf"

_CONTENTS = {
    SYSCTL_FILE: (
        "net.ipv4.ip_forward = 1\nnet.bridge.bridge-nf-call-iptables = 1\nnet.bridge.bridge-nf-call-ip6tables = 1\n"
    ),
    MODULES_FILE: "overlay\nbr_netfilter\n",
}
"""As those who prepare nodes for kubeadm or k3s write them."""


def write_node_files(topology: LabTopology) -> None:
    """Give every node its files. Raises OSError."""
    for node in topology.nodes:
        _write(node)


def _write(node: LabNode) -> None:
    for name, content in _CONTENTS.items():
        file = host_tree(node.name) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
