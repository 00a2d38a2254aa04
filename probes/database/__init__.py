"""The database as a client meets it: one port, and an adapter for each engine."""
