"""Stand-ins for calico-node's parts: confd (BIRD's configuration), Felix (the data plane), the CNI plugin with its IPAM."""
