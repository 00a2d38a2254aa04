"""`python -m provision.lab.kube.apiserver CONFIG.json`: serve all clusters of a lab from one process.

Once every cluster can be asked, one line goes to standard output: {"stage": "api", "clusters": {region: [port, ...]}}.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import ssl
import sys
from pathlib import Path

from aiohttp import web

from provision.lab.kube.apiserver.authentication import Authenticator
from provision.lab.kube.apiserver.config import ClusterConfig, read_config
from provision.lab.kube.apiserver.endpoints import first_listeners, node_listeners
from provision.lab.kube.apiserver.errors import ApiError
from provision.lab.kube.apiserver.server import ApiServer

SHUTDOWN_TIMEOUT_S = 0.5
MAX_LINE_BYTES = 1 << 20
"""Of a request line: an exec carries its whole command there."""


async def serve(clusters: list[ClusterConfig]) -> None:
    """Serve until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    runners: list[web.AppRunner] = []
    ports: dict[str, list[int]] = {}
    try:
        for cluster in clusters:
            runner = _runner(cluster)
            runners.append(runner)
            await runner.setup()
            ports[cluster.region] = await _serve_at(first_listeners(cluster), cluster, runner)
        print(json.dumps({"stage": "api", "clusters": ports}), flush=True)
        for cluster, runner in zip(clusters, runners, strict=True):
            await _serve_at(await node_listeners(cluster), cluster, runner)
        await stopped.wait()
    finally:
        for runner in runners:
            await runner.cleanup()


def _runner(cluster: ClusterConfig) -> web.AppRunner:
    kubelet_tls = ssl.create_default_context(cafile=cluster.ca)
    kubelet_tls.load_cert_chain(cluster.kubelet_client_certificate, cluster.kubelet_client_key)
    authenticator = Authenticator.from_file(cluster.tokens)
    server = ApiServer(authenticator, kubelet_tls, cluster.service_cidr, authority=cluster.ca.read_text())
    server.load(json.loads(cluster.seed.read_text()) if cluster.seed else [])
    return web.AppRunner(
        server.application(),
        access_log=None,
        handler_cancellation=True,  # a watch ends with its client
        shutdown_timeout=SHUTDOWN_TIMEOUT_S,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_LINE_BYTES,
    )


async def _serve_at(listeners: list[socket.socket], cluster: ClusterConfig, runner: web.AppRunner) -> list[int]:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=cluster.ca)
    tls.load_cert_chain(cluster.certificate, cluster.key)
    tls.verify_mode = ssl.CERT_OPTIONAL
    for listener in listeners:
        await web.SockSite(runner, listener, ssl_context=tls).start()
    return [listener.getsockname()[1] for listener in listeners]


def main() -> int:
    """Run from the command line."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    if len(sys.argv) != 2:
        print("usage: python -m provision.lab.kube.apiserver CONFIG.json", file=sys.stderr)
        return 2
    try:
        asyncio.run(serve(read_config(Path(sys.argv[1]))))
    except (ApiError, KeyError, OSError, ValueError) as error:
        what = f"missing {error}" if isinstance(error, KeyError) else error
        print(f"the API server cannot start with {sys.argv[1]}: {what}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
