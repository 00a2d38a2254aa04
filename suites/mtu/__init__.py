"""Checks of MTU and encapsulation."""
