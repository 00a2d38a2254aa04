"""The small Kubernetes of the lab: an API server, node agents and controllers that meet only in the API."""
