"""What a node's files make of its kernel settings at a reboot: sysctl.d, modules-load.d, and k3s' own start."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

MODULE = "module br_netfilter"

SCRIPT = r"""
for file in /usr/lib/sysctl.d/*.conf /usr/local/lib/sysctl.d/*.conf /etc/sysctl.d/*.conf /etc/sysctl.conf \
    /usr/lib/modules-load.d/*.conf /etc/modules-load.d/*.conf /etc/modules \
    /etc/systemd/system/k3s.service /etc/systemd/system/k3s-agent.service
do
    if [ -r "$file" ]; then printf '\036%s\n' "$file"; cat "$file"; fi
done
"""
"""Prints each file behind its name. What is below /run does not outlive a reboot."""

_ASSIGNMENT = re.compile(r"^-?\s*([A-Za-z0-9_./*-]+)\s*=\s*(.*?)\s*$")
_SAME = {"net.ipv4.conf.all.forwarding": "net.ipv4.ip_forward"}
_SET_BY_K3S = {"net.ipv4.ip_forward": "1", "net.bridge.bridge-nf-call-iptables": "1", MODULE: "loaded"}
"""k3s sets these whenever it starts."""


def parse_persistence(text: str) -> dict[str, str]:
    """What the files set, by the setting's name; of several, the one that is applied last.

    A file in /etc hides one of the same name elsewhere; files are applied in the order of their names, and
    /etc/sysctl.conf after them.
    """
    files: dict[str, str] = {}
    found: dict[str, str] = {}
    for part in text.split("\x1e")[1:]:
        name, _newline, content = part.partition("\n")
        path = PurePosixPath(name)
        if path.parts[-2:-1] == ("sysctl.d",):
            files[path.name] = content
        elif path.name == "sysctl.conf":
            files["\uffff"] = content  # behind every other name
        elif path.suffix == ".service":
            found |= _SET_BY_K3S
        elif "br_netfilter" in (line.strip() for line in content.splitlines()):
            found[MODULE] = "loaded"
    for name in sorted(files):
        for line in files[name].splitlines():
            if match := _ASSIGNMENT.match(line.strip()):
                # Slashes may stand for dots, as long as the first separator is one.
                key = match[1].replace("/", ".") if "/" in match[1].partition(".")[0] else match[1]
                found[_SAME.get(key, key)] = match[2]
    return found
