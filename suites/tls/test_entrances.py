"""TLS at the database's entrances: what they present, and whom they let in."""

import pytest

from analysis.entrances import (
    judge_console,
    judge_credentials,
    judge_demonstration_users,
    judge_foreign_node,
    judge_names_served,
    judge_plaintext,
)

pytestmark = pytest.mark.needs("database")


@pytest.mark.requirement("SEC-TLS-001")
def test_plaintext_is_turned_away(plan, facts, require):
    """The SQL port turns plaintext away and insists on TLS."""
    require(judge_plaintext(plan, facts.tls))


@pytest.mark.requirement("SEC-TLS-002")
def test_the_console_speaks_https(plan, facts, require):
    """The console port speaks HTTPS with a certificate of the cluster's authority."""
    require(judge_console(plan, facts.tls))


@pytest.mark.requirement("SEC-TLS-005")
def test_advertised_names_are_in_the_certificates_served(plan, facts, require):
    """The name that each database pod advertises is in the certificate that it serves."""
    require(judge_names_served(plan, facts.tls))


@pytest.mark.requirement("SEC-TLS-013")
def test_nobody_logs_in_without_credentials(plan, facts, require):
    """Nobody logs in to SQL without a client certificate or a password."""
    require(judge_credentials(plan, facts.tls))


@pytest.mark.requirement("SEC-TLS-014")
def test_published_passwords_open_nothing(plan, facts, require):
    """No demonstration user with a published password exists."""
    require(judge_demonstration_users(plan, facts.tls))


@pytest.mark.requirement("SEC-TLS-015")
def test_foreign_nodes_are_turned_away(plan, facts, require):
    """A node with a certificate of another authority is not let in."""
    require(judge_foreign_node(plan, facts.tls))
