"""A cluster's DNS, as everybody asks it."""

DNS_PORT = 53
IDENTIFYING_NAME = "kubernetes.default.svc.cluster.local"
"""Every cluster answers it with an address of its own service range; asked for where no endpoint is known."""
