"""Network policy: what a set of policy objects lets through, by which rule, and which rules can never match.

Pure semantics of Calico, Kubernetes and Cilium, side by side. The code that enforces policy in the lab shares nothing
with this one, so that neither hides the other's mistakes.
"""
