"""Policy as a Cilium agent enforces it: from the objects of its cluster to rules for the pods of its node.

`reading` and `kubernetes` take the objects apart, `known` says whom the agent knows by which address, `translation`
puts the two together, and `enforcer` keeps a node's packet filter in step.
"""
