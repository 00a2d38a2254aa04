"""A seeded lab, read the way the Calico stand-in reads it."""

from __future__ import annotations

import pytest

from provision.lab import seed
from provision.lab.calico.resources import (
    CalicoCluster,
    read_all,
    read_bgp_configuration,
    read_bgp_peer,
    read_block_affinity,
    read_felix_configuration,
    read_node,
    read_pool,
)
from provision.lab.topology import LabTopology, aws_calico


@pytest.fixture(scope="session")
def lab() -> LabTopology:
    return aws_calico("unit")


@pytest.fixture(scope="session")
def seeded(lab):
    """The seed of each region."""
    return {region.name: seed.objects(lab, region) for region in lab.regions}


@pytest.fixture(scope="session")
def clusters(seeded) -> dict[str, CalicoCluster]:
    return {region: calico_cluster(objects) for region, objects in seeded.items()}


@pytest.fixture
def all_nodes(clusters):
    return [node for cluster in clusters.values() for node in cluster.nodes]


def calico_cluster(objects) -> CalicoCluster:
    def of(kind):
        return [obj for obj in objects if obj["kind"] == kind]

    def refuse(error):
        raise error

    return CalicoCluster(
        nodes=read_all(read_node, of("Node"), refuse),
        pools=read_all(read_pool, of("IPPool"), refuse),
        bgp=read_bgp_configuration(of("BGPConfiguration")[0]),
        peers=read_all(read_bgp_peer, of("BGPPeer"), refuse),
        blocks=read_all(read_block_affinity, of("BlockAffinity"), refuse),
        felix=read_felix_configuration(of("FelixConfiguration")[0]),
    )
