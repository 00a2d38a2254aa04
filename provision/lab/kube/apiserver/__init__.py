"""The lab's API server: a stand-in for kube-apiserver with an in-memory store.

It holds objects, versions them, tells watchers about changes, and decides who may do what. It runs nothing: exec, logs
and port forwarding are passed on to the kubelet of the pod's node, as a real API server does.
"""
