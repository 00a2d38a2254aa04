"""The lab's small Kubernetes: API server, kubelet and controllers, which know each other only through the API."""
