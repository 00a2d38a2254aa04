"""Checks of what the database survives."""
