"""Attach takes clusters as they are, and says plainly which one it cannot use and why."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from threading import Thread

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from analysis.facts import Gap
from analysis.fleet import Capability, DatabaseAccess, Fleet, Outpost, Stand
from analysis.plan import Cni
from provision.environment import Environment, lab_environment
from provision.errors import ProvisionError, UnreachableError
from provision.identity import CNI_GROUPS
from provision.provider import NoProgress, allow_disruption, provider_for

REGIONS = ("us-east-1", "us-east-2", "us-west-1")


class ApiServer:
    """As much of an API server as attach asks of one, with a certificate of its own."""

    def __init__(
        self, folder: Path, uid: str, *, status: int = 200, nodes_status: int = 200, cni: Cni = Cni.CALICO_BGP
    ) -> None:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            known = {
                "/api/v1/namespaces/kube-system": (status, {"metadata": {"uid": uid}}),
                f"/apis/{CNI_GROUPS[cni]}": (200, {"kind": "APIResourceList"}),
                "/api/v1/nodes": (nodes_status, {"items": [_node(uid)]}),
            }
            code, body = known.get(handler.path, (404, {}))
            if code != 200:
                body = {"kind": "Status", "message": f"the server says {code}"}
            data = json.dumps(body).encode()
            handler.send_response(code)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)

        handler = type("Handler", (BaseHTTPRequestHandler,), {"do_GET": answer, "log_message": lambda *_: None})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.certificate = _certificate(folder / f"{self._server.server_port}.pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[ApiServer]:
        thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def _node(uid: str) -> dict[str, object]:
    return {
        "metadata": {"name": f"node-of-{uid}"},
        "status": {
            "addresses": [
                {"type": "Hostname", "address": "node"},
                {"type": "InternalIP", "address": "fd00::7"},
                {"type": "InternalIP", "address": "10.0.1.7"},
            ]
        },
    }


def _certificate(path: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, path.stem)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


ATTACHED = Environment.model_validate(lab_environment("aws-calico").model_dump(by_alias=True, exclude={"provider"}))
Attach = Callable[..., Fleet]


@pytest.fixture
def attach(tmp_path: Path) -> Iterator[Attach]:
    """Bring up an environment of three API servers; each may be spoilt, and the kubeconfig may point elsewhere."""
    with ExitStack() as stack:

        def up(
            *,
            spoilt: dict[str, dict[str, object]] | None = None,
            urls: dict[str, str] | None = None,
            trust: dict[str, str] | None = None,
            **settings: object,
        ) -> Fleet:
            servers = {
                region: stack.enter_context(
                    ApiServer(tmp_path, **({"uid": f"uid-{region}"} | (spoilt or {}).get(region, {}))).running()
                )
                for region in REGIONS
            }
            kubeconfig = {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {
                        "name": region,
                        "cluster": {
                            "server": (urls or {}).get(region, server.url),
                            "certificate-authority": str(servers[(trust or {}).get(region, region)].certificate),
                        },
                    }
                    for region, server in servers.items()
                ],
                "users": [{"name": "verifier", "user": {"token": "t"}}],
                "contexts": [
                    {"name": region, "context": {"cluster": region, "user": "verifier"}} for region in REGIONS
                ],
            }
            path = tmp_path / "kubeconfig"
            path.write_text(yaml.safe_dump(kubeconfig))
            base = ATTACHED.model_dump(by_alias=True) | {"name": "prod", "kubeconfig": path}
            environment = Environment.model_validate(base | settings)
            return provider_for(environment).up(environment, folder=tmp_path, progress=NoProgress())

        yield up


def test_three_clusters_become_a_fleet(attach: Attach, tmp_path: Path) -> None:
    fleet = attach(probes={"image": "registry.example/python:3.12", "namespace": "probing", "pull_secret": "registry"})
    assert fleet.provider == "attach"
    assert [(handle.region, handle.context) for handle in fleet.clusters] == [(name, name) for name in REGIONS]
    assert fleet.cluster("us-east-1").kubeconfig == str(tmp_path / "kubeconfig")
    assert (fleet.probe_image, fleet.probe_namespace) == ("registry.example/python:3.12", "probing")
    assert fleet.probe_pull_secret == "registry"
    assert fleet.plan.name == "prod"


def test_capabilities_follow_the_environment_file(attach: Attach) -> None:
    least = {"egress": None, "database": None, "policy": None, "probes": {"host_network": False}}
    assert attach(**least).capabilities == {Capability.BGP}
    most = {"outside": {"command": ["ssh", "vantage"]}, "ssh": {"user": "ubuntu"}, "probes": {"capture": True}}
    assert attach(**most).capabilities == {
        Capability.BGP,
        Capability.NODE_PROBES,
        Capability.PACKET_CAPTURE,
        Capability.EGRESS_TARGET,
        Capability.OUTSIDE,
        Capability.NODE_SHELL,
        Capability.DATABASE_PODS,
        Capability.POLICY,
    }


def test_the_database_is_logged_in_to_as_the_file_says(attach: Attach, tmp_path: Path) -> None:
    access = {
        "user": "verifier",
        "authority": str(tmp_path / "ca.crt"),
        "password_file": str(tmp_path / "password"),
        "addresses": {"us-east-2": "127.0.0.1:26258"},
    }
    fleet = attach(database={"access": access})
    assert {Capability.DATABASE, Capability.DATABASE_PODS} <= fleet.capabilities
    assert fleet.database == DatabaseAccess(
        user="verifier",
        authority=str(tmp_path / "ca.crt"),
        password=str(tmp_path / "password"),
        addresses=(("us-east-2", "127.0.0.1", 26258),),
    )
    assert attach().database is None


def test_operators_are_where_the_suite_runs(attach: Attach) -> None:
    assert attach().outposts == (Outpost(Stand.OPERATOR, "this machine", ()),)


def test_the_outside_is_where_the_file_says(attach: Attach) -> None:
    fleet = attach(outside={"command": ["ssh", "vantage"], "address": "198.51.100.66"})
    assert fleet.outposts[1:] == (
        Outpost(Stand.INTERNET, "outside", ("ssh", "vantage"), address=IPv4Address("198.51.100.66")),
    )


def test_every_node_is_reached_by_ssh(attach: Attach) -> None:
    nodes = [outpost for outpost in attach(ssh={"user": "ubuntu"}).outposts if outpost.stand is Stand.NODE]
    assert [(node.region, node.name, str(node.address)) for node in nodes] == [
        (region, f"node-of-uid-{region}", "10.0.1.7") for region in REGIONS
    ]
    assert nodes[0].command[0] == "ssh"
    assert nodes[0].command[-4:] == ("ubuntu@10.0.1.7", "sudo", "-n", "--")


def test_a_cluster_that_does_not_tell_its_nodes_is_explained(attach: Attach) -> None:
    with pytest.raises(UnreachableError, match="to be allowed to list nodes"):
        attach(ssh={"user": "ubuntu"}, spoilt={"us-east-2": {"nodes_status": 403}})


def test_leave_to_disrupt_must_name_the_environment(attach: Attach) -> None:
    fleet = attach()
    with pytest.raises(ProvisionError, match="for another environment"):
        allow_disruption(fleet, "staging")
    assert Capability.DISRUPTION in allow_disruption(fleet, "prod").capabilities


def test_the_cloud_is_a_gap_for_every_region(attach: Attach) -> None:
    fleet = attach()
    networks = provider_for(ATTACHED).networks(fleet)
    assert networks.networks == ()
    assert networks.gaps[0] == Gap("us-east-1", "network and subnets", "attach cannot read the cloud")
    assert len(networks.gaps) == 3


def test_two_contexts_of_one_cluster_are_refused(attach: Attach) -> None:
    with pytest.raises(ProvisionError, match=r"us-east-1 and us-west-1 are one and the same cluster"):
        attach(spoilt={"us-west-1": {"uid": "uid-us-east-1"}})


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "does not accept the credentials"),
        (403, "apply docs/rbac.yaml"),
        (503, "503 Service Unavailable: the server says 503"),
    ],
)
def test_an_answer_that_refuses_is_explained(attach: Attach, status: int, said: str) -> None:
    with pytest.raises(UnreachableError) as caught:
        attach(spoilt={"us-east-2": {"status": status}})
    assert said in str(caught.value)
    assert caught.value.where.startswith("us-east-2 (https://127.0.0.1:")


def test_a_server_that_is_not_there_is_explained(attach: Attach) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: a connection is refused
        with pytest.raises(UnreachableError, match=r"us-west-1 .*: the API server does not answer"):
            attach(urls={"us-west-1": f"https://127.0.0.1:{unused.getsockname()[1]}"})


def test_a_certificate_of_somebody_else_is_not_trusted(attach: Attach) -> None:
    with pytest.raises(UnreachableError, match=r"us-east-1 .*: the API server's certificate cannot be trusted"):
        attach(trust={"us-east-1": "us-east-2"})


def test_a_cluster_without_the_planned_cni_is_refused(attach: Attach) -> None:
    with pytest.raises(ProvisionError, match=r"us-east-2 .*: the cluster has no Calico"):
        attach(spoilt={"us-east-2": {"cni": Cni.CILIUM_CLUSTERMESH}})


def test_all_clusters_that_cannot_be_used_are_told(attach: Attach) -> None:
    with pytest.raises(ProvisionError) as caught:
        attach(spoilt={"us-east-1": {"status": 401}, "us-west-1": {"status": 403}})
    text = str(caught.value)
    assert text.startswith("2 of 3 clusters cannot be used")
    assert "us-east-1 (" in text
    assert "us-west-1 (" in text


def test_down_leaves_other_peoples_clusters_alone(attach: Attach) -> None:
    fleet = attach()
    provider = provider_for(ATTACHED)
    provider.down(fleet)
    provider.down(fleet)
