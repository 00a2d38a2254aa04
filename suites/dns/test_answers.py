"""DNS: what names lead to, asked in every cluster."""

import pytest

from analysis.names import (
    judge_absent,
    judge_before_ready,
    judge_closed,
    judge_full_names,
    judge_lists,
    judge_members,
    judge_private,
    judge_short_names,
    judge_tcp,
    judge_usual_names,
)


@pytest.mark.needs("database-pods")
@pytest.mark.requirement("NET-DNS-006")
def test_names_of_database_pods_lead_to_them(plan, facts, require):
    """The name of every database pod resolves in every cluster to its present address."""
    require(judge_members(plan, facts.dns))


@pytest.mark.needs("database-pods")
@pytest.mark.requirement("NET-DNS-007")
def test_short_names_resolve_inside_database_pods(plan, facts, require):
    """The short names of the join list resolve inside database pods."""
    require(judge_short_names(plan, facts.dns))


@pytest.mark.needs("database-pods")
@pytest.mark.requirement("NET-DNS-008")
def test_headless_services_list_all_members(plan, facts, require):
    """The headless service of a remote region lists all its database pods."""
    require(judge_lists(plan, facts.dns))


@pytest.mark.needs("database-pods")
@pytest.mark.requirement("NET-DNS-009")
def test_names_are_there_before_pods_are_ready(plan, facts, require):
    """The names of database pods resolve before the pods are Ready."""
    require(judge_before_ready(plan, facts.dns))


@pytest.mark.requirement("NET-DNS-010")
def test_absent_names_are_denied_at_once(plan, facts, require):
    """A remote name that does not exist is answered with NXDOMAIN at once."""
    require(judge_absent(plan, facts.dns))


@pytest.mark.requirement("NET-DNS-012")
def test_local_and_external_names_resolve(plan, facts, require):
    """Local and external names go on resolving."""
    require(judge_usual_names(plan, facts.dns))


@pytest.mark.requirement("NET-DNS-013")
def test_remote_zones_answer_over_tcp(plan, facts, require):
    """Remote zones can be queried over TCP."""
    require(judge_tcp(plan, facts.dns))


@pytest.mark.needs("outside")
@pytest.mark.requirement("NET-DNS-017")
def test_the_internet_gets_no_answer(facts, require):
    """Cluster DNS does not answer the internet."""
    require(judge_closed(facts.dns, facts.underlay))


@pytest.mark.requirement("NET-DNS-018")
def test_private_names_of_other_clusters_stay_private(plan, facts, require):
    """Only the shared namespaces of a remote cluster resolve."""
    require(judge_private(plan, facts.dns))


@pytest.mark.needs("database-pods")
@pytest.mark.requirement("NET-DNS-019")
def test_database_pods_know_their_full_names(plan, facts, require):
    """Every database pod knows itself by its full planned name."""
    require(judge_full_names(plan, facts.dns))
