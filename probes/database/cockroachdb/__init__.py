"""CockroachDB: what is asked of it, release by release, and the facts in its answers."""

from probes.database.cockroachdb.adapter import CockroachDB, connect

__all__ = ["CockroachDB", "connect"]
