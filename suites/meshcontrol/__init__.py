"""Checks of the mesh control plane."""
