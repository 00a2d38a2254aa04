"""How an operation ended, error by error."""

import pytest

from analysis.history.operation import Result
from analysis.history.outcome import Phase, Problem, result_of

OK, FAILED, UNKNOWN = Result.OK, Result.FAILED, Result.UNKNOWN

# SQLSTATE, message, when an autocommitted write or a COMMIT ends so, when an earlier statement does
ENDINGS = [
    ("40001", "restart transaction: TransactionRetryWithProtoRefreshError", FAILED, FAILED),
    ("40003", "result is ambiguous: error=rpc error", UNKNOWN, UNKNOWN),
    ("40001", "restart transaction: result is ambiguous", UNKNOWN, UNKNOWN),
    ("57014", "query execution canceled", UNKNOWN, FAILED),
    ("57P01", "terminating connection due to administrator command", UNKNOWN, FAILED),
    ("57P01", "terminating connection due to unexpected postmaster exit", UNKNOWN, FAILED),
    ("57P02", "terminating connection because of crash of another server process", UNKNOWN, FAILED),
    ("58C00", "key range id:71 is unavailable", UNKNOWN, FAILED),
    ("58C01", "internal connection failure", UNKNOWN, FAILED),
    ("XXUUU", "replica unavailable: (n1,s1):1 unable to serve request to r71", UNKNOWN, FAILED),
    ("XXUUU", "result is ambiguous: error=replica unavailable", UNKNOWN, UNKNOWN),
    ("XXUUU", "context deadline exceeded", UNKNOWN, FAILED),
    ("XXUUU", "rpc error: code = Unavailable", UNKNOWN, FAILED),
    ("XXA00", "transaction committed but schema change aborted", OK, FAILED),
    ("XX000", "internal error", UNKNOWN, FAILED),
    ("25006", "cannot execute INSERT in a read-only transaction", FAILED, FAILED),
    ("25P02", "current transaction is aborted", FAILED, FAILED),
    ("53200", "memory budget exceeded", UNKNOWN, FAILED),
    ("08006", "connection failure", UNKNOWN, FAILED),
    ("08003", "connection does not exist", UNKNOWN, FAILED),
    ("08007", "transaction resolution unknown", UNKNOWN, FAILED),
    ("28000", "no pg_hba.conf entry", FAILED, FAILED),
    ("28P01", "password authentication failed", FAILED, FAILED),
    ("42501", "permission denied", FAILED, FAILED),
    ("23505", "duplicate key value violates unique constraint", UNKNOWN, FAILED),
    ("99999", "something that nobody has heard of", UNKNOWN, FAILED),
    ("", "server closed the connection unexpectedly", UNKNOWN, FAILED),
    ("", "SSL error: unexpected eof while reading", UNKNOWN, FAILED),
    ("", "no answer within 3 s", UNKNOWN, FAILED),
]


@pytest.mark.parametrize(("code", "message", "at_commit", "before"), ENDINGS)
def test_a_write_that_an_error_ended(code, message, at_commit, before):
    problem = Problem(code, message)
    assert result_of(Phase.COMMIT, problem) is at_commit
    assert result_of(Phase.BEFORE_COMMIT, problem) is before


@pytest.mark.parametrize(("code", "message", "_at_commit", "_before"), ENDINGS)
@pytest.mark.parametrize("phase", list(Phase))
def test_a_read_that_an_error_ended_has_had_no_effect(phase, code, message, _at_commit, _before):
    assert result_of(phase, Problem(code, message), read=True) is FAILED


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", "connection refused"),
        ("", "connection timeout expired"),
        ("", "session is read-only"),
        ("57P03", "the database system is starting up"),
        ("57P01", "server is shutting down"),
        ("53300", "sorry, too many clients already"),
        ("08004", "server rejected the connection"),
        ("08P01", "node is running secure mode, SSL connection required"),
    ],
)
def test_what_ended_while_connecting_was_never_asked(code, message):
    assert result_of(Phase.CONNECTING, Problem(code, message)) is FAILED


def test_what_nothing_stopped_is_acknowledged():
    assert result_of(Phase.COMMIT) is OK
    assert result_of(Phase.COMMIT, notices=("there is no transaction in progress",)) is OK


@pytest.mark.parametrize(
    "notice",
    [
        "canceling wait for synchronous replication due to user request",
        "canceling the wait for synchronous replication and terminating connection due to administrator command",
        "The transaction has already committed locally, but might not have been replicated to the standby.",
    ],
)
def test_an_acknowledgement_without_replication_is_none(notice):
    assert result_of(Phase.COMMIT, notices=(notice,)) is UNKNOWN
    assert result_of(Phase.COMMIT, Problem("57P01", "terminating connection"), notices=(notice,)) is UNKNOWN
    assert result_of(Phase.COMMIT, notices=(notice,), read=True) is OK


@pytest.mark.parametrize("phase", [Phase.BEFORE_COMMIT, Phase.COMMIT])
def test_a_retry_that_finds_its_key_was_applied_by_the_first_attempt(phase):
    assert result_of(phase, Problem("23505", "duplicate key"), retry=True) is OK
