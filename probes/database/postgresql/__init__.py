"""PostgreSQL with Patroni: the lab's stand-in for CockroachDB. It is never evidence about CockroachDB."""

from probes.database.postgresql.adapter import connect

__all__ = ["connect"]
