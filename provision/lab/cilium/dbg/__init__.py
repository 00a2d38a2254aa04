"""`cilium-dbg`: how an agent's state is printed, as JSON and as text, by each version from 1.14 to 1.19."""
