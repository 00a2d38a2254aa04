"""The database: whether its nodes have formed one database, with a quorum that can lose any region."""
