"""Histories: what clients asked of the database and what came of it, and what such a history proves."""
