"""Kubernetes' own API server in the place of the lab's: etcd and kube-apiserver, from a folder that the user gives.

`assets` finds the programs, `servers` knows their command lines, `load` fills a new cluster through its API,
`lifecycle` does what Kubernetes leaves to its controller manager and the lab's server does by itself, `relay` carries
connections.
"""
