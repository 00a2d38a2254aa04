"""Faults of what the running database answers: its time, and its rows; each function makes one, for any lab."""

from __future__ import annotations

from provision.faults import Fault
from provision.lab.database.condition import primary_region, rows_of, run_sql
from provision.lab.faults.database import SURVIVAL, database_fault
from provision.lab.faults.database_steps import RELOAD, Statements


def answer_faults() -> tuple[Fault, ...]:
    """All of them."""
    return (clock_ahead(), writes_refused(), rows_queued())


def clock_ahead() -> Fault:
    """The primary tells a time that is a second ahead; the clock of a lab is that of its machine, and cannot be set."""
    user, schema = "root", "planted"
    ahead = "CASE WHEN pg_is_in_recovery() THEN interval '0' ELSE interval '1 second' END"
    return database_fault(
        "database-clock-ahead",
        "the primary's clock is ahead by a second",
        "DB-FORM-022",
        Statements(
            "",
            (
                f"CREATE SCHEMA {schema}",
                f"CREATE FUNCTION {schema}.clock_timestamp() RETURNS timestamptz LANGUAGE sql "
                f"AS 'SELECT pg_catalog.clock_timestamp() + {ahead.replace(chr(39), chr(39) * 2)}'",
                f"ALTER ROLE {user} IN DATABASE postgres SET search_path = {schema}, pg_catalog, public",
            ),
            (f"ALTER ROLE {user} IN DATABASE postgres RESET search_path", f"DROP SCHEMA {schema} CASCADE"),
        ),
        confirm=lambda control: (
            rows_of(
                run_sql(control, primary_region(control), "SELECT clock_timestamp() > pg_catalog.clock_timestamp()")
            )
            == [[True]]
        ),
    )


def writes_refused() -> Fault:
    """The primary takes no writes."""
    setting = "default_transaction_read_only"
    return database_fault(
        "database-writes-refused",
        "the database reads, and takes no writes",
        "DB-FORM-012",
        Statements("", (f"ALTER SYSTEM SET {setting} = on", RELOAD), (f"ALTER SYSTEM RESET {setting}", RELOAD)),
        confirm=lambda _control: True,
        follows=frozenset({"DB-FORM-011"}) | SURVIVAL,
    )


def rows_queued() -> Fault:
    """Rows are acknowledged and wait in a queue that nothing empties, so that no region reads them.

    All clients of the stand-in are served by its primary, so that a standby which lags is asked for no row. A trigger
    keeps them from everybody instead; it comes with every new database, out of the one that those are copies of.
    """
    table, template = "crossings", "template1"  # the table that verifiers write to in one region and read in another
    return database_fault(
        "database-rows-queued",
        "rows are acknowledged before they are in their table, and wait in a queue",
        "DB-FORM-011",
        Statements(
            "",
            (
                "CREATE FUNCTION planted_queue() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
                "CREATE FUNCTION planted_entrance() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF to_regclass('{table}') IS NOT NULL THEN "
                f"CREATE OR REPLACE TRIGGER planted BEFORE INSERT ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION planted_queue(); END IF; END $$",
                "CREATE EVENT TRIGGER planted ON ddl_command_end WHEN TAG IN ('CREATE TABLE') "
                "EXECUTE FUNCTION planted_entrance()",
            ),
            ("DROP EVENT TRIGGER planted", "DROP FUNCTION planted_entrance, planted_queue"),
            replicated=True,
            database=template,
        ),
        confirm=lambda control: (
            rows_of(
                run_sql(
                    control,
                    primary_region(control),
                    "SELECT count(*) FROM pg_event_trigger WHERE evtname = 'planted'",
                    database=template,
                )
            )
            == [[1]]
        ),
    )
