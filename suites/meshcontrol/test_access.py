"""Mesh control plane: who may use a store, and by what they know each other."""

import pytest

from analysis.stores import (
    judge_common_authority,
    judge_credentials,
    judge_remote_access,
    judge_store_certificates,
    judge_stores_closed,
)


@pytest.mark.requirement("MESH-CP-004")
def test_remote_clusters_only_read(plan, facts, require):
    """A remote cluster may read a store and never write it."""
    require(judge_remote_access(plan, facts.federation))


@pytest.mark.requirement("MESH-CP-005")
def test_stores_refuse_strangers(plan, facts, require):
    """The store insists on TLS with a client certificate."""
    require(judge_stores_closed(plan, facts.federation))


@pytest.mark.requirement("MESH-CP-006")
def test_certificates_verify(plan, facts, require):
    """The store's server certificate is valid for the name that the mesh uses."""
    require(judge_store_certificates(plan, facts.federation))


@pytest.mark.requirement("MESH-CP-007")
def test_clusters_trust_one_authority(plan, facts, require):
    """All clusters trust one authority, or each other's."""
    require(judge_common_authority(plan, facts.federation))


@pytest.mark.requirement("MESH-CP-009")
def test_credentials_are_there(plan, facts, require):
    """All TLS secrets that the mesh needs are there."""
    require(judge_credentials(plan, facts.federation))
