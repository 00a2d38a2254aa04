"""Instruments: the agent that runs in pods, its client, and the observers that turn answers into facts."""
