"""Stand-ins for the parts of calico-node: confd (BIRD configuration), Felix (data plane), the CNI plugin and IPAM."""
