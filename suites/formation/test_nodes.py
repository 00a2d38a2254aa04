"""Formation: whether all nodes have found each other, and know where they are."""

import pytest

from analysis.formation import (
    judge_advertised_names,
    judge_before_init,
    judge_clock_offsets,
    judge_initialised_once,
    judge_links,
    judge_live_nodes,
    judge_localities,
    judge_one_cluster,
)
from analysis.joining import judge_join_lists
from analysis.versions import judge_versions


@pytest.mark.requirement("DB-FORM-001")
def test_all_nodes_are_live(plan, facts, require):
    """All nine database nodes are live, three in each region."""
    require(judge_live_nodes(plan, facts.database))


@pytest.mark.requirement("DB-FORM-002")
def test_all_nodes_belong_to_one_database(plan, facts, require):
    """All database nodes belong to one database cluster."""
    require(judge_one_cluster(plan, facts.database))


@pytest.mark.requirement("DB-FORM-003")
def test_nodes_state_their_region(plan, facts, require):
    """Every database node states the region it runs in, and the database knows exactly the planned regions."""
    require(judge_localities(plan, facts.database))


@pytest.mark.requirement("DB-FORM-005")
def test_a_second_init_is_turned_down(facts, require):
    """The database was initialised once, and a second attempt is turned down."""
    require(judge_initialised_once(facts.database))


@pytest.mark.requirement("DB-FORM-006")
def test_pods_wait_for_initialisation(facts, require):
    """Before initialisation, database pods run without being Ready and say so on their health address."""
    require(judge_before_init(facts.database))


@pytest.mark.requirement("DB-FORM-007")
def test_join_lists_name_all_nodes(plan, facts, require):
    """The join list names all nine database nodes, correctly, in every region."""
    require(judge_join_lists(plan, facts.workloads, facts.database))


@pytest.mark.requirement("DB-FORM-008")
def test_nodes_advertise_their_full_names(plan, facts, require):
    """Every database node advertises its full name."""
    require(judge_advertised_names(plan, facts.database))


@pytest.mark.requirement("DB-FORM-009")
def test_all_nodes_run_one_version(plan, facts, require):
    """All database nodes run the same, existing version."""
    require(judge_versions(plan, facts.database, facts.workloads))


@pytest.mark.requirement("DB-FORM-010")
def test_every_node_is_connected_to_every_other(plan, facts, require):
    """Every database node has a healthy connection to every other, both ways."""
    require(judge_links(plan, facts.database))


@pytest.mark.requirement("DB-FORM-022")
def test_clock_offsets_are_far_from_the_limit(plan, facts, require):
    """The database measures clock offsets well below the limit at which nodes stop themselves."""
    require(judge_clock_offsets(plan, facts.database))
