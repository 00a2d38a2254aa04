"""Policy in the lab: what a CNI's policy engine makes of the objects, and nftables that enforce it on the nodes.

Each CNI's package translates its own objects into `rules`; `table` writes them as nftables. Nothing here is shared with
`analysis.policy`, so that one cannot hide the other's mistakes.
"""
