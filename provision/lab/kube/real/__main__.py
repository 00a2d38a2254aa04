"""`python -m provision.lab.kube.real CONFIG.json`: an etcd and a kube-apiserver for each cluster of a lab.

Takes the place of `provision.lab.kube.apiserver`: nobody gets through to a cluster before it holds its seed. Then one
line goes to standard output: {"stage": "api", "clusters": {region: [port, ...]}}. The configuration is `RealConfig`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from provision.lab.kube.apiserver.config import ClusterConfig
from provision.lab.kube.apiserver.endpoints import LOOPBACK, first_listeners, node_listeners
from provision.lab.kube.client import ApiClient, ApiError
from provision.lab.kube.identities import ADMIN
from provision.lab.kube.real import relay
from provision.lab.kube.real.config import RealConfig, read_config
from provision.lab.kube.real.lifecycle import NamespaceLifecycle
from provision.lab.kube.real.load import LoadError, load
from provision.lab.kube.real.servers import (
    Server,
    ServerError,
    ServerFiles,
    api_server_command,
    etcd_command,
    free_port,
    write_token_file,
)

LOOK_EVERY_S = 0.02


async def serve(config: RealConfig) -> None:
    """Serve until cancelled.

    Raises:
        ServerError: a server has ended.
        LoadError: an object of a seed was refused.
    """
    try:
        async with AsyncExitStack() as clients, asyncio.TaskGroup() as group:
            starting = {
                cluster.region: group.create_task(_serve_cluster(config, cluster, clients, group))
                for cluster in config.clusters
            }
            ports = {region: await started for region, started in starting.items()}
            print(json.dumps({"stage": "api", "clusters": ports}), flush=True)
    except* (ServerError, LoadError, OSError) as failures:
        raise failures.exceptions[0] from None


async def _serve_cluster(
    config: RealConfig, cluster: ClusterConfig, clients: AsyncExitStack, group: asyncio.TaskGroup
) -> list[int]:
    """Start a cluster's servers, fill it, open it; what goes on after that is left to the group. Returns its ports."""
    files = ServerFiles(config.folder / cluster.region)
    files.folder.mkdir(mode=0o700, parents=True)
    write_token_file(cluster.tokens, files)

    async def start(program: str, command: list[str]) -> None:
        name = f"{program}-{cluster.region}"
        group.create_task((await Server.start(name, command, files.folder, config.logs / f"{name}.log")).run())

    await start("etcd", etcd_command(config.assets))
    while not files.store.exists():
        await asyncio.sleep(LOOK_EVERY_S)
    port = free_port()
    await start("kube-apiserver", api_server_command(config.assets, cluster, files, port))
    url = f"https://{LOOPBACK}:{port}"
    client = await clients.enter_async_context(ApiClient(url, ca=cluster.ca, token=_admin_token(cluster.tokens)))
    while not await _is_ready(client):
        await asyncio.sleep(LOOK_EVERY_S)
    group.create_task(NamespaceLifecycle(client, cluster.ca).run())
    if cluster.seed:
        await load(client, json.loads(cluster.seed.read_text()))

    async def open_at(listeners: list[socket.socket]) -> list[int]:
        for listener in listeners:
            clients.callback((await relay.listen(listener, LOOPBACK, port)).close)
        return [listener.getsockname()[1] for listener in listeners]

    async def open_at_nodes() -> None:
        await open_at(await node_listeners(cluster))

    group.create_task(open_at_nodes())
    return await open_at(first_listeners(cluster))


def _admin_token(tokens: Path) -> str:
    return next(str(entry["token"]) for entry in json.loads(tokens.read_text()) if entry["user"] == ADMIN.user)


async def _is_ready(client: ApiClient) -> bool:
    try:
        await client.request("GET", "/readyz")
    except ApiError:
        return False
    return True


async def _run(config: RealConfig) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await serve(config)


def main() -> int:
    """Run from the command line."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    if len(sys.argv) != 2:
        print("usage: python -m provision.lab.kube.real CONFIG.json", file=sys.stderr)
        return 2
    try:
        asyncio.run(_run(read_config(Path(sys.argv[1]))))
    except (ServerError, LoadError, KeyError, OSError, ValueError) as error:
        what = f"missing {error}" if isinstance(error, KeyError) else error
        print(f"the API servers cannot run with {sys.argv[1]}: {what}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
