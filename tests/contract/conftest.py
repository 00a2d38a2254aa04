"""Which cluster the contract is checked against: one of our own API server, or any context of a kubeconfig.

With --kube-assets (or KUBEBUILDER_ASSETS) every test runs twice: on our own API server, and on Kubernetes' own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import urllib3
from kubernetes import client, config, watch

from provision.lab.kube.identities import ADMIN, NODE_AGENT
from provision.lab.kube.pki import KubeContext, create_cluster_pki, write_kubeconfig, write_secret
from provision.lab.kube.real.assets import API_SERVER, OPTION, KubeAssets, find_assets

PROJECT = Path(__file__).parents[2]
OURS = "lab"
REGION = "contract"
NODE = "contract-node"
WITHIN_S = 60


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("contract", "which cluster the Kubernetes contract is checked against")
    group.addoption("--contract-context", help="a context; by default an API server is started for the tests")
    group.addoption("--contract-kubeconfig", help="the kubeconfig that has the context (default: $KUBECONFIG)")
    group.addoption("--contract-image", default="busybox:1.36", help="image with sh, cat, head, sleep and seq")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cluster" in metafunc.fixturenames:
        option = metafunc.config.getoption
        context = option("--contract-context", default=None)
        real = [] if context else [API_SERVER] * (find_assets(option(OPTION, default=None)) is not None)
        metafunc.parametrize("cluster", [context or OURS, *real], indirect=True, scope="session")


@dataclass(frozen=True)
class Cluster:
    """The cluster under test; `ours` tells the lab's own server."""

    kubeconfig: Path | None
    context: str
    image: str
    ours: bool


@dataclass(frozen=True)
class Answer:
    """What plain HTTP brought."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    option = request.config.getoption
    context = option("--contract-context", default=None)
    image = option("--contract-image", default="busybox:1.36")
    if context:
        path = option("--contract-kubeconfig", default=None)
        yield Cluster(Path(path) if path else None, context, image, ours=False)
        return
    folder = tmp_path_factory.mktemp("cluster")
    ours = request.param == OURS
    with _started(folder, None if ours else find_assets(option(OPTION, default=None))) as kubeconfig:
        yield Cluster(kubeconfig, REGION, image, ours=ours)


class _started:  # noqa: N801 - a context manager
    """An API server, ours or the real one, and a kubelet's double, as processes."""

    def __init__(self, folder: Path, assets: KubeAssets | None) -> None:
        self.folder = folder
        self.assets = assets
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Path:
        folder = self.folder
        pki = create_cluster_pki(folder / "pki", REGION, {NODE: IPv4Address("127.0.0.1")})
        role = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "kubelet-double"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "User", "name": NODE_AGENT.user}],
        }
        (folder / "seed.json").write_text(json.dumps([role]))
        cluster = {
            "region": REGION,
            "port": 0,
            "certificate": str(pki.api_server.certificate),
            "key": str(pki.api_server.key),
            "ca": str(pki.ca),
            "tokens": str(pki.tokens_file),
            "kubelet_client_certificate": str(pki.kubelet_client.certificate),
            "kubelet_client_key": str(pki.kubelet_client.key),
            "seed": str(folder / "seed.json"),
            "service_cidr": "172.30.0.0/16",
        }
        settings: dict[str, Any] = {"clusters": [cluster]}
        if self.assets:
            (folder / "logs").mkdir()
            settings |= {"assets": str(self.assets.folder), "folder": str(folder / "k"), "logs": str(folder / "logs")}
        (folder / "apiserver.json").write_text(json.dumps(settings))
        module = "provision.lab.kube.real" if self.assets else "provision.lab.kube.apiserver"
        line = self._start("-m", module, str(folder / "apiserver.json"))
        server = f"https://127.0.0.1:{json.loads(line)['clusters'][REGION][0]}"
        kubelet = {
            "server": server,
            "ca": str(pki.ca),
            "token": pki.token(NODE_AGENT),
            "node": NODE,
            "certificate": str(pki.kubelets.certificate),
            "key": str(pki.kubelets.key),
        }
        write_secret(folder / "kubelet.json", json.dumps(kubelet).encode())
        self._start(str(Path(__file__).with_name("kubelet_double.py")), str(folder / "kubelet.json"))
        write_kubeconfig(folder / "kubeconfig", [KubeContext(REGION, server, pki.ca, pki.token(ADMIN))])
        return folder / "kubeconfig"

    def _start(self, *arguments: str) -> str:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=PROJECT,
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            stdout=subprocess.PIPE,
        )
        self.processes.append(process)
        assert process.stdout
        line = process.stdout.readline().decode()
        assert line, f"{arguments} ended with exit code {process.wait()}"
        return line

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(timeout=10)


@pytest.fixture(scope="session")
def configuration(cluster: Cluster) -> client.Configuration:
    settings = client.Configuration()
    config.load_kube_config(
        str(cluster.kubeconfig) if cluster.kubeconfig else None,
        context=cluster.context,
        client_configuration=settings,
    )
    return settings


@pytest.fixture(scope="session")
def api(configuration: client.Configuration) -> client.ApiClient:
    return client.ApiClient(configuration)


@pytest.fixture(scope="session")
def core(api: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api)


@pytest.fixture(scope="session")
def apps(api: client.ApiClient) -> client.AppsV1Api:
    return client.AppsV1Api(api)


@pytest.fixture(scope="session")
def custom(api: client.ApiClient) -> client.CustomObjectsApi:
    return client.CustomObjectsApi(api)


@pytest.fixture(scope="session")
def namespaces(core: client.CoreV1Api) -> Iterator[Callable[[], str]]:
    """Makes namespaces that go when the tests are over."""
    made: list[str] = []

    def make() -> str:
        name = core.create_namespace({"metadata": {"generateName": "contract-"}}).metadata.name
        made.append(name)
        for event in watch.Watch().stream(
            core.list_namespaced_service_account, name, timeout_seconds=WITHIN_S
        ):  # a pod needs the default account, which real clusters make a moment later
            if event["object"].metadata.name == "default":
                break
        return name

    yield make
    for name in made:
        try:
            core.delete_namespace(name)
        except client.ApiException as error:
            if error.status not in (404, 409):
                raise


@pytest.fixture(scope="module")
def namespace(namespaces: Callable[[], str]) -> str:
    return namespaces()


Call = Callable[..., Answer]


def authorization(settings: client.Configuration) -> str:
    """The Authorization header of a context, "" when it identifies itself by certificate."""
    return str(settings.auth_settings().get("BearerToken", {}).get("value") or "")


@pytest.fixture(scope="session")
def call(api: client.ApiClient, configuration: client.Configuration) -> Call:
    """Plain HTTP with the context's credentials: call("GET", "/api/v1/nodes", accept=..., body=..., token=...)."""
    pool: urllib3.PoolManager = api.rest_client.pool_manager
    default_token = authorization(configuration)

    def request(
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        token: str | None = None,
    ) -> Answer:
        credentials = default_token if token is None else f"Bearer {token}" if token else ""
        headers = {"Accept": accept} | ({"Authorization": credentials} if credentials else {})
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = pool.request(method, configuration.host + path, body=data, headers=headers, timeout=30)
        return Answer(response.status, response.data)

    return request


@pytest.fixture(scope="session")
def node(core: client.CoreV1Api) -> str:
    """A node that runs pods."""
    for each in core.list_node().items:
        ready = any(state.type == "Ready" and state.status == "True" for state in each.status.conditions or ())
        if ready and not any(taint.effect != "PreferNoSchedule" for taint in each.spec.taints or ()):
            return str(each.metadata.name)
    pytest.skip("the cluster has no node that could run a pod")


@pytest.fixture(scope="session")
def start_pod(core: client.CoreV1Api, cluster: Cluster, node: str) -> Callable[..., str]:
    """Starts a pod and returns its name once it has reached a phase."""

    def start(namespace: str, script: str = "sleep 3600", *, until: tuple[str, ...] = ("Running",)) -> str:
        container = {"name": "main", "image": cluster.image, "command": ["sh", "-c", script]}
        spec = {
            "nodeName": node,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
        }
        body = {"metadata": {"generateName": "pod-", "labels": {"app": "contract"}}, "spec": spec}
        name = str(core.create_namespaced_pod(namespace, body).metadata.name)
        phase = "none"
        for event in watch.Watch().stream(
            core.list_namespaced_pod, namespace, field_selector=f"metadata.name={name}", timeout_seconds=WITHIN_S
        ):
            phase = event["object"].status.phase
            if phase in until:
                return name
        raise AssertionError(f"pod {name} is {phase}, not {' or '.join(until)}, after {WITHIN_S} s")

    return start
