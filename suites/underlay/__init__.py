"""Underlay: what the mesh lies on."""
