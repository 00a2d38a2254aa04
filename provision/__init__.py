"""Bringing environments up, attaching to them, breaking them on purpose, and taking them down."""
