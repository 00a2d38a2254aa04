"""Sessions against a real server: what each act comes to, and what is known when something goes wrong."""

import socket
import threading
import time
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest

from analysis.history.operation import Act, Result
from probes.database.port import SessionError
from probes.database.session import SqlSession, login, open_connection
from probes.database.workload import TABLES, openings

HOST = "cockroachdb-0.cockroachdb.us-east-1.svc.cluster.local"
WITHIN = timedelta(seconds=20)


def connect(server, access, host=HOST, door=None, patience=20.0, **parameters):
    parameters = {**login(access), "dbname": "postgres", **parameters}
    return SqlSession(open_connection(parameters, host, door or server.door, time.monotonic() + patience), "node-1")


@pytest.fixture
def session(server, access):
    with closing(connect(server, access)) as session:
        session.query("DROP TABLE IF EXISTS ledger, bank, register, counter", within=WITHIN)
        for table in TABLES:
            session.query(table, within=WITHIN)
        for opening in openings(["bank", "ledger", "register-1"]):
            session.query(opening.text, opening.values, within=WITHIN)
        yield session


def run(session, act, key, *value, within=WITHIN):
    return session.run(act, key, value, within=within)


def test_a_ledger_holds_what_was_appended_and_twice_what_was_appended_twice(session):
    for entry in (2, 1, 2):
        assert run(session, Act.APPEND, "ledger", entry).result is Result.OK
    assert run(session, Act.READ_LEDGER, "ledger").answer == (1, 2, 2)
    assert run(session, Act.READ_LEDGER, "another").answer == ()


def test_a_transfer_moves_money_or_nothing(session):
    assert run(session, Act.TRANSFER, "bank", 0, 1, 60).result is Result.OK
    refused = run(session, Act.TRANSFER, "bank", 0, 1, 60)
    assert (refused.result, refused.message, refused.broken) == (Result.FAILED, "insufficient", False)
    assert run(session, Act.READ_BANK, "bank").answer == (40, 160, 100, 100, 100, 100, 100, 100)


def test_a_register_is_absent_then_written_then_compared_and_set(session):
    assert run(session, Act.READ, "register-1").answer == ()
    assert run(session, Act.COMPARE_AND_SET, "register-1", 5, 6).message == "mismatch"
    assert run(session, Act.WRITE, "register-1", 5).result is Result.OK
    assert run(session, Act.COMPARE_AND_SET, "register-1", 5, 6).result is Result.OK
    assert run(session, Act.COMPARE_AND_SET, "register-1", 5, 7).result is Result.FAILED
    assert run(session, Act.READ, "register-1").answer == (6,)


def test_a_counter_tells_what_it_has_come_to(session):
    assert [run(session, Act.INCREMENT, "counter-1").answer for _ in range(3)] == [(1,), (2,), (3,)]
    assert run(session, Act.READ_COUNTER, "counter-1").answer == (3,)


def test_concurrent_transfers_conflict_without_an_effect_of_the_one_that_failed(server, access, session):
    with closing(connect(server, access)) as other:
        other.query("BEGIN ISOLATION LEVEL SERIALIZABLE", within=WITHIN)
        other.query("UPDATE bank SET balance = 0 WHERE account = 0", within=WITHIN)
        waiting = threading.Timer(0.5, other.query, ("COMMIT",), {"within": WITHIN})
        waiting.start()
        answer = run(session, Act.TRANSFER, "bank", 0, 1, 10)
        waiting.join()
    assert (answer.result, answer.code, answer.broken) == (Result.FAILED, "40001", False)
    assert run(session, Act.READ_BANK, "bank").answer[:2] == (0, 100)


@pytest.mark.parametrize(
    ("act", "value", "result"),
    [(Act.APPEND, (1,), Result.UNKNOWN), (Act.READ_LEDGER, (), Result.FAILED)],
)
def test_a_deadline_closes_the_connection_and_leaves_a_write_in_doubt(server, access, session, act, value, result):
    with closing(connect(server, access)) as other:
        other.query("BEGIN", within=WITHIN)
        other.query("LOCK TABLE ledger", within=WITHIN)
        answer = run(session, act, "ledger", *value, within=timedelta(seconds=0.5))
        assert (answer.result, answer.code, answer.broken) == (result, "", True)
        again = run(session, act, "ledger", *value)
        assert (again.result, again.broken) == (Result.FAILED, True), "nothing was asked any more"


def test_a_deadline_never_cancels_on_the_server(server, access, session):
    with closing(connect(server, access)) as other:
        other.query("BEGIN", within=WITHIN)
        other.query("LOCK TABLE ledger", within=WITHIN)
        assert run(session, Act.APPEND, "ledger", 9, within=timedelta(seconds=0.5)).result is Result.UNKNOWN
        other.query("COMMIT", within=WITHIN)
        count = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while other.query(count, within=WITHIN) != [(0,)]:
            pass
        with closing(connect(server, access)) as reader:
            assert run(reader, Act.READ_LEDGER, "ledger").answer == (9,), "it went on, and took effect later"


def test_a_server_that_ends_the_session_leaves_a_write_in_doubt(server, access, session):
    [(backend,)] = session.query("SELECT pg_backend_pid()", within=WITHIN)
    with closing(connect(server, access)) as other:
        other.query("SELECT pg_terminate_backend(%s, 10000)", (backend,), within=WITHIN)
    answer = run(session, Act.APPEND, "ledger", 1)
    assert (answer.result, answer.code, answer.broken) == (Result.UNKNOWN, "57P01", True)


def test_a_read_only_session_has_certainly_written_nothing(server, access, session):
    with closing(connect(server, access, options="-c default_transaction_read_only=on")) as standby:
        answer = run(standby, Act.APPEND, "ledger", 1)
    assert (answer.result, answer.code, answer.broken) == (Result.FAILED, "25006", False)


def test_who_writes_is_not_satisfied_with_a_read_only_session(server, access):
    with pytest.raises(SessionError, match="read-only"):
        connect(server, access, target_session_attrs="read-write", options="-c default_transaction_read_only=on")


def test_a_server_with_another_name_is_not_believed(server, access):
    with pytest.raises(SessionError, match="does not match host name"):
        connect(server, access, host="cockroachdb-0.cockroachdb.us-east-2.svc.cluster.local")


def test_who_has_no_certificate_is_not_let_in(server, access):
    with pytest.raises(SessionError, match="certificate"):
        connect(server, replace(access, certificate=None, key=None))


def test_a_place_that_says_nothing_is_given_up_in_time(server, access):
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(SessionError, match="no connection within"),
    ):
        connect(server, access, door=silent.getsockname(), patience=0.5)
