"""Felix' policy: Calico's and Kubernetes' policy objects, what they come to on each node, and who applies that."""
