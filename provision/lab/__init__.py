"""The embedded lab: regions, nodes, pods, BGP and a small Kubernetes on one machine, in network namespaces."""
