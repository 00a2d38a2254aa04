"""Filling a cluster through its API: a lab's whole seed, into the lab's own API server, as a real one would be."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from ipaddress import IPv4Address

import pytest
from aiohttp import web

from provision.lab import seed
from provision.lab.kube.apiserver.authentication import Authenticator
from provision.lab.kube.apiserver.server import ApiServer
from provision.lab.kube.client import NODES, PODS, SERVICES, ApiClient
from provision.lab.kube.identities import ADMIN
from provision.lab.kube.pki import create_cluster_pki
from provision.lab.kube.real import load as loading
from provision.lab.kube.real.discovery import all_served_kinds
from provision.lab.kube.real.load import LoadError, load
from provision.lab.topology import aws_calico

TOPOLOGY = aws_calico("seeded", regions=2, nodes=2)
REGION = TOPOLOGY.regions[0]


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return create_cluster_pki(tmp_path_factory.mktemp("pki"), "east", {"n": IPv4Address("10.0.0.1")})


@asynccontextmanager
async def empty_cluster(keys):
    """An administrator's client of a cluster that holds nothing but what every cluster has."""
    kubelets = ssl.create_default_context(cafile=keys.ca)
    authenticator = Authenticator.from_file(keys.tokens_file)
    server = ApiServer(authenticator, kubelets, REGION.plan.service_cidr, authority="of the server itself")
    server.load([])
    runner = web.AppRunner(server.application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(keys.api_server.certificate, keys.api_server.key)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    port = runner.addresses[0][1]
    try:
        async with ApiClient(f"https://127.0.0.1:{port}", ca=keys.ca, token=keys.token(ADMIN)) as client:
            yield client
    finally:
        await runner.cleanup()


def test_a_labs_seed_is_loaded_and_what_has_an_owner_is_left_to_it(keys):
    objects = seed.objects(TOPOLOGY, REGION)

    async def run():
        async with empty_cluster(keys) as client:
            await load(client, objects)
            await load(client, objects)  # what is there already is no error
            kinds = {(each.resource.api_version, each.resource.kind): each for each in await all_served_kinds(client)}
            there = {}
            for version, kind in {(obj["apiVersion"], obj["kind"]) for obj in objects}:
                found = await client.list(kinds[version, kind].resource)
                there[kind] = {(each["metadata"].get("namespace"), each["metadata"]["name"]) for each in found.items}
            node = await client.get(NODES, REGION.nodes[0].name)
            service = await client.get(SERVICES, "kubernetes", "default")
        return there, node, service

    there, node, service = asyncio.run(run())
    for obj in objects:
        name = obj["metadata"].get("namespace"), obj["metadata"]["name"]
        assert (name in there[obj["kind"]]) == ("ownerReferences" not in obj["metadata"]), (obj["kind"], name)
    assert node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    assert service["metadata"]["labels"]["component"] == "apiserver"


def test_an_object_that_is_refused_is_named(keys, monkeypatch):
    monkeypatch.setattr(loading, "PATIENCE", loading.PATIENCE * 0)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x", "namespace": "default"},
        "spec": {"serviceAccountName": "nobody", "containers": [{"name": "c", "image": "i"}]},
    }

    async def run():
        async with empty_cluster(keys) as client:
            await load(client, [pod])

    with pytest.raises(LoadError, match=r"Pod default/x: .*service account"):
        asyncio.run(run())


def test_pods_of_the_seed_are_all_wanted_by_somebody():
    """What the loader leaves away comes back: every owner in the seed is in the seed itself."""
    objects = seed.objects(TOPOLOGY, REGION)
    owners = {obj["metadata"].get("uid") for obj in objects}
    for obj in objects:
        for reference in obj["metadata"].get("ownerReferences", ()):
            assert reference["uid"] in owners, obj["metadata"]["name"]
    assert any(obj["kind"] == PODS.kind for obj in objects)
