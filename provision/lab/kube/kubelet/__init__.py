"""The node agent: an API client that runs the pods of its nodes as processes in namespaces."""
