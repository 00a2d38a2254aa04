"""The nodes' SSH servers: port 22 of every node, in one process.

A lab's user namespace maps a single user, which OpenSSH's privilege separation cannot live with; asyncssh can. The
host key is the lab's and is never written; known_hosts holds its public half, so that clients need not trust blindly.
Any user name is accepted, as images differ in theirs ("ubuntu", "ec2-user"), and all of them are root of the lab.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import signal
import socket
import sys
from functools import partial
from pathlib import Path

import asyncssh

from provision.lab import netns
from provision.lab.paths import LabFolder
from provision.lab.place import command_at
from provision.lab.topology import LabNode, LabTopology, topology_from_spec

PORT = 22
KEY_TYPE = "ssh-ed25519"
CLIENT_KEY = "id_ed25519"
KNOWN_HOSTS = "known_hosts"

_BACKLOG = 16


def write_client_files(folder: Path, topology: LabTopology, host_key: asyncssh.SSHKey) -> asyncssh.SSHKey:
    """Make a client key, and write what a client needs: `id_ed25519` (0600) and `known_hosts`.

    Returns:
        the client key, to be authorised.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    client_key = asyncssh.generate_private_key(KEY_TYPE, comment=topology.name)
    key_file = folder / CLIENT_KEY
    key_file.touch(mode=0o600)
    key_file.write_bytes(client_key.export_private_key())
    public = host_key.export_public_key().decode().strip()
    (folder / KNOWN_HOSTS).write_text(
        "".join(f"{node.public_address},{node.address},{node.name} {public}\n" for node in topology.nodes)
    )
    return client_key


async def serve(folder: LabFolder) -> None:
    """Answer on every node until the end of the lab."""
    topology = topology_from_spec(json.loads(folder.spec.read_text()))
    host_key = asyncssh.generate_private_key(KEY_TYPE)
    client_key = write_client_files(folder.ssh, topology, host_key)
    authorized = asyncssh.import_authorized_keys(client_key.export_public_key().decode())
    for node in topology.nodes:
        await asyncssh.listen(
            sock=_listen(node),
            server_host_keys=[host_key],
            authorized_client_keys=authorized,
            process_factory=partial(_run, node),
            encoding=None,
        )
    await asyncio.Event().wait()


def _listen(node: LabNode) -> socket.socket:
    listener = netns.open_socket(node.netns, socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((str(node.address), PORT))
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


async def _run(node: LabNode, session: asyncssh.SSHServerProcess[bytes]) -> None:
    """Run the session's command, or a shell, on the node; its exit code is the session's."""
    argv = ["sh", "-c", session.command] if session.command else ["sh", "-l"]
    environment = {"PATH": os.environ["PATH"], "HOME": "/root", "USER": "root"}
    terminal = session.term_type
    if terminal:
        code = await _run_on_terminal(node, argv, {**environment, "TERM": terminal}, session)
    else:
        code = await _run_on_pipes(node, argv, environment, session)
    if code < 0:
        session.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
    else:
        session.exit(code)


async def _run_on_pipes(
    node: LabNode, argv: list[str], environment: dict[str, str], session: asyncssh.SSHServerProcess[bytes]
) -> int:
    child = await asyncio.create_subprocess_exec(
        *command_at(node.netns, argv),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    await session.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
    code = await _until_over(child, session)
    await session.stdout.drain()
    await session.stderr.drain()
    return code


async def _run_on_terminal(
    node: LabNode, argv: list[str], environment: dict[str, str], session: asyncssh.SSHServerProcess[bytes]
) -> int:
    ours, theirs = pty.openpty()
    try:
        child = await asyncio.create_subprocess_exec(
            *("setsid", "--ctty", "--wait", *command_at(node.netns, argv)),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
        )
    finally:
        os.close(theirs)
    await session.redirect(stdin=os.fdopen(os.dup(ours), "wb", 0), stdout=os.fdopen(ours, "rb", 0))
    return await _until_over(child, session)


async def _until_over(child: asyncio.subprocess.Process, session: asyncssh.SSHServerProcess[bytes]) -> int:
    """Wait for the command's end; a client that hangs up takes its command with it."""
    over = asyncio.ensure_future(child.wait())
    hung_up = asyncio.ensure_future(session.wait_closed())
    await asyncio.wait((over, hung_up), return_when=asyncio.FIRST_COMPLETED)
    hung_up.cancel()
    if not over.done():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    return await over


if __name__ == "__main__":
    os.environ.setdefault("HOME", "/root")
    asyncio.run(serve(LabFolder(Path(sys.argv[1]))))
