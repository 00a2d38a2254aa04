"""A resolver outside every region, for names outside every cluster: it knows one, and says NXDOMAIN of all others.

    python -m provision.lab.resolver NAME

The nodes of a lab have it in their /etc/resolv.conf, as a cloud's have their cloud's.
"""

from __future__ import annotations

import os
import sys
from ipaddress import IPv4Address

from provision.lab import kernel, netns
from provision.lab.topology import EGRESS, INTERNET

ADDRESS = IPv4Address("198.51.100.53")
RESOLV_CONF = f"nameserver {ADDRESS}\n"


def serve(name: str) -> None:
    """Become dnsmasq in the namespace `internet`; the name leads to the host that pods knock at."""
    kernel.ip(INTERNET, [f"address replace {ADDRESS}/32 dev lo"])
    options = {
        "conf-file": os.devnull,
        "host-record": f"{name},{EGRESS.address}",
        "listen-address": str(ADDRESS),
        "local": "/#/",
        "group": "root",
        "user": "root",
    }
    flags = ("no-daemon", "no-resolv", "no-hosts", "bind-interfaces")
    argv = ["dnsmasq", *(f"--{key}={value}" for key, value in options.items()), *(f"--{flag}" for flag in flags)]
    program, *arguments = netns.command(INTERNET, argv)
    os.execvp(program, [program, *arguments])  # noqa: S606 - a list of arguments, and no shell


if __name__ == "__main__":
    serve(sys.argv[1])
