"""Checks: one requirement each."""
