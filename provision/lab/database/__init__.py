"""The database in a lab: what a cluster holds of it, and what runs it."""

from provision.lab.database.manifests import objects as objects
