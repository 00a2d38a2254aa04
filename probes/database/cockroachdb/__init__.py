"""CockroachDB: what is asked of it, release by release, and the facts in its answers (database.md, sections 1 to 3)."""

from probes.database.cockroachdb.adapter import CockroachDB, connect

__all__ = ["CockroachDB", "connect"]
