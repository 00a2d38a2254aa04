"""The sections of the environment file: each model is one mapping of it."""
