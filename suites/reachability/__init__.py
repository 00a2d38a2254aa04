"""Checks of pod-to-pod reachability."""
