"""What an outage did to the database's clients, and whether that was allowed."""
