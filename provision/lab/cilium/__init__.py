"""The parts of a lab that play Cilium Cluster Mesh."""
