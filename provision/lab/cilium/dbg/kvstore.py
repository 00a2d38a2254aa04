"""`cilium-dbg kvstore`: reads and writes a real store, with the credentials that a settings file names."""

from __future__ import annotations

import base64
from pathlib import Path, PurePosixPath

from provision.lab.cilium.api import Reply, failure
from provision.lab.cilium.connection import EtcdError, Target, Tls
from provision.lab.cilium.dbg.agent import Agent
from provision.lab.cilium.dbg.commandline import CommandLine
from provision.lab.cilium.dbg.forms import to_json
from provision.lab.cilium.etcd import EtcdClient, KeyValue
from provision.lab.cilium.settings import EtcdSettings, SettingsError, read_settings, split_endpoint


class FileMissingError(Exception):
    """A file that is asked for cannot be read; the text is as Go says it."""


def read_file(root: Path, path: PurePosixPath) -> bytes:
    """A file of the pod that asks.

    Raises:
        FileMissingError: it cannot be read.
    """
    try:
        return (root / path.relative_to("/")).read_bytes()
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "not an absolute path").lower()
        raise FileMissingError(f"open {path}: {reason}") from error


def read_tls(root: Path, told: EtcdSettings) -> Tls:
    """The certificates that settings name.

    Raises:
        FileMissingError: one cannot be read.
    """
    ca, certificate, key = (read_file(root, path) if path else b"" for path in (told.ca, told.certificate, told.key))
    return Tls(ca, certificate, key)


async def kvstore(command: CommandLine, root: Path, agent: Agent) -> Reply:
    """The answer to `kvstore get|set|delete`.

    Args:
        command: the words "kvstore", what to do, and the key (of `set` also as --key); with
            --kvstore-opt etcd.config=FILE.
        root: where the files of the pod that asks are seen.
        agent: from whose node the store is reached.
    """
    match command.words[1:]:
        case ["set" as action] if key := command.options.get("key", ""):
            pass
        case [("get" | "set" | "delete") as action, key]:
            pass
        case [("get" | "set" | "delete"), *_]:
            return failure("Error: Please specify a key")
        case _:
            return failure("Error: unknown command; known are: get, set, delete")
    name, _, config = command.options.get("kvstore-opt", "").partition("=")
    if command.options.get("kvstore") != "etcd" or name != "etcd.config":
        return failure("Error: Unable to setup kvstore: say which, by --kvstore etcd --kvstore-opt etcd.config=FILE")
    try:
        told = read_settings(read_file(root, PurePosixPath(config)).decode(errors="replace"))
        _, host, port = split_endpoint(told.endpoints[0])
        target = Target(agent.namespace, host, agent.resolve(host), port)
        client = await EtcdClient.connect(target, read_tls(root, told))
    except (FileMissingError, SettingsError, EtcdError) as error:
        return failure(f"Error: Unable to setup kvstore: {error}")
    async with client:
        try:
            return await _ACTIONS[action](client, key, command)
        except EtcdError as error:
            return failure(f"Error: {_VERBS[action]} key {key}: {error}")


async def _get(client: EtcdClient, key: str, command: CommandLine) -> Reply:
    if command.has("recursive"):
        found = (await client.get_prefix(key)).items
        if command.output == "json":
            return Reply(to_json({row.key: _entry(row) for row in found}))
        return Reply("".join(f"{row.key} => {_text(row.value)}\n" for row in found))
    row = await client.get(key)
    if row is None:
        return failure(f"Error: key {key} is not found")
    return Reply(to_json(_text(row.value)) if command.output == "json" else f"{row.key} => {_text(row.value)}\n")


async def _set(client: EtcdClient, key: str, command: CommandLine) -> Reply:
    if "value" not in command.options:
        return failure("Error: Please specify a value with --value")
    await client.put(key, command.options["value"].encode())
    return Reply()


async def _delete(client: EtcdClient, key: str, command: CommandLine) -> Reply:
    if command.has("recursive"):
        await client.delete_prefix(key)
    else:
        await client.delete(key)
    return Reply()


_ACTIONS = {"get": _get, "set": _set, "delete": _delete}
_VERBS = {"get": "Unable to retrieve", "set": "Unable to set", "delete": "Unable to delete"}


def _entry(row: KeyValue) -> dict[str, object]:
    return {"Data": base64.b64encode(row.value).decode(), "ModRevision": row.revision, "LeaseID": row.lease}


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
