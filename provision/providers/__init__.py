"""One module per kind of environment. `provision.provider` finds them by name."""
