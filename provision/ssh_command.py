"""How ssh is called so that it asks nobody, trusts no unknown host and hands on no key."""

from __future__ import annotations

import shlex
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from provision.sections.access import Ssh

CONNECT_WITHIN = 10
"""Seconds until a node that does not answer is given up."""

ROOT = "root"


def node_command(ssh: Ssh, node: IPv4Address) -> tuple[str, ...]:
    """What to put before a command so that it runs on that node, as its administrator."""
    jump = ("-o", f"ProxyCommand={_through(ssh, ssh.jump)}") if ssh.jump else ()
    become_root = () if ssh.user == ROOT else ("sudo", "-n", "--")
    return ("ssh", *_options(ssh), *jump, "-p", str(ssh.port), f"{ssh.user}@{node}", *become_root)


def _options(ssh: Ssh) -> tuple[str, ...]:
    """What holds for the node and for the host on the way alike."""
    settings = ["BatchMode=yes", "StrictHostKeyChecking=yes", "ForwardAgent=no", f"ConnectTimeout={CONNECT_WITHIN}"]
    if ssh.known_hosts:
        settings.append(f"UserKnownHostsFile={_quoted(ssh.known_hosts)}")
    if ssh.identity_file:
        settings += [f"IdentityFile={_quoted(ssh.identity_file)}", "IdentitiesOnly=yes"]
    return ("-F", "none", "-T", *(word for setting in settings for word in ("-o", setting)))


def _through(ssh: Ssh, jump: str) -> str:
    """The command that carries a connection by way of that host.

    ProxyJump would leave the host on the way to the user's own configuration, and so perhaps unverified.
    """
    host, _, port = jump.partition(":")
    options = shlex.join([*_options(ssh), *(("-p", port) if port else ())])
    return f"ssh {options.replace('%', '%%')} -W '[%h]:%p' {host}"


def _quoted(path: Path) -> str:
    """The path as ssh reads it in a setting: whole, and without anything in place of its percent signs."""
    return '"' + str(path).replace("%", "%%") + '"'
