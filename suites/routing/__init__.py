"""Checks of route exchange."""
