"""Checks of the addressing plan."""
