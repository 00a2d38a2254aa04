"""Nodes are reached by an ssh that verifies every host on the way and asks nobody, by what ssh itself makes of it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from provision.sections.access import Ssh
from provision.ssh_command import node_command

NODE = IPv4Address("10.0.1.7")
needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh on this machine")


def understood(command: tuple[str, ...]) -> dict[str, str]:
    """What ssh makes of its arguments: every setting that would be in force. Nothing is connected to."""
    done = subprocess.run([command[0], "-G", *command[1:]], capture_output=True, text=True, check=True)
    return dict(line.partition(" ")[::2] for line in done.stdout.splitlines())


def settings(**ssh: object) -> Ssh:
    return Ssh.model_validate({"user": "ubuntu"} | ssh)


@needs_ssh
def test_hosts_are_verified_and_nobody_is_asked() -> None:
    told = understood(node_command(settings(known_hosts=Path("/keys/known hosts 100%"), port=2222), NODE))
    assert told["stricthostkeychecking"] == "true"
    assert told["batchmode"] == "yes"
    assert told["forwardagent"] == "no"
    assert told["userknownhostsfile"] in (
        "/keys/known hosts 100%",
        '"/keys/known hosts 100%"',
        "/keys/known hosts 100%%",
    )
    assert (told["user"], told["hostname"], told["port"]) == ("ubuntu", "10.0.1.7", "2222")


@needs_ssh
def test_only_the_key_that_is_named_is_offered() -> None:
    told = understood(node_command(settings(identity_file=Path("/keys/mesh")), NODE))
    assert (told["identityfile"], told["identitiesonly"]) == ("/keys/mesh", "yes")


@needs_ssh
def test_the_host_on_the_way_is_verified_too() -> None:
    command = node_command(settings(known_hosts=Path("/keys/100%"), jump="me@bastion.example:2022"), NODE)
    proxy = understood(command)["proxycommand"]
    # ssh puts the node's address in place of %h and %p, and a percent sign in place of two.
    words = shlex.split(proxy.replace("%h", str(NODE)).replace("%p", "22").replace("%%", "%"))
    assert words[-1] == "me@bastion.example"
    assert words[words.index("-W") + 1] == "[10.0.1.7]:22"
    told = understood(tuple(words))
    assert (told["stricthostkeychecking"], told["batchmode"], told["port"]) == ("true", "yes", "2022")


def test_administrators_become_root() -> None:
    assert node_command(settings(user="ubuntu"), NODE)[-4:] == ("ubuntu@10.0.1.7", "sudo", "-n", "--")
    assert node_command(settings(user="root"), NODE)[-1] == "root@10.0.1.7"
