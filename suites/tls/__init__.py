"""DNS: the names that the database is found by."""
