"""Cluster DNS: what plays CoreDNS in the lab's coredns pods, and what it is told.

A recursor of the distribution answers: from a zone file made of Services and EndpointSlices, and from the servers that
the Corefile names. Its files lie in the nodes' host trees, which the pods mount.
"""
