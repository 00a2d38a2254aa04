"""Certificates and keys at rest: in the Secrets of the database's namespaces, and in its pods."""

import pytest

from analysis.certificates import (
    judge_authority_key,
    judge_key_modes,
    judge_one_authority,
    judge_own_certificates,
    judge_planned_names,
    judge_root_key,
    judge_secrets,
    judge_subjects,
    judge_validity,
)

pytestmark = pytest.mark.needs("database")


@pytest.mark.requirement("SEC-TLS-003")
def test_all_regions_trust_one_authority(plan, facts, require):
    """All regions trust the same certificate authority."""
    require(judge_one_authority(plan, facts.tls))


@pytest.mark.requirement("SEC-TLS-004")
def test_node_certificates_carry_the_planned_names(plan, facts, require):
    """A region's node certificates carry all the names planned for that region."""
    require(judge_planned_names(plan, facts.tls))


@pytest.mark.requirement("SEC-TLS-006")
def test_regions_have_node_certificates_of_their_own(plan, facts, require):
    """Every region has node certificates of its own that do not pass for another region's names."""
    require(judge_own_certificates(plan, facts.tls))


@pytest.mark.requirement("SEC-TLS-007")
def test_certificates_carry_subject_and_usages(plan, facts, require):
    """Node and client certificates carry the subject and the usages that the database asks for."""
    require(judge_subjects(plan, facts.tls))


@pytest.mark.requirement("SEC-TLS-008")
def test_the_authority_s_key_is_nowhere(plan, facts, require):
    """The authority's private key is in no secret and in no pod."""
    require(judge_authority_key(plan, facts.tls))


@pytest.mark.requirement("SEC-TLS-009")
def test_secrets_of_node_and_client_are_there(plan, facts, require):
    """Each region's namespace has the secrets of the database's node and root client."""
    require(judge_secrets(plan, facts.tls))


@pytest.mark.requirement("SEC-TLS-010")
def test_mounted_keys_are_for_their_owner_alone(plan, facts, require):
    """Mounted keys can be read by their owner alone."""
    require(judge_key_modes(plan, facts.tls))


@pytest.mark.requirement("SEC-TLS-011")
def test_database_pods_do_not_carry_root_s_key(plan, facts, require):
    """Database pods do not carry the root client's key."""
    require(judge_root_key(plan, facts.tls))


@pytest.mark.requirement("SEC-TLS-012")
def test_certificates_are_valid_and_stay_so(plan, facts, require):
    """Every certificate is valid today and for the planned time ahead."""
    require(judge_validity(plan, facts.tls))
